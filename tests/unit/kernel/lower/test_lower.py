"""`sim.kernel.lower`: every operator has its lowering."""

import pytest

from sim.errors import InvariantError
from sim.kernel.engine import AttentionVariant, Engine, LaunchMode
from sim.kernel.lower import lower
from sim.kernel.operators import ChunkedScan, Operator, StateUpdate, Tensor, Traffic
from tests.unit.kernel.samples import (
    HOPPER,
    activation,
    attention,
    elementwise,
    exchange,
    gemm,
    grouped_gemm,
    mla,
)

STATE = Tensor(name="state", size_bytes=4096, traffic=Traffic.STATE)
X = (activation("x", 64),)
Y = (activation("y", 64),)


def engine(variant: AttentionVariant = AttentionVariant.FLASH_DECODING) -> Engine:
    return Engine(
        name="test",
        launch=LaunchMode.STREAM,
        attention=variant,
        fusions=(),
        merge_projections=True,
        host_time_ps=0,
        kv_block_tokens=16,
    )


def first_names(op: Operator, engine_: Engine) -> list[str]:
    """Return the kernel names of the first alternative, without their parameters."""
    return [kernel.name.split("_")[0] for kernel in next(lower(op, HOPPER, engine_))]


@pytest.mark.parametrize(
    ("op", "names"),
    [
        (gemm(1, 512, 512), ["gemm"]),
        (grouped_gemm((1, 2), 64, 64), ["grouped"]),
        (attention(), ["flash", "combine"]),
        (mla(), ["mla", "combine"]),
        (elementwise("norm", {"x": 8}, {"y": 8}), ["norm"]),
        (
            StateUpdate(
                name="u", part="ssm", batch=1, n_heads=1, state=STATE, inputs=X, outputs=Y,
                vector_flop=1,
            ),
            ["state"],
        ),
        (
            ChunkedScan(
                name="s", part="ssm", batch=1, n_heads=1, q_len=2, chunk=2, state=STATE, inputs=X,
                outputs=Y, tensor_flop=1, vector_flop=1,
            ),
            ["chunked"],
        ),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, Operator) else "",
)  # fmt: skip
def test_every_operator_becomes_kernels_that_carry_its_name_and_part(
    op: Operator, names: list[str]
) -> None:
    """Reports find the operator behind a kernel."""
    assert first_names(op, engine()) == names
    for kernels in lower(op, HOPPER, engine()):
        assert {(kernel.operator, kernel.part) for kernel in kernels} == {(op.name, op.part)}


def test_the_engine_chooses_the_attention() -> None:
    """A profile's variant decides between splits, none, and scores in memory."""
    assert first_names(attention(), engine(AttentionVariant.FLASH)) == ["flash"]
    assert first_names(attention(), engine(AttentionVariant.NAIVE)) == ["attention"] * 3


def test_an_operator_without_work_yields_nothing() -> None:
    """A grouped GEMM without tokens is no kernel."""
    assert list(lower(grouped_gemm((0,), 64, 64), HOPPER, engine())) == []


def test_an_operator_that_nobody_lowers_is_a_bug() -> None:
    """The message shows the operator."""
    op = Operator(name="mystery", part="mlp")
    with pytest.raises(InvariantError, match=r"^no lowering for operator Operator\(name='mystery'"):
        next(lower(op, HOPPER, engine()))


def test_an_exchange_is_no_kernel() -> None:
    """A library runs it."""
    assert list(lower(exchange(), HOPPER, engine())) == []
