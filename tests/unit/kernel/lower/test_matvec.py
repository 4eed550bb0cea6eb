"""`sim.kernel.lower.matvec`: what few tokens read, and how often."""

from dataclasses import replace

import pytest

from sim.kernel.engine import VectorKernels
from sim.kernel.formats import BF16, WEIGHT_FORMATS
from sim.kernel.kernel import Kernel
from sim.kernel.lower import lower
from sim.kernel.lower.layouts import active_experts
from sim.kernel.lower.matvec import lower_matvec, takes_vector
from sim.kernel.operators import Gemm, GroupedGemm
from tests.unit.kernel.samples import AMPERE, engine, gemm, grouped_gemm

KERNELS = VectorKernels(
    most_tokens=8,
    most_plain_tokens=3,
    most_grouped_tokens=4,
    tokens_a_pass=4,
    unpack_flop=1,
    product_flop=6,
    quantises=True,
    regroups=True,
    warp_a_row=False,
)
Q8_0 = WEIGHT_FORMATS["q8_0"]


def quantised(m: int) -> Gemm:
    """Return a Q8_0 matrix of 1024 rows of 2048 weights times `m` tokens."""
    return gemm(m, 1024, 2048, Q8_0)


def weight_bytes(kernel: Kernel) -> int:
    """Return the weight bytes that come from beyond L2 if every sharer hits."""
    return sum(
        kind.count * phase.loads[0].size_bytes // phase.loads[0].sharers
        for kind, phase in kernel.phases()
    )


@pytest.mark.parametrize(("m", "passes"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_a_pass_over_the_weights_serves_a_few_tokens(m: int, passes: int) -> None:
    """Four tokens a pass; more take the weights a second time."""
    op = quantised(m)
    quantise, main = lower_matvec(op, AMPERE, KERNELS)
    asked = weight_bytes(main)
    assert quantise.name == "quantise_activations"
    assert passes * op.weight.size_bytes <= asked < 1.01 * passes * op.weight.size_bytes
    assert main.flop == 2 * m * 1024 * 2048
    assert not main.segments[0].tiled


def test_unpacking_and_products_are_vector_work() -> None:
    """A Q8_0 weight takes three FLOP to unpack and six for each of two tokens."""
    _, main = lower_matvec(quantised(2), AMPERE, KERNELS)
    flop = sum(kind.count * phase.vector_flop for kind, phase in main.phases())
    assert 15 * 1024 * 2048 <= flop < 15.1 * 1024 * 2048
    assert main.issued_tensor_flop == 0


def test_plain_weights_are_multiplied_without_quantising_anything() -> None:
    """One kernel."""
    (main,) = lower_matvec(gemm(2, 1024, 2048, BF16), AMPERE, KERNELS)
    assert main.name.startswith("matvec")


@pytest.mark.parametrize(
    ("op", "taken"),
    [
        (quantised(8), True),
        (quantised(9), False),
        (gemm(3, 64, 64, BF16), True),
        (gemm(4, 64, 64, BF16), False),
        (replace(grouped_gemm((4, 4), 64, 64), top_k=2), True),
        (grouped_gemm((4, 1), 64, 64), False),
        (grouped_gemm((0, 0), 64, 64), False),
    ],
)
def test_more_tokens_take_a_tiled_kernel(op: Gemm | GroupedGemm, *, taken: bool) -> None:
    """Quantised, plain and grouped weights have limits of their own; no tokens take no kernel."""
    assert takes_vector(op, KERNELS) is taken
    names = {k.name for s in lower(op, AMPERE, replace(engine(), vector=KERNELS)) for k in s}
    assert any(name.startswith("matvec") for name in names) is taken


@pytest.mark.parametrize(("regroups", "read"), [(True, 2), (False, 4)])
def test_tokens_of_one_expert_read_it_together_or_each(*, regroups: bool, read: int) -> None:
    """Three pairs of one expert and one of another: two experts or four."""
    op = grouped_gemm((3, 0, 1), 1024, 2048)
    one = op.experts.size_bytes // 3
    main = lower_matvec(op, AMPERE, replace(KERNELS, regroups=regroups))[-1]
    assert main.segments[0].size_bytes == read * one
    assert read * one <= weight_bytes(main) < 1.01 * read * one
    assert main.flop == 2 * 4 * 1024 * 2048


def test_a_warp_that_owns_a_row_waits_for_every_row() -> None:
    """One token has whole blocks of threads; two of the same expert walk their rows one by one."""
    apart = replace(KERNELS, warp_a_row=True)
    one = replace(grouped_gemm((1, 1), 1024, 64), top_k=2)
    two = replace(grouped_gemm((2, 2), 1024, 64), top_k=2)
    trips = [
        phase.round_trips
        for op in (one, two)
        for _, phase in lower_matvec(op, AMPERE, apart)[-1].phases()
    ]
    assert trips[0] < trips[1]


def test_the_weights_are_slices_of_the_experts_that_got_tokens() -> None:
    op = grouped_gemm((0, 1, 0, 2), 512, 256)
    (kernel,) = lower_matvec(op, AMPERE, KERNELS)
    assert kernel.segments[0].layout == active_experts(op)
