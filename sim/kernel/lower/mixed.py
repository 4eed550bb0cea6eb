"""Attention of a chunk of prefill and of decodes in one call, as vLLM's FlashAttention-2 runs it.

`mha_varlen_fwd` starts one grid of (blocks of the longest query, sequences, query heads). It splits
KV and packs the heads of a group only where all queries are single tokens, so beside a chunk every
decode is one CTA for each of its query heads, which walks all of its KV with the chunk's tile of 64
rows, however long that is; and blocks of queries that a decode does not have are CTAs that exit.

Heads are the slowest dimension of the grid: the KV of all sequences for one KV head is a segment,
which the heads of its group read one after the other, or together as far as they run together.
"""

from dataclasses import dataclass, replace
from typing import Final

from sim.kernel.engine import AttentionVariant, DecodeKernel, Engine, PrefillKernel
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.decode import lower_decode
from sim.kernel.lower.gemm import segment_of
from sim.kernel.lower.layouts import visible_tokens
from sim.kernel.lower.prefill import SOFTMAX_TENSOR_FLOP, lower_prefill
from sim.kernel.lower.prefill_tiles import Tile, tile_of
from sim.kernel.lower.ragged import joined, lower_ragged, moved, one_of_each
from sim.kernel.operators import Attention, MixedAttention
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

# A CTA that finds no query reads two lengths and exits: 0.33 us on RTX 4090 (LLMServingSim
# @5daddb21: 128 decodes beside chunks of 512 to 2,048, read 2026-11-27).
_EXIT_ROUND_TRIPS: Final = 3
# The heads of the grid are laid out in at most so many turns of prefill and decodes.
_MOST_TURNS: Final = 8
# Prologue and epilogue of a decode: 5.5 us for a single block of keys, 4.1 for each more.
_WALK_ROUND_TRIPS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """What a chunk's kernel imposes on the decodes beside it.

    `exits` CTAs without a query belong to each of a decode's; `sharers` heads of a group run at
    the same time; heads are laid out in `turns`.
    """

    tile: Tile
    exits: int
    sharers: int
    turns: int
    buffer_bytes: int


def lower_mixed(op: MixedAttention, target: Target, engine: Engine) -> tuple[Kernel, ...]:
    """Return the kernel of all parts, or the kernels of each where an engine runs them apart."""
    split_kv = engine.attention is AttentionVariant.FLASH_DECODING
    prefills = [part for part in op.attentions if part.q_len > 1]
    decodes = [part for part in op.attentions if part.q_len == 1]
    if _runs_together(target, engine) and prefills and decodes:
        return (_together(op, prefills, decodes, target),)
    chunks = [lower_prefill(part, target, engine.prefill) for part in prefills]
    kernels = [joined(chunks)] if len(chunks) > 1 else chunks
    if len(decodes) > 1:
        kernels += lower_ragged(decodes, target, engine, split_kv=split_kv)
    for part in decodes if len(decodes) == 1 else ():
        kernels += lower_decode(part, target, engine, split_kv=split_kv)
    return tuple(replace(kernel, operator=op.name) for kernel in kernels)


def _runs_together(target: Target, engine: Engine) -> bool:
    return (
        engine.prefill is PrefillKernel.FLASH_ATTENTION
        and engine.decode is DecodeKernel.FLASH_ATTENTION
        and not target.bulk_copy
    )


def _together(
    op: MixedAttention, prefills: list[Attention], decodes: list[Attention], target: Target
) -> Kernel:
    fa2 = PrefillKernel.FLASH_ATTENTION
    chunk = joined([lower_prefill(part, target, fa2, most_turns=1) for part in prefills])
    grid = _grid(max(prefills, key=lambda part: part.q_len), decodes, target)
    segments = list(chunk.segments)
    first = []
    for part in decodes:
        first.append(len(segments))
        segments += _segments(part, grid.turns)
    kinds: list[CtaKind] = []
    for turn in range(grid.turns):
        of_chunk = (replace(k, count=_share(k.count, turn, grid.turns)) for k in chunk.kinds)
        kinds += [kind for kind in of_chunk if kind.count]
        kinds += [_walks(part, grid, turn, at) for part, at in zip(decodes, first, strict=True)]
    together, places = one_of_each(segments)
    return replace(
        chunk,
        name="flash_mixed",
        operator=op.name,
        kinds=tuple(moved(kind, places) for kind in kinds),
        segments=together,
        flop=operator_flop(op),
    )


def _grid(prefill: Attention, decodes: list[Attention], target: Target) -> _Grid:
    tile = tile_of(prefill, target, PrefillKernel.FLASH_ATTENTION)
    blocks = ceil_div(prefill.q_len, tile.queries)
    of_a_head = blocks + sum(part.batch for part in decodes)
    at_once = round(target.sm_count * tile.ctas_per_sm / of_a_head)
    return _Grid(
        tile=tile,
        exits=blocks - 1,
        sharers=max(1, min(prefill.n_q_heads // prefill.n_kv_heads, at_once)),
        turns=min(_MOST_TURNS, prefill.n_kv_heads),
        buffer_bytes=target.shared_memory_bytes // tile.ctas_per_sm // 2,
    )


def _segments(op: Attention, turns: int) -> list[Segment]:
    """Return the segments of queries and output, then those of the KV of every turn's heads."""
    kv = segment_of(op.kv, ceil_div(op.kv_read_bytes, turns))
    parts = [replace(kv, name=f"{kv.name}.{turn}", tiled=True) for turn in range(turns)]
    return [segment_of(op.q), segment_of(op.out), *parts]


def _walks(op: Attention, grid: _Grid, turn: int, first: int) -> CtaKind:
    """Return one turn's CTAs of decodes, whose segments start at `first`."""
    count = op.batch * op.n_q_heads
    computed = ceil_div(visible_tokens(op), grid.tile.keys) * grid.tile.keys
    kv_bytes = ceil_div(op.kv_read_bytes, op.batch * op.n_kv_heads)
    per_key = 2 * (op.qk_dim + op.v_dim) + SOFTMAX_TENSOR_FLOP
    walk = Phase(
        round_trips=_WALK_ROUND_TRIPS + _EXIT_ROUND_TRIPS * grid.exits,
        steps=2 * (computed // grid.tile.keys),
        loads=(
            Load(segment=first + 2 + turn, size_bytes=kv_bytes, sharers=grid.sharers),
            Load(segment=first, size_bytes=ceil_div(op.q.size_bytes, count)),
        ),
        tensor_flop=grid.tile.queries * per_key * computed,
        stores=(Store(segment=first + 1, size_bytes=ceil_div(op.out.size_bytes, count)),),
    )
    share = _share(count, turn, grid.turns)
    return CtaKind(count=share, phases=(walk,), buffer_bytes=grid.buffer_bytes)


def _share(count: int, turn: int, turns: int) -> int:
    """Return the CTAs of one of `turns` turns; all turns have `count`."""
    return count * (turn + 1) // turns - count * turn // turns
