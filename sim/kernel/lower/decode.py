"""Decode attention with split KV, as FlashAttention, FlashInfer and TensorRT-LLM's XQA run it.

One CTA per sequence, KV head and split. The query heads of a group fill the rows of one tile, so KV
is read once per KV head. FlashAttention computes tiles of 64 rows however few heads a group has
(`run_mha_fwd_splitkv_dispatch`; FlashAttention-3's `tile_size.h`), FlashInfer and XQA tiles of 16.
Blocks of keys are computed whole. A CTA also makes dependent round trips: lengths, page table and
addresses before its first score, the accumulator's way through shared memory after its last.

FlashAttention-2 regards the heads of a group as query rows by transposing Q and the output, which
copies both where there is more than one sequence and KV head (`seqlenq_ngroups_swapped`).
"""

from dataclasses import dataclass

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
_NARROW_HEAD = 64
# Per CTA and per kernel, in L2 round trips: 8,192 CTAs of 16 tokens take 3.0 us each on an SM of
# H100, 4.0 on A100 and 3.9 on L40S, a third of it their tile (aiconfigurator-core 0.12.0, read
# 2026-11-23); single CTAs of both take 3 us more than an empty kernel.
_CTA_ROUND_TRIPS = 11
_SETUP_ROUND_TRIPS = 8
# fp8 keys and values that are widened to 16 bits before the multiply: unpack, convert at a quarter
# of the rate, scale (L40S: 30 us more for 100 MB in L2 than their bf16 twins).
_WIDEN_FLOP = 24
# FlashAttention-3 multiplies fp8 as it is, but must transpose V through shared memory.
_TRANSPOSE = 2
# FlashAttention-3's code for Ampere: tiles of 128 rows, no overlap of its softmax (A100: 0.81 TB/s
# however many bytes, grouped queries).
_AMPERE_FA3_ROWS = 128
_AMPERE_FA3_SLOWER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeTile:
    """Rows and keys of a tile, CTAs an SM, and factors of its tensor and vector work."""

    rows: int
    keys: int
    ctas_per_sm: int
    tensor_factor: int = 1
    vector_flop_per_value: int = 0


def decode_tile(op: Attention, target: Target, kernel: DecodeKernel) -> DecodeTile:
    """Return the tile that a decode kernel takes for this operator on this chip."""
    group = op.n_q_heads // op.n_kv_heads
    is_fp8 = op.kv_format.bits < 2 * 8
    large = target.shared_memory_bytes >= _LARGE_SHARED_MEMORY
    if kernel is not DecodeKernel.FLASH_ATTENTION and not _is_ampere_fa3(target, kernel):
        return DecodeTile(
            rows=ceil_div(group, 16) * 16,
            keys=64,
            ctas_per_sm=1 if target.bulk_copy else 2,
            vector_flop_per_value=_WIDEN_FLOP if is_fp8 and not target.bulk_copy else 0,
        )
    if target.bulk_copy:
        rows = ceil_div(group, 64) * 64
        return DecodeTile(rows=rows, keys=128, ctas_per_sm=1, tensor_factor=1 + is_fp8)
    narrow, usual = op.qk_dim <= _NARROW_HEAD, op.qk_dim <= _USUAL_HEAD
    keys = 256 if narrow else 128 if usual else 64
    if _is_ampere_fa3(target, kernel):
        return DecodeTile(
            rows=_AMPERE_FA3_ROWS, keys=64, ctas_per_sm=1, tensor_factor=_AMPERE_FA3_SLOWER
        )
    return DecodeTile(
        rows=ceil_div(group, 64) * 64, keys=keys, ctas_per_sm=2 if large and usual else 1
    )


def _is_ampere_fa3(target: Target, kernel: DecodeKernel) -> bool:
    large = target.shared_memory_bytes >= _LARGE_SHARED_MEMORY
    return kernel is DecodeKernel.FLASH_ATTENTION_3 and large and not target.bulk_copy


def lower_decode(
    op: Attention, target: Target, engine: Engine, *, split_kv: bool
) -> tuple[Kernel, ...]:
    """Return the kernels of one decode attention: helpers, the attention itself, the merge."""
    tile = decode_tile(op, target, engine.decode)
    tiles = op.batch * op.n_kv_heads
    tokens = op.context if op.window is None else min(op.context, op.window)
    blocks = ceil_div(tokens, tile.keys)
    split = choose_splits(tiles, blocks, target.sm_count * tile.ctas_per_sm) if split_kv else 1
    partial_bytes = op.batch * op.n_q_heads * (op.v_dim + 1) * 4 * split
    merges = split > 1 or (target.bulk_copy and engine.decode_helpers > 0)
    out = partials(partial_bytes) if merges else segment_of(op.out)
    main = _attention(op, target, tile, out, split)
    before = tuple(_helper(op, f"decode_helper{i}") for i in range(engine.decode_helpers))
    after = (combine(op, out, split),) if merges else ()
    if _swaps(op, target, engine.decode):
        before, after = (*before, _copy(op, "transpose_q")), (*after, _copy(op, "transpose_out"))
    return (*before, main, *after)


def _attention(op: Attention, target: Target, tile: DecodeTile, out: Segment, split: int) -> Kernel:
    tiles = op.batch * op.n_kv_heads
    tokens = op.context if op.window is None else min(op.context, op.window)
    share = ceil_div(tokens, split)
    computed = ceil_div(share, tile.keys) * tile.keys
    widths = op.qk_dim + op.v_dim
    per_key = 2 * widths + SOFTMAX_TENSOR_FLOP
    values = op.kv_read_bytes // max(1, op.kv_format.bits // 8) // (tiles * split)
    phase = Phase(
        round_trips=_CTA_ROUND_TRIPS,
        steps=2 * (computed // tile.keys),
        loads=(
            Load(segment=0, size_bytes=ceil_div(op.kv_read_bytes, tiles * split)),
            Load(segment=1, size_bytes=ceil_div(op.q.size_bytes, tiles), sharers=split),
        ),
        tensor_flop=tile.tensor_factor * tile.rows * per_key * computed,
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
        setup_round_trips=_SETUP_ROUND_TRIPS,
    )


def _swaps(op: Attention, target: Target, kernel: DecodeKernel) -> bool:
    swapped = kernel is DecodeKernel.FLASH_ATTENTION and not target.bulk_copy
    return swapped and op.n_q_heads > op.n_kv_heads > 1 and op.batch > 1


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
    return _small(op, name, count, phase, (source, target))


def _helper(op: Attention, name: str) -> Kernel:
    """Return a kernel of one CTA that reads the sequence lengths: a scheduler of splits."""
    lengths = Segment(name="lengths", size_bytes=4 * op.batch, traffic=Traffic.ACTIVATIONS)
    phase = Phase(
        round_trips=4,
        loads=(Load(segment=0, size_bytes=4 * op.batch),),
        stores=(Store(segment=0, size_bytes=4 * op.batch, in_place=True),),
    )
    return _small(op, name, 1, phase, (lengths,))


def _small(
    op: Attention, name: str, count: int, phase: Phase, segments: tuple[Segment, ...]
) -> Kernel:
    return Kernel(
        name=name,
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=16 * 1024),),
        segments=segments,
        ctas_per_sm=4,
        flop=0,
    )
