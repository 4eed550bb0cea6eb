"""Causal prefill attention: one CTA per block of queries and query head, walking the visible KV.

Every visited block is computed whole, masked or not. The softmax keeps the tensor cores waiting:
FlashAttention-2 and -3 reach about 0.8 of a GEMM's rate with heads of 128, 0.65 with 64 and 0.9
with 256 on L40S and H100, and 0.7 with 128 on A100, whose tensor cores are twice as fast for the
same SFUs (aiconfigurator-core 0.12.0, read 2026-11-27): an eighth of a clock a score on SMs that
multiply in step with their other pipes, a fixed part of the tensor cores' time where warps
specialise.

FlashAttention-2 starts a head's blocks of queries in order, the one that sees most last, so that a
grid of few waves ends on long CTAs; later kernels start with the longest.
"""

from dataclasses import dataclass, replace
from itertools import product

from sim.kernel.engine import PrefillKernel
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Store
from sim.kernel.lower.gemm import segment_of
from sim.kernel.lower.prefill_tiles import Tile, tile_of
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
_MOST_TURNS = 2
# Most kinds of CTA a causal grid is sorted into.
_CAUSAL_KINDS = 8
# Beyond so many waves, CTAs of one kind are simulated as one that runs them in turn.
_MOST_WAVES = 8
# A CTA that walks at least so many tokens is held up by its tensor cores: requests of this part of
# its bytes are fine enough, as more in flight cannot make it faster.
_LONG_TOKENS = 1024
_GRAIN = 16
_PACKS_BELOW = 0.9
_PACKING = (PrefillKernel.FLASHINFER, PrefillKernel.FLASH_ATTENTION_3)


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
    packs = target.bulk_copy or kernel in _PACKING
    packed = packed_heads(op, tile) if packs else 1
    tile = replace(tile, queries=max(1, tile.queries // packed))
    blocks = ceil_div(op.q_len, tile.queries)
    heads = op.batch * op.n_q_heads // packed
    places = target.sm_count * tile.ctas_per_sm
    causal = causal_kinds(op, tile, None if tile.visits_all else op.window)
    fold = max(1, heads * blocks // (places * _MOST_WAVES))
    in_order = kernel is PrefillKernel.FLASH_ATTENTION and not target.bulk_copy and fold == 1
    turns = min(most_turns, heads, ceil_div(heads * blocks, places)) if in_order else 1
    order = causal[::-1] if in_order else causal
    walk = _Walk(op=op, target=target, tile=tile, packed=packed, causal=tuple(causal), fold=fold)
    kinds: list[CtaKind] = []
    for turn, (count, tokens) in product(range(turns), order):
        mine = heads * (turn + 1) // turns - heads * turn // turns
        for n_ctas, in_turn in _folded(mine * count, fold):
            phase = walk.phase(tokens, in_turn)
            kinds.append(CtaKind(count=n_ctas, phases=(phase,), buffer_bytes=walk.buffer_bytes()))
    return Kernel(
        name="flash_prefill",
        operator=op.name,
        part=op.part,
        kinds=tuple(kinds),
        segments=(segment_of(op.kv, op.kv_read_bytes), segment_of(op.q), segment_of(op.out)),
        ctas_per_sm=tile.ctas_per_sm,
        flop=operator_flop(op),
        setup_round_trips=tile.setup_trips,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """How a CTA walks the keys: `packed` query heads share its tile, `fold` tiles are one CTA."""

    op: Attention
    target: Target
    tile: Tile
    packed: int
    causal: tuple[tuple[int, int], ...]
    fold: int

    def phase(self, tokens: int, in_turn: int) -> Phase:
        """Return the phase of a CTA that computes `tokens` keys for `in_turn` tiles in turn."""
        op, tile = self.op, self.tile
        scores = in_turn * self.packed * tile.queries * tokens
        tensor_flop, sfu_ops = softmax_work(self.target, scores)
        tensor_flop += scores * 2 * (op.qk_dim + op.v_dim)
        read = self._token_bytes() * min(tokens, self._seen()) * in_turn
        tiles = op.batch * op.n_q_heads // self.packed * ceil_div(op.q_len, tile.queries)
        return Phase(
            round_trips=tile.cta_trips * in_turn,
            steps=2 * ceil_div(tokens, tile.keys) * in_turn,
            loads=(
                Load(segment=0, size_bytes=read, sharers=self._sharers()),
                Load(segment=1, size_bytes=ceil_div(op.q.size_bytes * in_turn, tiles)),
            ),
            tensor_flop=int(tensor_flop * tile.slower),
            sfu_ops=int(sfu_ops * tile.slower),
            stores=(Store(segment=2, size_bytes=ceil_div(op.out.size_bytes * in_turn, tiles)),),
            overlapped=self.target.bulk_copy,
        )

    def buffer_bytes(self) -> int:
        """Return the bytes of KV that a CTA may have under way."""
        buffer = self.target.shared_memory_bytes // self.tile.ctas_per_sm // 2
        longest = min(max(tokens for _, tokens in self.causal), self._seen())
        if longest < _LONG_TOKENS:
            return buffer
        return max(buffer, self._token_bytes() * longest * self.fold // _GRAIN * 4)

    def _seen(self) -> int:
        op = self.op
        return op.context if op.window is None else min(op.context, op.window + op.q_len - 1)

    def _token_bytes(self) -> int:
        return ceil_div(self.op.kv_read_bytes, self.op.batch * self.op.n_kv_heads * self._seen())

    def _sharers(self) -> int:
        """Return how many CTAs that run together read the same keys."""
        seen, group = self._seen(), self.op.n_q_heads // self.op.n_kv_heads
        asked = sum(count * min(tokens, seen) for count, tokens in self.causal)
        places = self.target.sm_count * self.tile.ctas_per_sm
        return max(1, min(group // self.packed * asked // seen, places))


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
