"""GEMM kernels: tiled, pipelined, split along K where the grid is small.

Weights are the tall operand (cuBLAS computes out^T = W a^T), so a tile is `tile_n` weight rows by
`tile_m` tokens. Each CTA walks its share of K through a multi-stage pipeline (cp.async on
Ampere, TMA on Hopper: CUTLASS "efficient GEMM" documentation). With split-K every CTA stores a
float32 partial tile in a workspace, and a kernel of its own adds them up (cuBLAS runs
`splitKreduce_kernel` on Ampere, Ada and Hopper alike).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from sim.kernel.engine import FixedTile, TileSet
from sim.kernel.formats import WeightFormat
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.tiling import Pipeline, cut, fit_tile, pipelines, sharing, splits
from sim.kernel.operators import Gemm, Tensor, Traffic
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

ANY_TILE = TileSet(rows=(64, 128, 256), most_splits=32)
# Token tiles: Ampere and Ada kernels come in powers of two, wgmma takes any multiple of 8.
TILES_M = {False: (16, 32, 64, 128, 256), True: (16, 32, 64, 96, 128, 192, 256)}
# A pipeline stage holds 128 bytes of K of the wider operand: one shared-memory swizzle row.
_STAGE_ROW_BYTES = 128
# Ampere kernels advance by 64 bytes of K at a time (cuBLAS names them ..._32x5, ..._32x6).
_ROW_PARTS = {False: 2, True: 1}
# Chains of dependent instructions per stage row. Replayed GEMMs of m = 2, n = k = 128 to 1024 with
# weights in L2 take 290 ns (A100), 170 ns (L40S) and 90 ns (H100) per 128 bytes of K, against step
# latencies of 130, 76 and 70 ns (aiconfigurator-core 0.12.0, read 2026-11-23).
_CHAINS = {False: Fraction(2), True: Fraction(9, 7)}
# Ampere kernels for more tokens than this have no smaller token tile (cuBLAS: 64x64 up).
_FEWEST_TOKENS = 64
# Accumulators of larger tiles do not fit the register file of one CTA, or of two.
_LARGEST_TILE = 256 * 128
_LARGEST_PAIRED_TILE = 128 * 128
# The first CTAs fetch long unrolled code and descriptors into cold instruction and constant caches:
# what the smallest GEMMs (128 x 128, replayed) take beyond a kernel that does nothing is 0.55 to
# 0.7 us on A100, H100 and L40S (aiconfigurator-core 0.12.0, read 2026-11-23).
_SETUP_ROUND_TRIPS = 3
# CTAs of a cluster that share a tile.
_CLUSTER = 2
# A reduction CTA has 256 threads of four values each.
_REDUCED_VALUES = 1024
_REDUCTIONS_PER_SM = 8
_MOST_REDUCTIONS = 64


def segment_of(tensor: Tensor, size_bytes: int | None = None) -> Segment:
    """Return the L2 segment of a tensor, or of `size_bytes` of it."""
    size = tensor.size_bytes if size_bytes is None else size_bytes
    return Segment(name=tensor.name, size_bytes=size, traffic=tensor.traffic)


def activation_bytes(fmt: WeightFormat) -> int:
    """Return the bytes of one activation that multiplies weights of this format."""
    return 1 if fmt.quantises_activations else 2


def dequantise_flop(fmt: WeightFormat) -> int:
    """Return the vector work to turn one stored weight into a multiply operand."""
    return fmt.dequantise_flop if fmt.dequantised else 0


def gemm_candidates(
    op: Gemm,
    target: Target,
    fixed_tiles: Sequence[FixedTile] = (),
    tile_set: TileSet = ANY_TILE,
) -> Iterator[tuple[Kernel, ...]]:
    """Yield the kernel sequences a tuner would try for `op`: tiles, pipelines and K splits."""
    if fixed_tiles and op.weight_format.quantises_activations:
        tile = next((t for t in fixed_tiles if op.m <= t.most_tokens), fixed_tiles[-1])
        shape = (tile.rows, tile.tokens)
        *_, deepest = _pipelines(op, target, *shape)
        yield build_gemm(op, target, shape, 1, deepest)
        return
    tiles = TILES_M[target.bulk_copy]
    largest = fit_tile(op.m, tiles)
    fewest = 0 if target.bulk_copy or op.m <= _FEWEST_TOKENS else _FEWEST_TOKENS
    for tokens in (tile for tile in tiles if max(fewest, largest // 4) <= tile <= largest):
        for rows in tile_set.rows:
            if rows * tokens <= _LARGEST_TILE and rows < 2 * op.n + 64:
                yield from _tiled(op, target, (rows, tokens), tile_set.most_splits)


def _pipelines(op: Gemm, target: Target, tile_n: int, tile_m: int) -> Iterator[Pipeline]:
    """Yield the pipelines of a tile.

    The accumulators of two large tiles do not fit an SM; Hopper kernels start the next tile while
    they store the last one, which two CTAs stand for.
    """
    width, parts = activation_bytes(op.weight_format), _ROW_PARTS[target.bulk_copy]
    k_tile = _STAGE_ROW_BYTES // width // parts
    stage = op.weight_format.bytes_of(tile_n * k_tile) + min(tile_m, op.m) * k_tile * width
    paired = target.bulk_copy or tile_n * tile_m <= _LARGEST_PAIRED_TILE
    for pipeline in pipelines(target, stage, parts=parts):
        if paired or pipeline.ctas_per_sm == 1:
            yield pipeline


def _tiled(
    op: Gemm, target: Target, tile: tuple[int, int], most_splits: int
) -> Iterator[tuple[Kernel, ...]]:
    tile_n, tile_m = tile
    k_steps = ceil_div(op.k * activation_bytes(op.weight_format), _STAGE_ROW_BYTES)
    tiles = ceil_div(op.n, tile_n) * ceil_div(op.m, tile_m)
    for pipeline in _pipelines(op, target, tile_n, tile_m):
        found = splits(tiles, k_steps, target.sm_count * pipeline.ctas_per_sm)
        for split in sorted({min(split, most_splits) for split in found}):
            yield build_gemm(op, target, tile, split, pipeline)


def build_gemm(
    op: Gemm, target: Target, tile: tuple[int, int], split: int, pipeline: Pipeline
) -> tuple[Kernel, ...]:
    """Return the kernels of one tiling: `tile` is (weight rows, tokens), `split` the K splits."""
    tile_n, tile_m = tile
    rows, columns = ceil_div(op.m, tile_m), ceil_div(op.n, tile_n)
    places = target.sm_count * pipeline.ctas_per_sm
    share_a, share_w = sharing(rows, columns, max(1, places // split))
    kinds = []
    for m_count, m_length in cut(op.m, tile_m):
        for n_count, n_length in cut(op.n, tile_n):
            count = m_count * n_count * split
            phase = _phase(op, target, (n_length, m_length), tile, split, (share_w, share_a))
            asked, held = phase.load_bytes, pipeline.buffer_bytes
            if target.bulk_copy:
                phase = _multicast(phase)
            # What a neighbour fetches lies in the buffer, too.
            held = max(1, held * phase.load_bytes // max(1, asked))
            kinds.append(CtaKind(count=count, phases=(phase,), buffer_bytes=held))
    workspace = Segment(
        name="splitk_workspace",
        size_bytes=op.m * op.n * 4 * split,
        traffic=Traffic.ACTIVATIONS,
    )
    weight = Segment(
        name=op.weight.name,
        size_bytes=op.weight.size_bytes,
        traffic=op.weight.traffic,
        tiled=True,
        row_bytes=op.weight_format.bytes_of(op.k),
    )
    main = Kernel(
        name=f"gemm_{tile_n}x{tile_m}_split{split}x{pipeline.ctas_per_sm}",
        operator=op.name,
        part=op.part,
        kinds=tuple(kinds),
        segments=(weight, segment_of(op.a), workspace if split > 1 else segment_of(op.out)),
        ctas_per_sm=pipeline.ctas_per_sm,
        flop=operator_flop(op),
        setup_round_trips=_SETUP_ROUND_TRIPS,
    )
    return (main, _reduction(op, target, workspace, split)) if split > 1 else (main,)


def _reduction(op: Gemm, target: Target, workspace: Segment, split: int) -> Kernel:
    """Return the kernel that adds up the partial tiles of a split-K GEMM."""
    count = min(ceil_div(op.m * op.n, _REDUCED_VALUES), target.sm_count * _MOST_REDUCTIONS)
    phase = Phase(
        round_trips=1,
        loads=(Load(segment=0, size_bytes=ceil_div(workspace.size_bytes, count)),),
        vector_flop=ceil_div(split * op.m * op.n, count),
        stores=(Store(segment=1, size_bytes=ceil_div(op.out.size_bytes, count)),),
    )
    return Kernel(
        name=f"splitk_reduce_{split}",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=16 * _REDUCED_VALUES),),
        segments=(workspace, segment_of(op.out)),
        ctas_per_sm=_REDUCTIONS_PER_SM,
        flop=0,
    )


def _multicast(phase: Phase) -> Phase:
    """Return a phase whose CTA shares its activations with the neighbour of other weight rows.

    Clusters of two CTAs split the tile that both need and send their halves to each other (TMA
    multicast), so L2 is asked once. cuBLAS's and CUTLASS's kernels for Hopper have clusters of
    2 x 1 along the rows of the output, which are the weight's.
    """
    weight, a = phase.loads
    if a.sharers == 1:
        return phase
    pairs = ceil_div(a.sharers, _CLUSTER)
    once = replace(a, size_bytes=ceil_div(a.size_bytes * pairs, a.sharers), sharers=pairs)
    return replace(phase, loads=(weight, once))


def _phase(
    op: Gemm,
    target: Target,
    real: tuple[int, int],
    tile: tuple[int, int],
    split: int,
    sharers: tuple[int, int],
) -> Phase:
    n_length, m_length = real
    k_share = ceil_div(op.k, split)
    weight_bytes = ceil_div(op.weight.size_bytes * n_length, op.n * split)
    a_bytes = ceil_div(op.a.size_bytes * m_length, op.m * split)
    dequantise = dequantise_flop(op.weight_format) * n_length * k_share
    out_bytes = ceil_div(op.out.size_bytes * m_length * n_length, op.m * op.n)
    partial_bytes = m_length * n_length * 4
    return Phase(
        round_trips=1,
        steps=ceil_div(
            int(k_share * activation_bytes(op.weight_format) * _CHAINS[target.bulk_copy]),
            _STAGE_ROW_BYTES,
        ),
        loads=(
            Load(segment=0, size_bytes=weight_bytes, sharers=sharers[0]),
            Load(segment=1, size_bytes=a_bytes, sharers=sharers[1]),
        ),
        compute=target.compute(op.weight_format.compute),
        tensor_flop=2 * tile[0] * tile[1] * k_share,
        vector_flop=dequantise,
        stores=(Store(segment=2, size_bytes=partial_bytes if split > 1 else out_bytes),),
        overlapped=target.bulk_copy,
        in_order=not target.bulk_copy,
    )
