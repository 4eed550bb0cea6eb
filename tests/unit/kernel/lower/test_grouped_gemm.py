"""`sim.kernel.lower.grouped_gemm`: only experts with tokens cost anything."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel.engine import GroupedKernels, GroupedTile
from sim.kernel.formats import BF16, WEIGHT_FORMATS
from sim.kernel.kernel import Kernel
from sim.kernel.lower.grouped_gemm import build_grouped, grouped_candidates
from sim.kernel.lower.tiling import Pipeline
from sim.kernel.operators import Traffic
from tests.unit.kernel.samples import AMPERE, HOPPER, grouped_gemm

PIPELINE = Pipeline(ctas_per_sm=2, buffer_bytes=60_000)


def distinct(kernel: Kernel, index: int) -> int:
    """Return the distinct bytes that a kernel reads of a segment."""
    by_sharers: dict[int, int] = {}
    for kind, phase in kernel.phases():
        for load in phase.loads:
            if load.segment == index:
                asked = by_sharers.get(load.sharers, 0) + kind.count * load.size_bytes
                by_sharers[load.sharers] = asked
    return sum(asked // sharers for sharers, asked in by_sharers.items())


def test_a_layer_without_tokens_is_no_kernel() -> None:
    """A rank whose experts nobody chose has nothing to launch."""
    assert list(grouped_candidates(grouped_gemm((0, 0), 256, 512), AMPERE)) == []


def test_only_the_experts_that_are_hit_are_read() -> None:
    """Two of four experts: half of the weights, once, and FLOP for four tokens."""
    op = grouped_gemm((3, 0, 1, 0), 256, 512)
    kernel = build_grouped(op, AMPERE, (128, 16), PIPELINE)
    experts = kernel.segments[0]
    assert (experts.size_bytes, experts.traffic, experts.tiled) == (
        2 * 256 * 512 * 2, Traffic.EXPERTS, True,
    )  # fmt: skip
    assert distinct(kernel, 0) == 2 * 256 * 512 * 2
    assert kernel.flop == 2 * 4 * 256 * 512
    # Two experts, one token block each, two blocks of weight rows.
    assert [kind.count for kind in kernel.kinds] == [4]
    (phase,) = kernel.kinds[0].phases
    assert phase.tensor_flop == 2 * 128 * 16 * 512
    assert phase.loads[1].size_bytes == 2 * 512 * 2
    assert kernel.stored_bytes == op.out.size_bytes


def test_blocks_of_one_expert_share_its_weights() -> None:
    """33 tokens are three blocks of 16; the weights come from HBM once."""
    kernel = build_grouped(grouped_gemm((33, 5), 128, 64), AMPERE, (128, 16), PIPELINE)
    assert [(k.count, p.loads[0].sharers) for k, p in kernel.phases()] == [(3, 3), (1, 1)]
    assert distinct(kernel, 0) == 2 * 128 * 64 * 2


def test_experts_of_many_blocks_come_first() -> None:
    """Long work is launched first, so that the tail is short."""
    op = grouped_gemm((1, 150, 40, 2), 128, 64)
    kernel = build_grouped(op, AMPERE, (128, 16), PIPELINE)
    assert [p.loads[0].sharers for _, p in kernel.phases()] == [10, 3, 1]


def test_rows_without_a_token_are_no_bytes_in_flight() -> None:
    """One token in a block of 16: 129 of 144 rows of a stage are loads."""
    kernel = build_grouped(grouped_gemm((1,), 128, 64), AMPERE, (128, 16), PIPELINE)
    assert kernel.kinds[0].buffer_bytes == 60_000 * 129 // 144
    full = build_grouped(grouped_gemm((16,), 128, 64), AMPERE, (128, 16), PIPELINE)
    assert full.kinds[0].buffer_bytes == 60_000


def test_a_fixed_tile_has_a_buffer_less_than_stages_and_shares_by_its_group() -> None:
    """4096 tokens are 64 blocks; eight of them run with the columns that fill the places left."""
    tile = GroupedTile(rows=64, tokens=64, k_bytes=64, group=8)
    (kernel,) = grouped_candidates(grouped_gemm((4096,), 65_536, 512), AMPERE, tile)
    (kind,) = kernel.kinds
    assert kind.buffer_bytes == 2 * 128 * 64
    weights, activations = kind.phases[0].loads
    places = AMPERE.sm_count * kernel.ctas_per_sm
    assert (weights.sharers, activations.sharers) == (8, places // 8)
    assert kernel.segments[0].short


def test_a_narrow_layer_shares_its_weights_among_all_blocks_that_run() -> None:
    """Two columns: the grid goes on to further blocks of tokens."""
    tile = GroupedTile(rows=64, tokens=64, k_bytes=128)
    (kernel,) = grouped_candidates(grouped_gemm((4096,), 128, 512), AMPERE, tile)
    assert [load.sharers for load in kernel.kinds[0].phases[0].loads] == [64, 2]


@pytest.mark.parametrize(
    ("rows", "fmt", "in_order"), [(64, "bf16", True), (128, "bf16", False), (64, "int4", False)]
)
def test_four_warps_of_ampere_run_in_order(rows: int, fmt: str, in_order: bool) -> None:
    """Eight warps fill each other's waits, and Marlin interleaves what it unpacks."""
    formats = {"bf16": BF16, **WEIGHT_FORMATS}
    op = grouped_gemm((128,), 256, 512, formats[fmt])
    assert build_grouped(op, AMPERE, (rows, 128), PIPELINE).kinds[0].phases[0].in_order is in_order
    assert not build_grouped(op, HOPPER, (rows, 128), PIPELINE).kinds[0].phases[0].in_order


def test_a_walk_through_the_experts_comes_before_the_first_tile() -> None:
    """Half a round trip for each of four experts, with tokens or without."""
    op = grouped_gemm((3, 0, 1, 0), 256, 512)
    walks = GroupedKernels(setup_trips=11, expert_trips=Fraction(1, 2))
    assert build_grouped(op, HOPPER, (128, 16), PIPELINE, walks).setup_round_trips == 13


def test_an_edge_tile_of_weight_rows_reads_its_rows_only() -> None:
    """300 rows: two tiles of 128 and one of 44."""
    kernel = build_grouped(grouped_gemm((1,), 300, 64), AMPERE, (128, 16), PIPELINE)
    assert [(k.count, p.loads[0].size_bytes) for k, p in kernel.phases()] == [
        (2, 128 * 64 * 2),
        (1, 44 * 64 * 2),
    ]


@pytest.mark.parametrize(("name", "vector"), [("mxfp4", 2 * 128 * 64), ("fp8", 0), ("bf16", 0)])
def test_packed_experts_are_unpacked_by_the_alus(name: str, vector: int) -> None:
    """Two operations a weight, in every CTA that reads it."""
    op = grouped_gemm((1,), 128, 64, WEIGHT_FORMATS[name])
    kernel = build_grouped(op, HOPPER, (128, 16), PIPELINE)
    assert kernel.kinds[0].phases[0].vector_flop == vector
    assert kernel.segments[0].size_bytes == WEIGHT_FORMATS[name].bytes_of(128 * 64)


@given(
    tokens=st.lists(st.integers(0, 300), min_size=1, max_size=40).filter(any),
    n=st.integers(1, 3000).map(lambda x: 8 * x),
    fmt=st.sampled_from([BF16, WEIGHT_FORMATS["fp8"], WEIGHT_FORMATS["mxfp4"]]),
)
def test_every_candidate_reads_each_hit_expert_once(tokens: list[int], n: int, fmt: object) -> None:
    """Distinct expert bytes are the hit experts' own, but for rounding up in each CTA."""
    op = grouped_gemm(tuple(tokens), n, 256, fmt)  # type: ignore[arg-type]
    each = op.experts.size_bytes // len(tokens)
    hit = sum(map(bool, tokens))
    candidates = list(grouped_candidates(op, HOPPER))
    assert candidates
    for kernel in candidates:
        assert kernel.segments[0].size_bytes == hit * each
        assert hit * each <= distinct(kernel, 0) <= hit * each + kernel.n_ctas
        assert op.out.size_bytes <= kernel.stored_bytes <= op.out.size_bytes + kernel.n_ctas
        assert kernel.flop == 2 * sum(tokens) * n * 256 <= kernel.issued_tensor_flop
