"""Decode attention of sequences of unequal lengths in one call.

One grid holds all sequences in the order of the batch, which knows nothing of their lengths: here
the lengths take turns. FlashAttention-2 chooses one number of splits for all from the longest
sequence and cuts each sequence into that many parts (`num_splits_heuristic` on `max_seqlen_k`;
`n_blocks_per_split` from `actual_seqlen_k`). FlashAttention-3's scheduler gives every CTA at most a
tenth more blocks of keys than a fair share, so that long sequences get more CTAs
(`num_splits_dynamic` in `flash_prepare_scheduler.cu`), and starts those first whose splits are
longest (`Sort`, on unless attention is local). The schedulers of FlashInfer and XQA split by length
likewise.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Final

from sim.kernel.engine import DecodeKernel, Engine
from sim.kernel.kernel import CtaKind, Kernel, Segment
from sim.kernel.lower.decode import (
    around_decode,
    decode_kernel,
    decode_splits,
)
from sim.kernel.lower.decode_tiles import decode_tile
from sim.kernel.lower.layouts import visible_tokens
from sim.kernel.operators import Attention, Tensor
from sim.kernel.target import Target
from sim.units import ceil_div

# The lengths of a batch are laid out in at most so many turns.
_MOST_TURNS: Final = 4
# "10% margin" in FlashAttention-3's scheduler: no CTA walks more than so many fair shares.
_FAIR_SHARE: Final = Fraction(11, 10)


def lower_ragged(
    parts: Sequence[Attention], target: Target, engine: Engine, *, split_kv: bool
) -> tuple[Kernel, ...]:
    """Return the kernels of one call over batches of equal sequences."""
    whole = as_one(parts)
    splits = _splits(parts, whole, target, engine, split_kv=split_kv)
    order = list(zip(parts, splits, strict=True))
    if target.bulk_copy:
        order.sort(key=lambda pair: visible_tokens(pair[0]) / pair[1], reverse=True)
    most = max(splits)
    kernels = [decode_kernel(part, target, engine, n, merges=most > 1) for part, n in order]
    main = joined(kernels, most_turns=1 if target.bulk_copy else _MOST_TURNS)
    return around_decode(whole, main, most, target, engine)


def as_one(parts: Sequence[Attention]) -> Attention:
    """Return all sequences as a batch of their mean length: the call's queries and output."""
    batch = sum(part.batch for part in parts)
    first = parts[0]
    return replace(
        first,
        batch=batch,
        context=ceil_div(sum(part.batch * part.context for part in parts), batch),
        q=_sum(first.q, sum(part.q.size_bytes for part in parts)),
        out=_sum(first.out, sum(part.out.size_bytes for part in parts)),
        kv=_sum(first.kv, sum(part.kv.size_bytes for part in parts)),
        kv_read_bytes=sum(part.kv_read_bytes for part in parts),
    )


def _sum(tensor: Tensor, size_bytes: int) -> Tensor:
    return replace(tensor, size_bytes=size_bytes)


def _splits(
    parts: Sequence[Attention],
    whole: Attention,
    target: Target,
    engine: Engine,
    *,
    split_kv: bool,
) -> list[int]:
    """Return the splits of each part's sequences."""
    longest = max(parts, key=visible_tokens)
    if engine.decode is DecodeKernel.FLASH_ATTENTION and not target.bulk_copy:
        of_all = decode_splits(
            replace(whole, context=longest.context), target, engine, split_kv=split_kv
        )
        return [of_all] * len(parts)
    if not split_kv:
        return [1] * len(parts)
    of_mean = decode_splits(whole, target, engine, split_kv=True)
    keys = decode_tile(whole, target, engine.decode).keys
    fair = Fraction(ceil_div(visible_tokens(whole), keys), of_mean)
    most = ceil(fair * _FAIR_SHARE)
    return [
        min(ceil_div(ceil_div(visible_tokens(part), keys), most), engine.decode_splits)
        for part in parts
    ]


def joined(kernels: Sequence[Kernel], *, most_turns: int = _MOST_TURNS) -> Kernel:
    """Return one grid of the CTAs of all kernels, which take turns."""
    if len(kernels) == 1:
        return kernels[0]
    segments = [segment for kernel in kernels for segment in kernel.segments]
    together, places = one_of_each(segments)
    turns = min(most_turns, *(kind.count for k in kernels for kind in k.kinds))
    kinds: list[CtaKind] = []
    for turn in range(turns):
        start = 0
        for kernel in kernels:
            own = places[start : start + len(kernel.segments)]
            start += len(kernel.segments)
            for kind in kernel.kinds:
                share = kind.count * (turn + 1) // turns - kind.count * turn // turns
                kinds.append(replace(moved(kind, own), count=share))
    return replace(
        kernels[0],
        name=f"{kernels[0].name}_ragged{len(kernels)}",
        kinds=tuple(kinds),
        segments=together,
        flop=sum(kernel.flop for kernel in kernels),
    )


def one_of_each(segments: Sequence[Segment]) -> tuple[tuple[Segment, ...], list[int]]:
    """Return the segments with those of one name as one, and where each has gone.

    Parts of one tensor add up: queries of decodes and of a chunk lie in one buffer.
    """
    together: dict[str, Segment] = {}
    for segment in segments:
        known = together.get(segment.name)
        size = segment.size_bytes + (known.size_bytes if known else 0)
        together[segment.name] = replace(known or segment, size_bytes=size)
    order = {name: number for number, name in enumerate(together)}
    return tuple(together.values()), [order[segment.name] for segment in segments]


def moved(kind: CtaKind, places: Sequence[int]) -> CtaKind:
    """Return CTAs whose segments have gone to `places`."""
    return replace(
        kind,
        phases=tuple(
            replace(
                phase,
                loads=tuple(replace(x, segment=places[x.segment]) for x in phase.loads),
                stores=tuple(replace(x, segment=places[x.segment]) for x in phase.stores),
            )
            for phase in kind.phases
        ),
    )
