"""`sim.kernel.operators`: what each operator reads and writes."""

from dataclasses import replace

import pytest

from sim.kernel.collective import Op
from sim.kernel.operators import ChunkedScan, Operator, StateUpdate, Tensor, Traffic
from tests.unit.kernel.samples import (
    activation,
    attention,
    elementwise,
    exchange,
    gemm,
    grouped_gemm,
    mla,
)

STATE = Tensor(name="state", size_bytes=4096, traffic=Traffic.STATE)
UPDATE = StateUpdate(
    name="update",
    part="ssm",
    batch=2,
    n_heads=4,
    state=STATE,
    inputs=(activation("x", 8), activation("dt", 4)),
    outputs=(activation("y", 8),),
    vector_flop=1,
)
SCAN = ChunkedScan(
    name="scan",
    part="ssm",
    batch=2,
    n_heads=4,
    q_len=64,
    chunk=16,
    state=STATE,
    inputs=(activation("x", 8),),
    outputs=(activation("y", 8),),
    tensor_flop=1,
    vector_flop=1,
)


def names(tensors: object) -> list[str]:
    return [tensor.name for tensor in tensors]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("operator", "reads", "writes"),
    [
        (gemm(1, 2, 3), ["a", "weight"], ["out"]),
        (grouped_gemm((1, 0), 2, 3), ["a", "experts"], ["out"]),
        (attention(), ["q", "kv"], ["attention_out"]),
        (mla(), ["q", "kv"], ["attention_out"]),
        (elementwise("norm", {"x": 2, "w": 2}, {"y": 2}), ["x", "w"], ["y"]),
        (UPDATE, ["x", "dt", "state"], ["y", "state"]),
        (SCAN, ["x", "state"], ["y", "state"]),
        (exchange(), ["x"], ["x"]),
        (exchange(Op.ALL_GATHER), ["x"], ["y"]),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, Operator) else "",
)
def test_an_operator_names_what_it_reads_and_writes(
    operator: Operator, reads: list[str], writes: list[str]
) -> None:
    """Recurrent state is both read and written, in place."""
    assert names(operator.reads()) == reads
    assert names(operator.writes()) == writes


def test_sinks_are_read_where_an_attention_has_them() -> None:
    """One learnt logit per query head (gpt-oss)."""
    sinks = Tensor(name="sinks", size_bytes=64, traffic=Traffic.WEIGHTS)
    assert names(replace(attention(), sinks=sinks).reads()) == ["q", "kv", "sinks"]


def test_some_of_a_token_s_experts_may_be_elsewhere() -> None:
    """Five of the sixteen choices of two tokens: as many as one token at least made."""
    assert replace(grouped_gemm((2, 0, 3), 64, 64), top_k=8).tokens == 1
    assert replace(grouped_gemm((8, 8), 64, 64), top_k=8).tokens == 2
