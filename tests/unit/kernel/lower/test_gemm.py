"""`sim.kernel.lower.gemm`: tiles that cover the product, split K, and quantised weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel.engine import FixedTile
from sim.kernel.formats import WEIGHT_FORMATS
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Store
from sim.kernel.lower.gemm import build_gemm, gemm_candidates
from sim.kernel.lower.tiling import Pipeline
from sim.kernel.operators import Traffic
from sim.kernel.target import Target
from tests.unit.kernel.samples import AMPERE, HOPPER, gemm

PIPELINE = Pipeline(ctas_per_sm=2, buffer_bytes=60_000)


def moved(kernel: Kernel, name: str) -> tuple[int, int]:
    """Return the bytes that a kernel's CTAs load from and store to a segment."""
    index = [segment.name for segment in kernel.segments].index(name)
    loaded = stored = 0
    for kind, phase in kernel.phases():
        loaded += kind.count * sum(x.size_bytes for x in phase.loads if x.segment == index)
        stored += kind.count * sum(x.size_bytes for x in phase.stores if x.segment == index)
    return loaded, stored


def test_a_whole_tile_is_one_cta() -> None:
    """16 tokens, 128 weight rows, K of 256: every number of the CTA."""
    (kernel,) = build_gemm(gemm(16, 128, 256), AMPERE, (128, 16), 1, PIPELINE)
    phase = Phase(
        round_trips=1,
        # 32 values of K a step.
        steps=8,
        loads=(Load(segment=0, size_bytes=128 * 256 * 2), Load(segment=1, size_bytes=16 * 256 * 2)),
        tensor_flop=2 * 128 * 16 * 256,
        stores=(Store(segment=2, size_bytes=128 * 16 * 2),),
        in_order=True,
    )
    assert kernel.kinds == (CtaKind(count=1, phases=(phase,), buffer_bytes=60_000),)
    assert [(s.name, s.size_bytes, s.tiled) for s in kernel.segments] == [
        ("weight", 65_536, True),
        ("a", 8192, False),
        ("out", 4096, False),
    ]
    assert kernel.ctas_per_sm == 2
    assert kernel.name == "gemm_128x16_split1x2"


def test_edge_tiles_move_what_is_left_and_multiply_whole_tiles() -> None:
    """20 tokens by 300 rows in tiles of 16 by 128: four kinds, padded tensor work."""
    (kernel,) = build_gemm(gemm(20, 300, 64), AMPERE, (128, 16), 1, PIPELINE)
    found = [
        (k.count, p.loads[0].size_bytes, p.loads[1].size_bytes, p.stores[0].size_bytes)
        for k, p in kernel.phases()
    ]
    assert found == [
        (2, 128 * 128, 16 * 128, 128 * 16 * 2),
        (1, 44 * 128, 16 * 128, 44 * 16 * 2),
        (2, 128 * 128, 4 * 128, 128 * 4 * 2),
        (1, 44 * 128, 4 * 128, 44 * 4 * 2),
    ]
    assert kernel.issued_tensor_flop == 6 * 2 * 128 * 16 * 64
    assert kernel.flop == 2 * 20 * 300 * 64


def test_operands_are_shared_by_the_tiles_that_run_together() -> None:
    """Two rows of three columns: each token tile is read by three CTAs, each weight tile by two."""
    (kernel,) = build_gemm(gemm(32, 384, 64), AMPERE, (128, 16), 1, PIPELINE)
    (kind,) = kernel.kinds
    weight, a = kind.phases[0].loads
    assert (weight.sharers, a.sharers) == (2, 3)
    assert moved(kernel, "weight")[0] // weight.sharers == 384 * 64 * 2
    assert moved(kernel, "a")[0] // a.sharers == 32 * 64 * 2


def test_neighbours_on_hopper_fetch_their_tokens_together() -> None:
    """Clusters of two: four columns ask for half of the bytes, of which two share each."""
    (ampere,), (hopper,) = (
        build_gemm(gemm(32, 512, 64), target, (128, 16), 1, PIPELINE) for target in (AMPERE, HOPPER)
    )
    alone, together = (k.kinds[0].phases[0].loads[1] for k in (ampere, hopper))
    assert (alone.sharers, together.sharers) == (4, 2)
    assert alone.size_bytes == 2 * together.size_bytes
    assert moved(hopper, "a")[0] // together.sharers == 32 * 64 * 2
    assert moved(hopper, "weight") == moved(ampere, "weight")


def test_split_k_goes_through_a_workspace() -> None:
    """Four splits store float32 partials, and a second kernel adds them up."""
    main, reduction = build_gemm(gemm(16, 128, 1024), AMPERE, (128, 16), 4, PIPELINE)
    (kind,) = main.kinds
    (phase,) = kind.phases
    assert kind.count == 4
    assert phase.steps == 8
    assert [x.size_bytes for x in phase.loads] == [128 * 256 * 2, 16 * 256 * 2]
    assert phase.stores == (Store(segment=2, size_bytes=128 * 16 * 4),)
    workspace = main.segments[2]
    assert workspace.name == "splitk_workspace"
    assert workspace.traffic is Traffic.ACTIVATIONS
    assert moved(main, "splitk_workspace") == (0, 32_768)
    assert moved(reduction, "splitk_workspace") == (32_768, 0)
    assert moved(reduction, "out") == (0, 4096)
    assert main.flop + reduction.flop == 2 * 16 * 128 * 1024


def main_phase(weights: str, target: Target) -> Phase:
    (kernel,) = build_gemm(
        gemm(16, 128, 256, WEIGHT_FORMATS[weights]), target, (128, 16), 1, PIPELINE
    )
    return kernel.kinds[0].phases[0]


def test_packed_weights_are_read_packed_and_unpacked_by_the_alus() -> None:
    """int4: 4.15625 bits a weight, two ALU operations each, multiplied as bf16."""
    phase = main_phase("int4", HOPPER)
    assert [x.size_bytes for x in phase.loads] == [128 * 256 * 133 // 256, 16 * 256 * 2]
    assert phase.vector_flop == 2 * 128 * 256
    assert phase.compute == "bf16"
    assert phase.steps == 6


def test_fp8_halves_both_operands_and_the_steps() -> None:
    """128 values of K a step, on the fp8 tensor cores, without ALU work."""
    phase = main_phase("fp8", HOPPER)
    assert [x.size_bytes for x in phase.loads] == [128 * 256, 16 * 256]
    assert (phase.compute, phase.vector_flop, phase.steps) == ("fp8", 0, 3)


def test_fp8_runs_as_bf16_on_a_chip_without_it() -> None:
    """An A100 still reads one byte a weight."""
    phase = main_phase("fp8", AMPERE)
    assert phase.compute == "bf16"
    assert phase.loads[0].size_bytes == 128 * 256


def test_warp_specialised_kernels_overlap_their_pipes() -> None:
    """Where bulk copies feed them, as on Hopper, and not before."""
    assert main_phase("bf16", HOPPER).overlapped
    assert not main_phase("bf16", AMPERE).overlapped


@given(
    m=st.integers(1, 600),
    n=st.integers(1, 5000),
    k=st.integers(8, 9000),
    fmt=st.sampled_from(list(WEIGHT_FORMATS.values())),
    target=st.sampled_from([AMPERE, HOPPER]),
)
def test_every_candidate_covers_the_product_exactly(
    m: int, n: int, k: int, fmt: object, target: Target
) -> None:
    """No output byte is missed or written twice, but for rounding up in each CTA."""
    op = gemm(m, n, k, fmt)  # type: ignore[arg-type]
    candidates = list(gemm_candidates(op, target))
    assert candidates
    for kernel, *reduction in candidates:
        last = reduction[0] if reduction else kernel
        stored = moved(last, "out")[1]
        assert op.out.size_bytes <= stored < op.out.size_bytes + last.n_ctas
        assert kernel.flop == 2 * m * n * k <= kernel.issued_tensor_flop
        assert moved(kernel, "weight")[0] >= op.weight.size_bytes
        assert moved(kernel, "a")[0] >= op.a.size_bytes
        buffers = max(kind.buffer_bytes for kind in kernel.kinds)
        assert buffers * kernel.ctas_per_sm < target.shared_memory_bytes
    assert len({kernel.name for kernel, *_ in candidates}) == len(candidates)


@pytest.mark.parametrize("target", [AMPERE, HOPPER], ids=["ampere", "hopper"])
def test_a_small_grid_has_split_candidates_and_a_full_one_has_none(target: Target) -> None:
    """A tuner can choose split K where tiles alone leave SMs idle."""
    small = {k.name.split("_")[-1] for k, *_ in gemm_candidates(gemm(1, 1024, 8192), target)}
    full = {k.name.split("_")[-1] for k, *_ in gemm_candidates(gemm(4096, 65_536, 8192), target)}
    assert {name.split("x")[0] for name in small} > {"split1"}
    assert {name.split("x")[0] for name in full} == {"split1"}


def tiles_of(m: int, n: int, target: Target) -> set[tuple[int, int]]:
    """Return the (weight rows, tokens) of all candidates."""
    names = {k.name.split("_")[1] for k, *_ in gemm_candidates(gemm(m, n, 4096), target)}
    return {(int(rows), int(tokens)) for rows, tokens in (name.split("x") for name in names)}


@pytest.mark.parametrize("target", [AMPERE, HOPPER], ids=["ampere", "hopper"])
def test_tiles_follow_the_tokens(target: Target) -> None:
    """40 tokens need no tile larger than 64, and one of those is tried."""
    assert max(tokens for _, tokens in tiles_of(40, 4096, target)) == 64


@pytest.mark.parametrize("target", [AMPERE, HOPPER], ids=["ampere", "hopper"])
def test_accumulators_fit_the_registers_of_a_cta(target: Target) -> None:
    """Tiles of 256 x 256 are never tried."""
    large = tiles_of(4096, 4096, target)
    assert max(rows * tokens for rows, tokens in large) == 256 * 128


def test_weight_tiles_do_not_dwarf_a_narrow_matrix() -> None:
    """A router of 8 rows is not given tiles of 128."""
    assert {rows for rows, _ in tiles_of(16, 8, AMPERE)} == {64}


def test_a_fixed_table_of_tiles_leaves_no_choice() -> None:
    """8-bit GEMMs of such an engine take the tile for their tokens, one CTA an SM, unsplit."""
    table = (
        FixedTile(most_tokens=16, rows=64, tokens=16),
        FixedTile(most_tokens=64, rows=128, tokens=64),
    )
    for tokens, name in ((8, "64x16"), (40, "128x64"), (500, "128x64")):
        op = gemm(tokens, 4096, 4096, WEIGHT_FORMATS["fp8"])
        ((kernel,),) = gemm_candidates(op, HOPPER, table)
        assert kernel.name == f"gemm_{name}_split1x1"
    assert len(list(gemm_candidates(gemm(8, 4096, 4096), HOPPER, table))) > 1


def test_two_large_accumulators_do_not_share_an_ampere_sm() -> None:
    """128 x 128 values of two CTAs are half of the register file, 256 x 128 are all of it."""
    pairs = {
        kernel.name.split("_")[1]
        for kernel, *_ in gemm_candidates(gemm(4096, 4096, 4096), AMPERE)
        if kernel.ctas_per_sm == 2
    }
    assert "256x128" not in pairs
