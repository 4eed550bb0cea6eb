"""Decode attention with split KV, as FlashAttention, FlashInfer and TensorRT-LLM's XQA run it.

One CTA per sequence, KV head and split. The query heads of a group fill the rows of one tile, so KV
is read once per KV head. FlashAttention computes tiles of 64 rows however few heads a group has
(`run_mha_fwd_splitkv_dispatch`; FlashAttention-3's `tile_size.h`), FlashInfer and XQA tiles of 16.
Blocks of keys are computed whole. A CTA also makes dependent round trips: lengths, page table and
addresses before its first score, the accumulator's way through shared memory after its last.

FlashAttention-2 regards the heads of a group as query rows by transposing Q and the output, which
copies both where there is more than one sequence and KV head (`seqlenq_ngroups_swapped`); with a
window it does not, and every query head is a CTA. Its merge kernel reads the splits one after the
other, each a round trip. XQA for Hopper merges in the last CTA to finish.
"""

from dataclasses import dataclass
from fractions import Fraction

from sim.kernel.engine import DecodeKernel, Engine
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.gemm import segment_of
from sim.kernel.lower.prefill import SOFTMAX_TENSOR_FLOP
from sim.kernel.lower.split_kv import choose_splits, combine, partials
from sim.kernel.operators import Attention, Traffic
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

_LARGE_SHARED_MEMORY = 160 * 1024
_USUAL_HEAD = 128
FP8_BITS = 8
_NARROW_HEAD = 64
# Per CTA and per kernel, in L2 round trips: 8,192 CTAs of 16 tokens take 3.0 us each on an SM of
# H100, 4.0 on A100 and 3.9 on L40S, a third of it their tile (aiconfigurator-core 0.12.0, read
# 2026-11-23); single CTAs of both take 3 us more than an empty kernel.
_CTA_ROUND_TRIPS = 11
_SETUP_ROUND_TRIPS = 8
_MERGE_ROUND_TRIPS = 4
# Two copies of a few kilobytes cost 6.2 us on A100, 3.5 us on L40S.
_COPY_SETUP_ROUND_TRIPS = 5
# XQA for Hopper (fp8): 8,192 CTAs of 16 tokens take 1.05 us each on an SM of H100.
_XQA_CTA_ROUND_TRIPS = 6
_XQA_SETUP_ROUND_TRIPS = 2
_INSIDE_TRIPS = 10
# FlashInfer and Triton kernels start quicker (L40S: 5.5 us for a graph of append and attention).
_NARROW_CTA_ROUND_TRIPS = 8
_NARROW_SETUP_ROUND_TRIPS = 2
# Vector kernels: blocks of 128 threads; a 16-bit value is widened, multiplied and added.
_VECTOR_KEYS = 64
_VECTOR_CTAS_PER_SM = 8
_VECTOR_FLOP = 4
# fp8 keys and values that are widened to 16 bits before the multiply: unpack, convert at a quarter
# of the rate, scale (L40S: 30 us more for 100 MB in L2 than their bf16 twins).
_WIDEN_FLOP = 24
# FlashAttention-3 multiplies fp8 as it is, but must transpose V through shared memory.
_TRANSPOSE = 2
# FlashAttention-3's code for Ampere: tiles of 128 rows, no overlap of its softmax (A100: 0.81 TB/s
# however many bytes, grouped queries).
_AMPERE_FA3_ROWS = 128
_AMPERE_FA3_SLOWER = Fraction(5, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeTile:
    """Rows and keys of a tile, CTAs an SM, its round trips, factors of tensor and vector work.

    `heads` query heads share a CTA: a group, or one. With `merges_inside` the last CTA to finish
    merges the splits.
    """

    rows: int
    keys: int
    ctas_per_sm: int
    heads: int
    round_trips: int = _CTA_ROUND_TRIPS
    setup_round_trips: int = _SETUP_ROUND_TRIPS
    tensor_factor: Fraction = Fraction(1)
    vector_flop_per_value: int = 0
    merges_inside: bool = False


def decode_tile(op: Attention, target: Target, kernel: DecodeKernel) -> DecodeTile:
    """Return the tile that a decode kernel takes for this operator on this chip."""
    group = op.n_q_heads // op.n_kv_heads * op.q_len
    if kernel is DecodeKernel.VECTOR:
        return _vector_tile(op)
    if _is_ampere_fa3(target, kernel):
        return DecodeTile(
            rows=_AMPERE_FA3_ROWS,
            keys=64,
            ctas_per_sm=1,
            heads=group,
            tensor_factor=_AMPERE_FA3_SLOWER,
        )
    if kernel in (DecodeKernel.FLASHINFER, DecodeKernel.XQA):
        return _narrow_tile(op, target, kernel)
    if target.bulk_copy:
        rows = ceil_div(group, 64) * 64
        factor = Fraction(_TRANSPOSE if _is_fp8(op) else 1)
        return DecodeTile(rows=rows, keys=128, ctas_per_sm=1, heads=group, tensor_factor=factor)
    large = target.shared_memory_bytes >= _LARGE_SHARED_MEMORY
    narrow, usual = op.qk_dim <= _NARROW_HEAD, op.qk_dim <= _USUAL_HEAD
    return DecodeTile(
        rows=ceil_div(group, 64) * 64,
        keys=256 if narrow else 128 if usual else 64,
        ctas_per_sm=2 if large and usual else 1,
        heads=1 if op.window is not None else group,
    )


def _vector_tile(op: Attention) -> DecodeTile:
    """Return the grid of a kernel without tensor cores: a CTA per query head."""
    return DecodeTile(
        rows=0,
        keys=_VECTOR_KEYS,
        ctas_per_sm=_VECTOR_CTAS_PER_SM,
        heads=1,
        round_trips=_NARROW_CTA_ROUND_TRIPS,
        setup_round_trips=_NARROW_SETUP_ROUND_TRIPS,
        vector_flop_per_value=_WIDEN_FLOP if _is_fp8(op) else _VECTOR_FLOP,
    )


def _narrow_tile(op: Attention, target: Target, kernel: DecodeKernel) -> DecodeTile:
    """Return the tile of FlashInfer and XQA: as many rows as a group needs.

    TensorRT-LLM has no XQA for heads of 64 before Hopper and runs a CTA per query head there.
    """
    group = op.n_q_heads // op.n_kv_heads * op.q_len
    xqa = kernel is DecodeKernel.XQA
    apart = xqa and not target.bulk_copy and op.qk_dim <= _NARROW_HEAD
    quick = xqa and target.bulk_copy and _is_fp8(op)
    widens = _is_fp8(op) and not xqa and not target.bulk_copy
    return DecodeTile(
        rows=ceil_div(group, 16) * 16,
        keys=64,
        ctas_per_sm=1 if target.bulk_copy and not quick else 2,
        heads=1 if apart else group,
        round_trips=_XQA_CTA_ROUND_TRIPS if quick else _trips(xqa),
        setup_round_trips=_XQA_SETUP_ROUND_TRIPS if quick else _setup(xqa),
        vector_flop_per_value=_WIDEN_FLOP if widens else 0,
        merges_inside=quick,
    )


def _trips(xqa: bool) -> int:
    return _CTA_ROUND_TRIPS if xqa else _NARROW_CTA_ROUND_TRIPS


def _setup(xqa: bool) -> int:
    return _SETUP_ROUND_TRIPS if xqa else _NARROW_SETUP_ROUND_TRIPS


def _is_fp8(op: Attention) -> bool:
    return op.kv_format.bits == FP8_BITS


def _is_ampere_fa3(target: Target, kernel: DecodeKernel) -> bool:
    large = target.shared_memory_bytes >= _LARGE_SHARED_MEMORY
    return kernel is DecodeKernel.FLASH_ATTENTION_3 and large and not target.bulk_copy


def lower_decode(
    op: Attention, target: Target, engine: Engine, *, split_kv: bool
) -> tuple[Kernel, ...]:
    """Return the kernels of one decode attention: helpers, the attention itself, the merge."""
    tile = decode_tile(op, target, engine.decode)
    tiles = op.batch * op.n_q_heads * op.q_len // tile.heads
    blocks = ceil_div(visible_tokens(op), tile.keys)
    # FlashAttention-2's heuristic reckons with two CTAs an SM whatever fits.
    slots = 1 if target.bulk_copy else 2
    if engine.decode is DecodeKernel.VECTOR:
        slots = tile.ctas_per_sm
    split = choose_splits(tiles, blocks, target.sm_count * slots) if split_kv else 1
    merges = split > 1 or (target.bulk_copy and engine.decode_helpers > 0)
    merges = merges and not tile.merges_inside
    partial_bytes = op.batch * op.n_q_heads * op.q_len * (op.v_dim + 1) * 4 * split
    out = partials(partial_bytes) if merges else segment_of(op.out)
    main = _attention(op, target, tile, out, split)
    before = tuple(_helper(op, f"decode_helper{i}") for i in range(engine.decode_helpers))
    in_turn = engine.decode is DecodeKernel.FLASH_ATTENTION and not target.bulk_copy
    trips = _MERGE_ROUND_TRIPS + (split if in_turn else 0)
    after = (combine(op, out, split, trips),) if merges else ()
    if _swaps(op, target, engine.decode):
        before, after = (*before, _copy(op, "transpose_q")), (*after, _copy(op, "transpose_out"))
    return (*before, main, *after)


def visible_tokens(op: Attention) -> int:
    """Return how many cached tokens some new one sees."""
    return op.context if op.window is None else min(op.context, op.window + op.q_len - 1)


def _attention(op: Attention, target: Target, tile: DecodeTile, out: Segment, split: int) -> Kernel:
    tiles = op.batch * op.n_q_heads * op.q_len // tile.heads
    share = ceil_div(visible_tokens(op), split)
    computed = ceil_div(share, tile.keys) * tile.keys
    per_key = 2 * (op.qk_dim + op.v_dim) + SOFTMAX_TENSOR_FLOP
    sharers = op.n_q_heads // op.n_kv_heads * op.q_len // tile.heads
    read_bytes = ceil_div(op.kv_read_bytes * sharers, tiles * split)
    values = read_bytes * 8 // op.kv_format.bits
    phase = Phase(
        round_trips=tile.round_trips + (_INSIDE_TRIPS if tile.merges_inside and split > 1 else 0),
        steps=2 * (computed // tile.keys),
        loads=(
            Load(segment=0, size_bytes=read_bytes, sharers=sharers),
            Load(segment=1, size_bytes=ceil_div(op.q.size_bytes, tiles), sharers=split),
        ),
        tensor_flop=int(tile.tensor_factor * tile.rows * per_key * computed),
        vector_flop=tile.vector_flop_per_value * values,
        stores=(Store(segment=2, size_bytes=ceil_div(out.size_bytes, tiles * split)),),
    )
    buffer_bytes = target.shared_memory_bytes // tile.ctas_per_sm * 5 // 8
    kv = Segment(
        name=op.kv.name,
        size_bytes=op.kv_read_bytes,
        traffic=op.kv.traffic,
        # Ampere and Ada gather pages in pieces of 16 bytes a thread, Hopper in longer ones.
        tiled=not target.bulk_copy,
    )
    return Kernel(
        name=f"flash_decode_split{split}",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=tiles * split, phases=(phase,), buffer_bytes=buffer_bytes),),
        segments=(kv, segment_of(op.q), out),
        ctas_per_sm=tile.ctas_per_sm,
        flop=operator_flop(op),
        setup_round_trips=tile.setup_round_trips,
    )


def _swaps(op: Attention, target: Target, kernel: DecodeKernel) -> bool:
    swapped = kernel is DecodeKernel.FLASH_ATTENTION and not target.bulk_copy
    return swapped and op.window is None and op.n_q_heads > op.n_kv_heads > 1 and op.batch > 1


def _copy(op: Attention, name: str) -> Kernel:
    """Return a kernel that reads and writes as many bytes as Q has."""
    count = max(1, op.q.size_bytes // (8 * 1024))
    size = ceil_div(op.q.size_bytes, count)
    source = segment_of(op.q)
    target = Segment(name=name, size_bytes=op.q.size_bytes, traffic=Traffic.ACTIVATIONS)
    phase = Phase(
        round_trips=1,
        loads=(Load(segment=0, size_bytes=size),),
        stores=(Store(segment=1, size_bytes=size),),
    )
    return _small(op, name, count, phase, (source, target), _COPY_SETUP_ROUND_TRIPS)


def _helper(op: Attention, name: str) -> Kernel:
    """Return a kernel of one CTA that reads the sequence lengths: a scheduler of splits."""
    lengths = Segment(name="lengths", size_bytes=4 * op.batch, traffic=Traffic.ACTIVATIONS)
    phase = Phase(
        round_trips=1,
        loads=(Load(segment=0, size_bytes=4 * op.batch),),
        stores=(Store(segment=0, size_bytes=4 * op.batch, in_place=True),),
    )
    return _small(op, name, 1, phase, (lengths,))


def _small(
    op: Attention,
    name: str,
    count: int,
    phase: Phase,
    segments: tuple[Segment, ...],
    setup_round_trips: int = 0,
) -> Kernel:
    return Kernel(
        name=name,
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=16 * 1024),),
        segments=segments,
        ctas_per_sm=4,
        flop=0,
        setup_round_trips=setup_round_trips,
    )
