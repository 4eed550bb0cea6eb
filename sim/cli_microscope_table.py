"""The tables that the command line prints of microscope runs: plain text within 80 columns."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from sim.cli_table import aligned, spread, tenths, wrapped
from sim.run.microscope_result import CAUSE_NAMES, DRAM_CAUSES, MicroResult, MicroResults

MAX_ROWS: Final = 12
"""Rows of a pattern and contestant; the others are in microscope.csv."""
_HEAD: Final = ("", "of peak", "GB/s", "mean ns", "p50", "p99", "hits", "open")
_SHORT: Final = {
    "row_miss": "miss", "bank_conflict": "bank", "turnaround": "turn",
}  # fmt: skip
_LEGEND: Final = (
    "hits: bursts that found their row open; open: share of time that banks have a row open. Time "
    "is that of the data buses and sums to 100.0: data, miss (row being opened), bank (other row "
    "closed first), FAW (activations limited), turn (read to write), refresh, column, idle."
)
_LABEL: Final = 21
_TINY: Final = 6
_FEW_REFRESHES: Final = 2
"""A run with fewer refreshes of a pseudo-channel than this says little about them."""


def microscope_text(results: MicroResults) -> str:
    """Return title, and for each pattern a table of rates and one of time by cause."""
    lines = [*wrapped(results.title), *wrapped(_setting(results))]
    for pattern in results.patterns:
        points = [point for point in results.points if point.pattern == pattern]
        lines += ["", *pattern_tables(_heading(points[0]), points)]
    lines += ["", *wrapped(_LEGEND), *(line for note in notes(results) for line in wrapped(note))]
    return "\n".join(lines)


def pattern_tables(name: str, points: Sequence[MicroResult]) -> list[str]:
    """Return what was measured of one pattern, then where the time of its data buses went."""
    shown = [point for one in _by_contestant(points) for point in thinned(one)]
    labels = _labels(shown)
    rates: list[tuple[str, ...]] = [_HEAD]
    rates += [(label, *_cells(point)) for label, point in zip(labels, shown, strict=True)]
    causes = [c for c in DRAM_CAUSES if any(point.cause_edges[c] for point in shown)]
    head = ("% of time", *(_SHORT.get(c, CAUSE_NAMES[c]) for c in causes))
    times: list[tuple[str, ...]] = [head]
    for label, point in zip(labels, shown, strict=True):
        share = tenths(point.cause_edges)
        times.append((label, *(f"{share[cause] / 10:.1f}" for cause in causes)))
    lines = [*wrapped(f"{name}:"), "", *aligned(rates, left={0}), "", *aligned(times, left={0})]
    if len(shown) < len(points):
        text = f"{len(shown)} of {len(points)} points; all are in microscope.csv."
        lines += ["", text]
    return lines


def thinned(points: Sequence[MicroResult]) -> list[MicroResult]:
    """Return at most `MAX_ROWS` of the points, evenly spread, with the first and the last."""
    return [points[i] for i in spread(range(len(points)), MAX_ROWS)]


def _by_contestant(points: Iterable[MicroResult]) -> list[list[MicroResult]]:
    return [list(group) for _, group in groupby(points, key=lambda point: point.contestant)]


def _labels(points: Sequence[MicroResult]) -> list[str]:
    """Return the names of rows: the contestant where it begins, and the place on the axes."""
    places = [" ".join(axis.label for axis in point.axes) for point in points]
    wide = max(map(len, places), default=0)
    several = len({point.contestant for point in points}) > 1
    room = max(_TINY, _LABEL - wide - 2)
    found, last = [], ""
    for point, place in zip(points, places, strict=True):
        name = "" if point.contestant == last or (place and not several) else point.contestant
        last = point.contestant
        short = name if len(name) <= room else f"{name[: room - 1]}…"
        found.append(f"{short:{room}}  {place:>{wide}}" if several else short or place)
    return found


def _cells(point: MicroResult) -> tuple[str, ...]:
    latency = point.latency
    times = ("-", "-", "-")
    if latency is not None:
        p50, p99 = latency.percentiles_ns[0], latency.percentiles_ns[-1]
        times = (f"{latency.mean_ns:.0f}", f"{p50:.0f}", f"{p99:.0f}")
    return (
        f"{point.bandwidth_fraction:.1%}",
        f"{point.bytes_per_s / 1e9:.1f}",
        *times,
        f"{point.row_hit_rate:.1%}",
        f"{point.bank_utilisation:.1%}",
    )


def _heading(point: MicroResult) -> str:
    axes = " x ".join(axis.key for axis in point.axes)
    return f"{point.pattern}, by {axes}" if axes else point.pattern


def notes(results: MicroResults) -> list[str]:
    """Return what a reader should know before trusting the numbers."""
    few = [
        point
        for point in results.points
        if point.refresh == "all_bank" and point.refreshes < _FEW_REFRESHES * point.pseudo_channels
    ]
    if not few:
        return []
    return [
        f"Points that saw fewer than {_FEW_REFRESHES} all-bank refreshes of a pseudo-channel: "
        f"{len(few)}. More bytes would show what refresh costs."
    ]


def _setting(results: MicroResults) -> str:
    told = []
    for name in results.contestants:
        own = [point for point in results.points if point.contestant == name]
        facts = [
            " or ".join(dict.fromkeys(getattr(point, key) for point in own))
            for key in ("device", "map_label", "refresh")
        ]
        told.append(f"{name}: {facts[0]}, map {facts[1]}, refresh {facts[2]}")
    return (
        f"One channel, {results.total_bytes // 1024} KiB a point, seed {results.seed}. "
        + "; ".join(told)
    )
