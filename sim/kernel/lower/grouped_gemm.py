"""Grouped GEMM of a mixture of experts: one small GEMM per expert that got tokens, in one grid.

The fused MoE kernels (Triton `fused_moe` in vLLM, CUTLASS grouped GEMM in TensorRT-LLM) sort
tokens by expert, pad each expert to a block of tokens and give every (expert, token block, weight
rows) tile to a CTA; K is not split. Only experts with tokens are read.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from sim.kernel.engine import GroupedKernels, GroupedTile
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.gemm import activation_bytes, dequantise_flop, segment_of
from sim.kernel.lower.layouts import active_experts
from sim.kernel.lower.tiling import Pipeline, cut, fit_tile, pipelines, sharing
from sim.kernel.operators import GroupedGemm
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

_STAGE_ROW_BYTES = 128
ANY_KERNELS = GroupedKernels()
# Accumulators of larger tiles do not fit the register file.
_LARGEST_TILE = 256 * 128
_FIXED_CTAS_PER_SM = 4
# Larger tiles have eight warps, two on each scheduler, which fill each other's waits.
_FOUR_WARPS = 64 * 128


def grouped_candidates(
    op: GroupedGemm,
    target: Target,
    fixed: GroupedTile | None = None,
    kernels: GroupedKernels = ANY_KERNELS,
) -> Iterator[Kernel]:
    """Yield the kernels a tuner would try, or the one of a fixed tile.

    An operator without tokens yields none.
    """
    counts = [tokens for tokens in op.tokens_per_expert if tokens]
    if not counts:
        return
    if fixed is not None:
        tile = (fixed.rows, fixed.tokens)
        yield build_grouped(op, target, tile, _fixed_pipeline(fixed, target), kernels, fixed)
        return
    largest = fit_tile(max(counts), kernels.tokens)
    typical = fit_tile(ceil_div(sum(counts), len(counts)), kernels.tokens)
    width = activation_bytes(op.weight_format)
    k_tile = _STAGE_ROW_BYTES // width
    for tile_m in {largest, typical}:
        for tile_n in kernels.rows:
            if tile_n * tile_m > _LARGEST_TILE:
                continue
            stage = op.weight_format.bytes_of(tile_n * k_tile) + tile_m * k_tile * width
            # Two CTAs an SM if they fit, as they hide each other's starts and ends: with one alone
            # a tenth of tuned kernels were faster, by less than 2 %.
            for pipeline in islice(pipelines(target, stage), 1):
                yield build_grouped(op, target, (tile_n, tile_m), pipeline, kernels)


def _fixed_pipeline(fixed: GroupedTile, target: Target) -> Pipeline:
    """Return Triton's pipeline: as many CTAs an SM as shared memory and registers allow.

    Its n stages have n - 1 buffers: a piece is asked for when the one in its place is multiplied.
    """
    buffer = (fixed.stages - 1) * (fixed.rows + fixed.tokens) * fixed.k_bytes
    ctas = target.shared_memory_bytes // buffer
    return Pipeline(ctas_per_sm=min(_FIXED_CTAS_PER_SM, max(1, ctas)), buffer_bytes=buffer)


def build_grouped(
    op: GroupedGemm,
    target: Target,
    tile: tuple[int, int],
    pipeline: Pipeline,
    kernels: GroupedKernels = ANY_KERNELS,
    fixed: GroupedTile | None = None,
) -> Kernel:
    """Return the kernel of one tiling; a `fixed` tile has its own pieces of K and raster.

    Experts with about as many token blocks share CTA kinds; their partly filled blocks count with
    their mean fill, as they differ in a few rows of activations only.
    """
    tile_n, tile_m = tile
    k_bytes = min(fixed.k_bytes, _STAGE_ROW_BYTES) if fixed else _STAGE_ROW_BYTES
    places = target.sm_count * pipeline.ctas_per_sm
    kinds = []
    for load in _loads(op, tile_m):
        n_experts, n_blocks, tokens = load
        sharers = _sharers(n_blocks, ceil_div(op.n, tile_n), places, fixed)
        fill = ceil_div(tokens, n_experts * n_blocks)
        buffer = _filled(op, pipeline.buffer_bytes, tile, fill)
        for n_count, n_length in cut(op.n, tile_n):
            count = n_experts * n_blocks * n_count
            phase = _phase(op, target, (tile_n, tile_m, k_bytes), n_length, load, sharers)
            phase = replace(phase, tensor_flop=int(phase.tensor_flop * kernels.slowdown))
            kinds.append(CtaKind(count=count, phases=(phase,), buffer_bytes=buffer))
    short = k_bytes < _STAGE_ROW_BYTES or kernels.short_rows
    return Kernel(
        name=f"grouped_{tile_n}x{tile_m}x{pipeline.ctas_per_sm}",
        operator=op.name,
        part=op.part,
        kinds=tuple(kinds),
        segments=(_experts(op, short=short), segment_of(op.a), segment_of(op.out)),
        ctas_per_sm=pipeline.ctas_per_sm,
        flop=operator_flop(op),
        setup_round_trips=kernels.setup_trips
        + int(len(op.tokens_per_expert) * kernels.expert_trips),
    )


def _experts(op: GroupedGemm, *, short: bool) -> Segment:
    """Return the matrices of the experts that got tokens."""
    expert_bytes = op.experts.size_bytes // len(op.tokens_per_expert)
    return Segment(
        name=op.experts.name,
        size_bytes=sum(tokens > 0 for tokens in op.tokens_per_expert) * expert_bytes,
        traffic=op.experts.traffic,
        tiled=True,
        short=short,
        layout=active_experts(op),
        row_bytes=op.weight_format.bytes_of(op.k),
    )


def _sharers(
    n_blocks: int, columns: int, places: int, fixed: GroupedTile | None
) -> tuple[int, int]:
    """Return how many CTAs that run together read the same weights, and the same activations."""
    if fixed is None:
        return sharing(n_blocks, columns, places)[::-1]
    tall = min(n_blocks, max(fixed.group, ceil_div(places, columns)))
    return tall, min(columns, max(1, places // tall))


def _filled(op: GroupedGemm, buffer_bytes: int, tile: tuple[int, int], fill: int) -> int:
    """Return the bytes that a pipeline holds: rows of a token block without a token are no loads.

    Their place in shared memory stays empty, so that a CTA has fewer bytes in flight.
    """
    weights = op.weight_format.bytes_of(tile[0] * _STAGE_ROW_BYTES)
    width = activation_bytes(op.weight_format) * _STAGE_ROW_BYTES
    return ceil_div(buffer_bytes * (weights + fill * width), weights + tile[1] * width)


def _loads(op: GroupedGemm, tile_m: int) -> list[tuple[int, int, int]]:
    """Return (experts, token blocks of each, tokens of them all), the most loaded experts first.

    What differs between CTAs of two experts is how many others read the same weights. Experts whose
    blocks number 1, 2 to 7, 8 to 31, ... are taken together and share their blocks out evenly: some
    get one more than the others, so that experts, blocks and tokens sum to what they were.
    """
    alike: dict[int, list[int]] = {}
    for tokens in op.tokens_per_expert:
        if tokens:
            order = ceil_div(tokens, tile_m).bit_length() // 2
            alike.setdefault(order, []).append(tokens)
    loads = []
    for _, tokens_of in sorted(alike.items(), reverse=True):
        n_experts, tokens = len(tokens_of), sum(tokens_of)
        blocks = sum(ceil_div(n, tile_m) for n in tokens_of)
        each, more = divmod(blocks, n_experts)
        upper = tokens * more * (each + 1) // blocks
        if more:
            loads.append((more, each + 1, upper))
        loads.append((n_experts - more, each, tokens - upper))
    return loads


def _phase(
    op: GroupedGemm,
    target: Target,
    tile: tuple[int, int, int],
    n_length: int,
    load: tuple[int, int, int],
    sharers: tuple[int, int],
) -> Phase:
    """Return the phase of a CTA; `load` is (experts, blocks an expert, tokens of them all).

    `tile` is (weight rows, tokens, bytes of K at a time); `sharers` read the same weights and the
    same activations. Kernels that unpack weights (Marlin) interleave that with loads and products.
    """
    n_experts, n_blocks, tokens = load
    expert_bytes = op.experts.size_bytes // len(op.tokens_per_expert)
    fmt = op.weight_format
    a_bytes = ceil_div(tokens * op.k * activation_bytes(fmt), n_experts * n_blocks)
    out_bytes = ceil_div(
        op.out.size_bytes * tokens * n_length,
        sum(op.tokens_per_expert) * op.n * n_experts * n_blocks,
    )
    return Phase(
        round_trips=2,
        steps=ceil_div(op.k * activation_bytes(fmt), tile[2]),
        loads=(
            Load(
                segment=0,
                size_bytes=ceil_div(expert_bytes * n_length, op.n),
                sharers=sharers[0],
            ),
            Load(segment=1, size_bytes=a_bytes, sharers=sharers[1]),
        ),
        compute=target.compute(fmt.compute),
        tensor_flop=2 * tile[0] * tile[1] * op.k,
        vector_flop=dequantise_flop(fmt) * n_length * op.k,
        stores=(Store(segment=2, size_bytes=out_bytes),),
        overlapped=target.bulk_copy,
        in_order=not (target.bulk_copy or fmt.dequantised) and tile[0] * tile[1] <= _FOUR_WARPS,
    )
