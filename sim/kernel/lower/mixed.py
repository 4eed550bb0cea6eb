"""Attention of a chunk of prefill and of decodes in one call, as vLLM's FlashAttention-2 runs it.

`mha_varlen_fwd` starts one grid of (blocks of the longest query, sequences, query heads). It splits
KV and packs the heads of a group only where all queries are single tokens, so beside a chunk every
decode is one CTA for each of its query heads, which walks all of its KV with the chunk's tile of 64
rows, however long that is; and blocks of queries that a decode does not have are CTAs that exit.

Heads are the slowest dimension of the grid: the KV of all sequences for one KV head is a segment,
which the heads of its group read one after the other, or together as far as they run together.
"""

from dataclasses import replace
from typing import Final

from sim.kernel.engine import DecodeKernel, Engine, PrefillKernel
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.decode import lower_decode
from sim.kernel.lower.gemm import segment_of
from sim.kernel.lower.prefill import (
    SOFTMAX_TENSOR_FLOP,
    Tile,
    lower_prefill,
    tile_of,
)
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


def lower_mixed(op: MixedAttention, target: Target, engine: Engine) -> tuple[Kernel, ...]:
    """Return the kernel of all parts, or the kernels of each where an engine runs them apart."""
    together = (
        engine.prefill is PrefillKernel.FLASH_ATTENTION
        and engine.decode is DecodeKernel.FLASH_ATTENTION
        and not target.bulk_copy
    )
    prefills = [part for part in op.attentions if part.q_len > 1]
    decodes = [part for part in op.attentions if part.q_len == 1]
    if not (together and prefills and decodes):
        apart = [lower_decode(part, target, engine, split_kv=True) for part in decodes]
        chunks = [lower_prefill(part, target, engine.prefill) for part in prefills]
        return (*chunks, *(kernel for kernels in apart for kernel in kernels))
    (prefill,) = prefills
    kernel = lower_prefill(prefill, target, engine.prefill)
    tile = tile_of(prefill, target, engine.prefill)
    blocks = ceil_div(prefill.q_len, tile.queries)
    sharers = _sharers(op, target, tile, blocks)
    buffer = target.shared_memory_bytes // tile.ctas_per_sm // 2
    turns = min(_MOST_TURNS, prefill.n_kv_heads)
    segments = list(kernel.segments)
    kinds: list[CtaKind] = []
    walks: list[tuple[Attention, int]] = []
    for part in decodes:
        walks.append((part, len(segments)))
        segments += _segments(part, turns)
    for turn in range(turns):
        for kind in kernel.kinds:
            count = _share(kind.count, turn, turns)
            kinds += [replace(kind, count=count)] if count else []
        for part, first in walks:
            walk = _walk(part, tile, sharers, (first + 2 + turn, first, first + 1))
            walk = replace(walk, round_trips=walk.round_trips + _EXIT_ROUND_TRIPS * (blocks - 1))
            count = _share(part.batch * part.n_q_heads, turn, turns)
            kinds.append(CtaKind(count=count, phases=(walk,), buffer_bytes=buffer))
    return (
        replace(
            kernel,
            name="flash_mixed",
            operator=op.name,
            kinds=tuple(kinds),
            segments=tuple(segments),
            flop=operator_flop(op),
        ),
    )


def _sharers(op: MixedAttention, target: Target, tile: Tile, blocks: int) -> int:
    """Return how many heads of a group run at the same time, with `blocks` blocks of prefill."""
    decodes = [part for part in op.attentions if part.q_len == 1]
    group = decodes[0].n_q_heads // decodes[0].n_kv_heads
    sequences = sum(part.batch for part in decodes)
    at_once = target.sm_count * tile.ctas_per_sm / (sequences + blocks)
    return max(1, min(group, round(at_once)))


def _segments(op: Attention, turns: int) -> list[Segment]:
    """Return the segments of queries and output, then those of the KV of every turn's heads."""
    kv = segment_of(op.kv, ceil_div(op.kv_read_bytes, turns))
    parts = [replace(kv, name=f"{kv.name}.{turn}", tiled=True) for turn in range(turns)]
    return [segment_of(op.q), segment_of(op.out), *parts]


def _walk(op: Attention, tile: Tile, sharers: int, places: tuple[int, int, int]) -> Phase:
    """Return what one decode CTA does; `places` are its segments of KV, queries and output."""
    kv, q, out = places
    count = op.batch * op.n_q_heads
    computed = ceil_div(op.context, tile.keys) * tile.keys
    read_bytes = ceil_div(op.kv_read_bytes, op.batch * op.n_kv_heads)
    per_key = 2 * (op.qk_dim + op.v_dim) + SOFTMAX_TENSOR_FLOP
    return Phase(
        round_trips=_WALK_ROUND_TRIPS,
        steps=2 * (computed // tile.keys),
        loads=(
            Load(segment=kv, size_bytes=read_bytes, sharers=sharers),
            Load(segment=q, size_bytes=ceil_div(op.q.size_bytes, count)),
        ),
        tensor_flop=tile.queries * per_key * computed,
        stores=(Store(segment=out, size_bytes=ceil_div(op.out.size_bytes, count)),),
    )


def _share(count: int, turn: int, turns: int) -> int:
    """Return the CTAs of one of `turns` turns; all turns have `count`."""
    return count * (turn + 1) // turns - count * turn // turns
