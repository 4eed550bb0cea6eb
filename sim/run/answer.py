"""Answers the question of a scenario in two or three sentences, from the numbers alone.

Every number in a sentence is read off the points; where two contestants are compared, only the
batches and contexts at which both fit count. Nothing is claimed between the points: a crossover
is reported as the two neighbours that it lies between.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from sim.run.result import ChipInfo, ContestantInfo, PointResult
from sim.units import format_bytes, format_time

CAUSE_LABELS: Final = MappingProxyType(
    {
        "tensor": "tensor cores",
        "vector": "vector ALUs",
        "sfu": "SFUs",
        "sync": "sync in CTA",
        "hbm_bandwidth": "HBM bandwidth",
        "hbm_latency": "HBM latency",
        "l2_bandwidth": "L2 bandwidth",
        "l2_latency": "L2 latency",
        "link": "link bandwidth",
        "link_latency": "link latency",
        "launch": "launch",
        "tail": "tail",
        "host": "host",
    }
)
EQUAL: Final = 1.01
"""Step times within this ratio are called equal."""
NAMED: Final = 3
"""At most this many contestants get a clause of their own."""
COARSE, COARSER = 2, 10

Cells = dict[tuple[int, int], PointResult]


def answer(
    title: str,
    points: Sequence[PointResult],
    contestants: Sequence[ContestantInfo],
    chip: ChipInfo,
) -> tuple[str, ...]:
    """Return two or three plain sentences that answer `title`: who, why, and what does not fit."""
    grids = {c.name: cells(points, c.name) for c in contestants}
    fitting = {name: grid for name, grid in grids.items() if grid}
    if not fitting:
        return (_nothing_fits(title, points, chip),)
    sentences = [_who(fitting), _why(fitting), _misfits(points, contestants, chip)]
    return tuple(sentence for sentence in sentences if sentence)


def cells(points: Iterable[PointResult], contestant: str) -> Cells:
    """Return the points of one contestant that fit, by (batch, context), sorted."""
    found = {(p.batch, p.context): p for p in points if p.contestant == contestant and p.fits}
    return dict(sorted(found.items()))


def format_context(context: int) -> str:
    """Return a context for people: whole multiples of 1,024 tokens in k.

    >>> format_context(131072), format_context(1000)
    ('128k', '1,000')
    """
    thousands, rest = divmod(context, 1024)
    return f"{context:,}" if rest or not thousands else f"{thousands}k"


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def crossings(a: Cells, b: Cells, axis: int) -> dict[int, list[tuple[int, int]]]:
    """Return where the faster of `a` and `b` changes along `axis` (0: batch, 1: context).

    Maps each value of the other axis to the pairs of neighbours between which it changes; equal
    step times belong to neither side. Only points where both fit are looked at.
    """
    lines: dict[int, list[tuple[int, int]]] = {}
    for key in sorted(a.keys() & b.keys()):
        difference_ps = a[key].step_ps - b[key].step_ps
        if difference_ps:
            lines.setdefault(key[1 - axis], []).append((key[axis], difference_ps))
    found = {
        other: [(x, y) for (x, dx), (y, dy) in pairwise(line) if (dx < 0) != (dy < 0)]
        for other, line in lines.items()
    }
    return {other: spans for other, spans in found.items() if spans}


def _nothing_fits(title: str, points: Sequence[PointResult], chip: ChipInfo) -> str:
    if not points:
        return f"'{title}' has no points."
    least = min(points, key=lambda p: p.memory.total_bytes)
    return (
        f"Nothing fits on {chip.title}: even {least.contestant} at {_place(least)}, the smallest "
        f"of {_count(len(points), 'point')}, needs {format_bytes(least.memory.total_bytes)} of "
        f"{format_bytes(least.memory.capacity_bytes)}."
    )


def _who(grids: Mapping[str, Cells]) -> str:
    if len(grids) == 1:
        return _alone(*next(iter(grids.items())))
    first, second = _leaders(grids)
    verdict = _compare(first, grids[first], second, grids[second])
    if len(grids) < NAMED:
        return verdict
    wins = _wins(grids)
    order = sorted(wins, key=lambda name: -wins[name])
    ranking = _join([f"{name} at {wins[name]}" for name in order]) or "none alone at any"
    total = len({key for grid in grids.values() for key in grid})
    return f"Fastest of {len(grids)}: {ranking} of {_count(total, 'point')}; {verdict}"


def _alone(name: str, grid: Cells) -> str:
    low, high = min(grid), max(grid)
    slow, fast = (f(grid.values(), key=lambda p: p.tokens_per_s) for f in (min, max))
    if len(grid) == 1:
        point = grid[low]
        return (
            f"{name} makes {_tokens(point)} at {_place(point)}, a step of "
            f"{format_time(point.step_ps)} at {_of_roofline(point)} of the roofline."
        )
    shares = sorted(p.roofline_ps / p.step_ps for p in grid.values())
    roofline = " to ".join(dict.fromkeys((_percent(shares[0]), _percent(shares[-1]))))
    return (
        f"{name} makes from {_tokens(slow)} at {_place(slow)} to {_tokens(fast)} at "
        f"{_place(fast)}; a step takes {format_time(grid[low].step_ps)} at {_place(grid[low])} "
        f"and {format_time(grid[high].step_ps)} at {_place(grid[high])}, and all steps run at "
        f"{roofline} of the roofline."
    )


def _leaders(grids: Mapping[str, Cells]) -> tuple[str, str]:
    """Return the two contestants that win most points, the first in order if tied."""
    wins = _wins(grids)
    order = sorted(grids, key=lambda name: (-wins[name], -len(grids[name])))
    return order[0], order[1]


def _wins(grids: Mapping[str, Cells]) -> Counter[str]:
    """Count the points at which a contestant is alone the fastest of those that fit."""
    wins: Counter[str] = Counter()
    for key in sorted({key for grid in grids.values() for key in grid}):
        steps = {name: grid[key].step_ps for name, grid in grids.items() if key in grid}
        fastest = [name for name, step_ps in steps.items() if step_ps == min(steps.values())]
        wins.update(fastest if len(fastest) == 1 else ())
    return wins


def _compare(first: str, a: Cells, second: str, b: Cells) -> str:
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return f"{first} and {second} share no point at which both fit."
    ratios = {key: b[key].step_ps / a[key].step_ps for key in shared}
    faster = sum(r > 1 for r in ratios.values())
    if max(ratios.values()) < EQUAL and min(ratios.values()) > 1 / EQUAL:
        return f"{first} and {second} are within 1 % of each other {_everywhere(len(shared))}."
    if 0 < faster < len(shared) and any(r < 1 for r in ratios.values()):
        return f"{first} is faster than {second} at {faster} of the {len(shared)} points where " + (
            f"both fit: {_trend(first, second, ratios)}{_crossover(a, b)}."
        )
    if not faster:
        first, second = second, first
        ratios = {key: 1 / ratio for key, ratio in ratios.items()}
    return f"{first} is faster than {second} {_everywhere(len(shared))}: " + (
        f"{_trend(first, second, ratios)}."
    )


def _everywhere(count: int) -> str:
    return f"at all {count} points where both fit" if count > 1 else "at the one where both fit"


def _trend(first: str, second: str, ratios: Mapping[tuple[int, int], float]) -> str:
    """Say how the ratio goes from the smallest to the largest batch, over the same contexts."""
    batches = sorted({batch for batch, _ in ratios})
    low, high = batches[0], batches[-1]
    both = [context for batch, context in ratios if batch == high and (low, context) in ratios]
    start = _mean(ratios, low, both)
    if low == high:
        return f"{_ratio(first, second, start)} at batch {low}{_over(both)}"
    end = _mean(ratios, high, both)
    until = _ratio(first, second, end, named=(start > 1) != (end > 1))
    return f"{_ratio(first, second, start)} at batch {low}, {until} at batch {high}{_over(both)}"


def _mean(ratios: Mapping[tuple[int, int], float], batch: int, contexts: Sequence[int]) -> float:
    """Return the geometric mean at `batch` over `contexts`, or over all if there are none."""
    chosen = contexts or [context for b, context in ratios if b == batch]
    return geometric_mean([ratios[batch, context] for context in chosen])


def _over(contexts: Sequence[int]) -> str:
    if len(contexts) == 1:
        return f" (context {format_context(contexts[0])})"
    return f" (geometric mean of {len(contexts)} contexts)" if contexts else " (geometric means)"


def _ratio(first: str, second: str, ratio: float, *, named: bool = True) -> str:
    if 1 / EQUAL < ratio < EQUAL:
        return "both equal within 1 %"
    name, times = (first, ratio) if ratio > 1 else (second, 1 / ratio)
    return f"{name} {times_text(times)} times as fast" if named else f"{times_text(times)} times"


def times_text(times: float) -> str:
    """Return a ratio for people: two decimals below 2, one below 10, none above.

    >>> times_text(1.234), times_text(3.14), times_text(25.2)
    ('1.23', '3.1', '25')
    """
    if times < COARSE:
        return f"{times:.2f}"
    return f"{times:.1f}" if times < COARSER else f"{times:.0f}"


def _crossover(a: Cells, b: Cells) -> str:
    for axis, along, other in ((0, "batch", "context"), (1, "context", "batch")):
        found = crossings(a, b, axis)
        if found:
            return "; they cross " + _spans(found, along, other)
    return ""


def _spans(found: Mapping[int, list[tuple[int, int]]], along: str, other: str) -> str:
    """Say between which neighbours the crossings lie, at both ends of the other axis."""
    spans = {
        value: _join([f"{_show(along, low)} and {_show(along, high)}" for low, high in pairs])
        for value, pairs in found.items()
    }
    if len(spans) > 1 and len(set(spans.values())) == 1:
        plural = f"{other}es" if other == "batch" else f"{other}s"
        return f"between {along} {spans[min(spans)]} at {len(spans)} {plural}"
    ends = sorted({min(spans), max(spans)})
    return _join([f"between {along} {spans[e]} at {other} {_show(other, e)}" for e in ends])


def _why(grids: Mapping[str, Cells]) -> str:
    start = "The largest share of the step time goes to"
    if len(grids) > NAMED:
        return f"{start} {_tally(p for grid in grids.values() for p in grid.values())}."
    clauses = [_dominating(grid) for grid in grids.values()]
    if len(clauses) == 1:
        return f"{start} {clauses[0]}."
    named = (f"for {name}, {clause}" for name, clause in zip(grids, clauses, strict=True))
    return f"{start}: {'; '.join(named)}."


def _dominating(grid: Cells) -> str:
    bounds = {p.bound for p in grid.values()}
    if len(bounds) == 1:
        where = "at its only point" if len(grid) == 1 else f"at all {len(grid)} points"
        return f"{CAUSE_LABELS[bounds.pop()]} {where}"
    return f"{_tally(grid.values())}{_switch(grid)}"


def _tally(points: Iterable[PointResult]) -> str:
    counts = Counter(p.bound for p in points)
    order = sorted(counts, key=lambda cause: (-counts[cause], list(CAUSE_LABELS).index(cause)))
    total = sum(counts.values())
    texts = [f"{CAUSE_LABELS[cause]} at {counts[cause]}" for cause in order]
    return f"{_join(texts)} of {_count(total, 'point')}"


def _switch(grid: Cells) -> str:
    """Say where the dominating cause changes with the batch, or else with the context.

    That is told along the representative line, or along the first one that has a change.
    """
    for axis, along, other in ((0, "batch", "context"), (1, "context", "batch")):
        middle = representative(grid.values(), 1 - axis)
        for value in dict.fromkeys((middle, *sorted(key[1 - axis] for key in grid))):
            steps = _changes(grid, axis, value)
            if steps:
                first = f"{along} {_show(along, steps[0][0])} and {_show(along, steps[0][1])}"
                more = f", with {len(steps)} changes in all" if len(steps) > 1 else ""
                where = f"{other} {_show(other, value)}"
                return f" (at {where} {steps[0][2]} between {first}{more})"
    return ""


def _changes(grid: Cells, axis: int, value: int) -> list[tuple[int, int, str]]:
    """Return the neighbours along `axis` between which the cause changes, and how."""
    line = sorted((key[axis], p.bound) for key, p in grid.items() if key[1 - axis] == value)
    return [
        (x, y, f"from {CAUSE_LABELS[before]} to {CAUSE_LABELS[after]}")
        for (x, before), (y, after) in pairwise(line)
        if before != after
    ]


def representative(points: Iterable[PointResult], axis: int) -> int:
    """Return the batch (`axis` 0) or context (1) to show when only one can be shown.

    It is the middle one of those at which every point fits if these are at least half of all,
    else of those at which at least half of the points fit, else of those at which most do. Raises
    ValueError without points.
    """
    fitting: dict[int, list[bool]] = {}
    for p in points:
        fitting.setdefault((p.batch, p.context)[axis], []).append(p.fits)
    shares = {value: sum(fits) / len(fits) for value, fits in sorted(fitting.items())}
    if not shares:
        raise ValueError("no points to choose from")
    best: list[int] = []
    for least, enough in ((1.0, len(shares) / 2), (0.5, 1), (max(shares.values()), 1)):
        best = best or [value for value, share in shares.items() if share >= least]
        best = best if len(best) >= enough else []
    return best[(len(best) - 1) // 2]


def _misfits(
    points: Sequence[PointResult], contestants: Sequence[ContestantInfo], chip: ChipInfo
) -> str:
    clauses = []
    for c in contestants:
        mine = [p for p in points if p.contestant == c.name]
        misfits = [p for p in mine if not p.fits]
        if misfits:
            least = _smallest(misfits) if len(contestants) <= NAMED else ""
            clauses.append(f"{c.name} at {len(misfits)} of {_count(len(mine), 'point')}{least}")
    if not clauses:
        return ""
    return f"Does not fit in {format_bytes(chip.memory_bytes)}: {'; '.join(clauses)}."


def _smallest(misfits: Sequence[PointResult]) -> str:
    least = min(misfits, key=lambda p: p.memory.total_bytes)
    need = format_bytes(least.memory.total_bytes)
    if len(misfits) == 1:
        return f" ({_place(least)}, which needs {need})"
    return f" (the smallest of them, {_place(least)}, needs {need})"


def _show(along: str, value: int) -> str:
    return format_context(value) if along == "context" else str(value)


def _place(p: PointResult) -> str:
    return f"batch {p.batch} and context {format_context(p.context)}"


def _tokens(p: PointResult) -> str:
    return f"{p.tokens_per_s:,.{0 if p.tokens_per_s >= COARSER else 1}f} tokens/s"


def _of_roofline(p: PointResult) -> str:
    return _percent(p.roofline_ps / p.step_ps)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _join(texts: Sequence[str]) -> str:
    if len(texts) <= 1:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"
