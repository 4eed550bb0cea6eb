"""Causal prefill attention: one CTA per block of queries and query head, walking the visible KV.

Tiles are those of FlashAttention (`flash_fwd_launch_template.h` for mma.sync chips, `tile_size.h`
of FlashAttention-3 for Hopper): blocks of queries by blocks of keys that shrink with the head
dimension and with shared memory. Every visited block is computed whole, masked or not. The softmax
keeps the tensor cores waiting: FlashAttention-2 and -3 reach about 0.8 of a GEMM's rate with heads
of 128, 0.65 with 64 and 0.9 with 256 on L40S and H100, and 0.7 with 128 on A100, whose tensor cores
are twice as fast for the same SFUs (aiconfigurator-core 0.12.0, read 2026-11-27): an eighth of a
clock a score on SMs that multiply in step with their other pipes, a fixed part of the tensor cores'
time where warps specialise.

FlashAttention-2 starts a head's blocks of queries in order, the one that sees most last, so that a
grid of few waves ends on long CTAs; later kernels start with the longest.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

from sim.kernel.engine import PrefillKernel
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Store
from sim.kernel.lower.gemm import segment_of
from sim.kernel.operators import Attention
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

# What a score's softmax takes of the tensor cores' time, in FLOP they could have done, where warps
# specialise; and of the SFUs', in operations, where each warp does both: the exponential, and as
# much again for the maximum, the sum and the conversion.
SOFTMAX_TENSOR_FLOP = 133
SOFTMAX_SFU_OPS = 2
# Most turns of heads that a grid in order is cut into.
_MOST_TURNS = 4
# Prologue (lengths, page table, queries, first keys) and epilogue through shared memory.
_CTA_ROUND_TRIPS = 16
_SETUP_ROUND_TRIPS = 8
# Most kinds of CTA a causal grid is sorted into.
_CAUSAL_KINDS = 12
_FLASHINFER_QUERIES = (16, 64, 128)
_NARROW_HEAD, _USUAL_HEAD = 64, 128
# Triton code for Ada reaches 105 to 125 TFLOPS with heads of 64, FlashAttention-2 165
# to 185 (L40S, aiconfigurator-core 0.12.0, read 2026-11-23).
_TRITON_SLOWER = Fraction(3, 2)
# Shared memory of GA100 and later data-centre chips; consumer chips have 100 KiB.
_LARGE_SHARED_MEMORY = 160 * 1024
# Beyond so many waves, CTAs of one kind are simulated as one that runs them in turn.
_MOST_WAVES = 8
# A CTA that walks at least so many tokens is held up by its tensor cores: requests of this part of
# its bytes are fine enough, as more in flight cannot make it faster.
_LONG_TOKENS = 1024
_GRAIN = 16
_PACKS_BELOW = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Queries and keys of one block of scores, and how many such CTAs an SM holds."""

    queries: int
    keys: int
    ctas_per_sm: int


def tile_of(op: Attention, target: Target, kernel: PrefillKernel) -> Tile:
    """Return the tile that FlashAttention picks for a head dimension on this chip.

    With a paged cache FlashAttention-2 takes the tiles of its split-KV kernel
    (`run_mha_fwd_splitkv_dispatch`), here without a split.
    """
    narrow, usual = op.qk_dim <= _NARROW_HEAD, op.qk_dim <= _USUAL_HEAD
    if target.bulk_copy:
        if narrow:
            return Tile(queries=192, keys=128, ctas_per_sm=1)
        return Tile(queries=128, keys=128 if usual else 80, ctas_per_sm=1)
    two_fit = usual and target.shared_memory_bytes >= _LARGE_SHARED_MEMORY
    if kernel in (PrefillKernel.TENSORRT_LLM, PrefillKernel.TRITON):
        return Tile(queries=64, keys=64, ctas_per_sm=2 if usual else 1)
    if kernel is PrefillKernel.FLASHINFER:
        rows = op.q_len * (op.n_q_heads // op.n_kv_heads)
        queries = next((q for q in _FLASHINFER_QUERIES if rows <= q), _FLASHINFER_QUERIES[-1])
        return Tile(queries=queries, keys=64, ctas_per_sm=2 if usual else 1)
    keys = 256 if narrow else 128 if usual else 64
    return Tile(queries=64, keys=keys, ctas_per_sm=2 if two_fit else 1)


def softmax_work(target: Target, scores: int) -> tuple[int, int]:
    """Return the softmax of `scores` as (tensor FLOP, SFU operations)."""
    if target.bulk_copy:
        return SOFTMAX_TENSOR_FLOP * scores, 0
    return 0, SOFTMAX_SFU_OPS * scores


def lower_prefill(
    op: Attention, target: Target, kernel: PrefillKernel, *, most_turns: int = _MOST_TURNS
) -> Kernel:
    """Return the prefill kernel: CTA kinds by how much context their queries see.

    A grid in order is cut into at most `most_turns` turns of heads.
    """
    tile = tile_of(op, target, kernel)
    packs = target.bulk_copy or kernel is PrefillKernel.FLASHINFER
    packed = packed_heads(op, tile) if packs else 1
    tile = replace(tile, queries=max(1, tile.queries // packed))
    blocks = ceil_div(op.q_len, tile.queries)
    heads = op.batch * op.n_q_heads // packed
    seen = op.context if op.window is None else min(op.context, op.window + op.q_len - 1)
    token_bytes = ceil_div(op.kv_read_bytes, op.batch * op.n_kv_heads * seen)
    places = target.sm_count * tile.ctas_per_sm
    slower = _TRITON_SLOWER if kernel is PrefillKernel.TRITON and not target.bulk_copy else 1
    visits_all = kernel is PrefillKernel.TRITON and not target.bulk_copy
    causal = causal_kinds(op, tile, None if visits_all else op.window)
    group = op.n_q_heads // op.n_kv_heads
    asked = group // packed * sum(count * min(tokens, seen) for count, tokens in causal)
    sharers = max(1, min(asked // seen, places))
    fold = max(1, heads * blocks // (places * _MOST_WAVES))
    q_bytes = ceil_div(op.q.size_bytes, heads * blocks)
    out_bytes = ceil_div(op.out.size_bytes, heads * blocks)
    buffer = target.shared_memory_bytes // tile.ctas_per_sm // 2
    longest = min(max(tokens for _, tokens in causal), seen)
    if longest >= _LONG_TOKENS:
        buffer = max(buffer, token_bytes * longest * fold // _GRAIN * 4)
    in_order = kernel is PrefillKernel.FLASH_ATTENTION and not target.bulk_copy and fold == 1
    turns = min(most_turns, heads, ceil_div(heads * blocks, places)) if in_order else 1
    order = causal[::-1] if in_order else causal
    kinds: list[CtaKind] = []
    for turn, (count, tokens) in product(range(turns), order):
        mine = heads * (turn + 1) // turns - heads * turn // turns
        for n_ctas, in_turn in _folded(mine * count, fold):
            read = token_bytes * min(tokens, seen) * in_turn
            scores = in_turn * packed * tile.queries * tokens
            tensor_flop, sfu_ops = softmax_work(target, scores)
            tensor_flop += scores * 2 * (op.qk_dim + op.v_dim)
            phase = Phase(
                round_trips=_CTA_ROUND_TRIPS * in_turn,
                steps=2 * ceil_div(tokens, tile.keys) * in_turn,
                loads=(
                    Load(segment=0, size_bytes=read, sharers=sharers),
                    Load(segment=1, size_bytes=q_bytes * in_turn),
                ),
                tensor_flop=int(tensor_flop * slower),
                sfu_ops=int(sfu_ops * slower),
                stores=(Store(segment=2, size_bytes=out_bytes * in_turn),),
                overlapped=target.bulk_copy,
            )
            kinds.append(CtaKind(count=n_ctas, phases=(phase,), buffer_bytes=buffer))
    return Kernel(
        name="flash_prefill",
        operator=op.name,
        part=op.part,
        kinds=tuple(kinds),
        segments=(segment_of(op.kv, op.kv_read_bytes), segment_of(op.q), segment_of(op.out)),
        ctas_per_sm=tile.ctas_per_sm,
        flop=operator_flop(op),
        setup_round_trips=_SETUP_ROUND_TRIPS,
    )


def packed_heads(op: Attention, tile: Tile) -> int:
    """Return how many query heads of a group share the rows of a tile (1: none).

    FlashAttention-3 packs the whole group where that fills tiles better by a tenth
    (`should_pack_gqa` in heuristics.h); FlashAttention-2 packs in decode only.
    """
    group = op.n_q_heads // op.n_kv_heads
    if group == 1 or group > tile.queries:
        return 1
    apart = op.q_len / (ceil_div(op.q_len, tile.queries) * tile.queries)
    rows = op.q_len * group
    together = rows / (ceil_div(rows, tile.queries) * tile.queries)
    return group if apart < _PACKS_BELOW * together else 1


def _folded(count: int, fold: int) -> list[tuple[int, int]]:
    """Return (CTAs, tiles that each runs in turn) for `count` tiles."""
    whole, rest = divmod(count, fold)
    return [(n, f) for n, f in ((whole, fold), (1, rest)) if n and f]


def causal_kinds(op: Attention, tile: Tile, window: int | None) -> list[tuple[int, int]]:
    """Return (query blocks, keys that each computes), longest first, neighbours taken together.

    Keys come in whole blocks; a window's first block is cut like its last.
    """
    blocks = ceil_div(op.q_len, tile.queries)
    together = ceil_div(blocks, _CAUSAL_KINDS)
    kinds = []
    for first in range(blocks, 0, -together):
        last = max(0, first - together)
        middle = (first + last + 1) * tile.queries // 2
        end = min(op.context, op.context - op.q_len + middle)
        tokens = ceil_div(end, tile.keys) * tile.keys
        if window is not None:
            spanned = ceil_div(window + tile.queries, tile.keys) + 1
            tokens = min(tokens, spanned * tile.keys)
        kinds.append((first - last, tokens))
    return kinds
