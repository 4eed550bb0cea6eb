"""The tables that the command line prints: plain text within 80 columns, made for diffing."""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from sim.run.result import PointResult, Result
from sim.units import format_bytes, format_time

WIDTH: Final = 80
MAX_BATCHES: Final = 5
MAX_CONTEXTS: Final = 3
_HEAD: Final = ("contestant", "batch", "context", "step", "tokens/s", "MBU", "most time goes to")
_NAME_CHARS: Final = 18
# Channels less uneven than this are not worth a sentence.
_CAMPS: Final = 1.01
MAX_COLUMNS: Final = 3


def result_text(result: Result) -> str:
    """Return title, tables, answer and what was not simulated of a run."""
    lines = [*wrapped(result.title), *_setting(result), "", *point_table(result)]
    causes = cause_table(result)
    if causes:
        lines += ["", *causes]
    dram = dram_table(result)
    if dram:
        lines += ["", *dram]
    camping = camping_sentence(result)
    if camping:
        lines += ["", *wrapped(camping)]
    if result.answer:
        lines += ["", *(line for sentence in result.answer for line in wrapped(sentence))]
    notes = [f"{c.name}, not simulated: {note}" for c in result.contestants for note in c.notes]
    if notes:
        lines += ["", *(line for note in notes for line in wrapped(note, rest="  "))]
    return "\n".join(lines)


def point_table(result: Result) -> list[str]:
    """Return the lines of the table of points, thinned to a few batches and contexts."""
    batches = set(spread(result.batches, MAX_BATCHES))
    contexts = set(spread(result.contexts, MAX_CONTEXTS))
    shown = [p for p in result.points if p.batch in batches and p.context in contexts]
    rows: list[tuple[str, ...]] = [_HEAD]
    for name, points in groupby(shown, key=lambda point: point.contestant):
        labels = [cut(name), *[""] * len(shown)]
        rows += [(label, *_cells(point)) for label, point in zip(labels, points, strict=False)]
    lines = aligned(rows, left={0, len(_HEAD) - 1})
    if len(shown) < len(result.points):
        lines += ["", f"{len(shown)} of {len(result.points)} points; all are in points.csv."]
    return lines


def cause_table(result: Result) -> list[str]:
    """Return where the step time goes, in per cent by cause, at one point that shows it.

    The point is the one in the middle of the grid at which the most contestants fit; the columns
    are the first few contestants that fit there, and each adds up to 100.0.
    """
    points = _telling_points(result)[:MAX_COLUMNS]
    if not points:
        return []
    rows = _shares("% of the step", points, [point.ledger_ps for point in points])
    rows.append(("step", *(format_time(point.step_ps) for point in points)))
    where = f"Where the time goes at batch {points[0].batch}, context {points[0].context}:"
    return [where, "", *aligned(rows, left={0})]


def dram_table(result: Result) -> list[str]:
    """Return where the time of the HBM channels goes, at the same point; empty if not looked at."""
    points = _telling_points(result)[:MAX_COLUMNS]
    if not points or not all(point.dram_ps for point in points):
        return []
    rows = _shares("% of the channels' time", points, [point.dram_ps for point in points])
    return ["What HBM does while kernels run:", "", *aligned(rows, left={0})]


def _shares(
    head: str, points: Sequence[PointResult], ledgers: Sequence[dict[str, int]]
) -> list[tuple[str, ...]]:
    """Return rows of per cents by cause, a column a point, each adding up to 100.0."""
    shares = [tenths(ledger) for ledger in ledgers]
    rows: list[tuple[str, ...]] = [(head, *(cut(point.contestant) for point in points))]
    rows += [
        (cause, *(f"{share.get(cause, 0) / 10:.1f}" for share in shares))
        for cause in dict.fromkeys(cause for ledger in ledgers for cause in ledger)
        if any(share.get(cause) for share in shares)
    ]
    rows.append(("sum", *(f"{sum(share.values()) / 10:.1f}" for share in shares)))
    return rows


def camping_sentence(result: Result) -> str:
    """Return where the busiest HBM channel reads most against the mean of all; empty if nowhere."""
    worst = max(result.points, key=lambda point: point.channel_imbalance, default=None)
    if worst is None or worst.channel_imbalance < _CAMPS:
        return ""
    return (
        f"HBM channels are uneven: the busiest reads up to {worst.channel_imbalance:.2f} times the "
        f"mean of all ({worst.contestant}, batch {worst.batch}, context {worst.context})."
    )


def _telling_points(result: Result) -> list[PointResult]:
    groups: dict[tuple[int, int], list[PointResult]] = {}
    for point in result.points:
        if point.fits:
            groups.setdefault((point.batch, point.context), []).append(point)
    most = max(map(len, groups.values()), default=0)
    full = sorted(where for where, points in groups.items() if len(points) == most)
    return groups[full[len(full) // 2]] if full else []


def tenths(ledger_ps: dict[str, int]) -> dict[str, int]:
    """Return a ledger in tenths of a per cent that sum to 1,000: rounded by largest remainder."""
    total = sum(ledger_ps.values())
    parts = {cause: ps * 1000 // total for cause, ps in ledger_ps.items()}
    by_rest = sorted(ledger_ps, key=lambda cause: -(ledger_ps[cause] * 1000 % total))
    for cause in by_rest[: 1000 - sum(parts.values())]:
        parts[cause] += 1
    return parts


def spread(values: Sequence[int], most: int) -> tuple[int, ...]:
    """Return at most `most` of the values, evenly spread, with the first and the last.

    >>> spread([1, 2, 4, 8, 16, 32, 64], 3)
    (1, 8, 64)
    """
    if len(values) <= most:
        return tuple(values)
    last = len(values) - 1
    return tuple(values[round(i * last / (most - 1))] for i in range(most))


def aligned(rows: Sequence[tuple[str, ...]], *, left: Iterable[int] = ()) -> list[str]:
    """Return rows as lines with aligned columns; columns in `left` are flush left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    at_left = set(left)
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i in at_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    """Return `text` as lines of at most 80 columns, with what stands before first and rest."""
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest) or [first]


def in_columns(names: Sequence[str]) -> list[str]:
    """Return names side by side, as many as fit into 80 columns, read downwards."""
    if not names:
        return []
    width = max(map(len, names)) + 2
    per_line = max(1, (WIDTH + 1) // width)
    n_lines = -(-len(names) // per_line)
    return ["".join(n.ljust(width) for n in names[i::n_lines]).rstrip() for i in range(n_lines)]


def _setting(result: Result) -> list[str]:
    return wrapped(f"{result.chip.title}, engine {result.engine}, {result.phase}")


def cut(name: str) -> str:
    """Return `name` as the tables show it, shortened at its end."""
    return name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"


def _cells(point: PointResult) -> tuple[str, ...]:
    where = (str(point.batch), str(point.context))
    if not point.fits:
        return (*where, "-", "-", "-", f"needs {format_bytes(point.memory.total_bytes)}")
    share = point.ledger_ps[point.bound] / sum(point.ledger_ps.values())
    return (
        *where,
        format_time(point.step_ps),
        f"{point.tokens_per_s:.0f}",
        f"{point.mbu:.0%}",
        f"{point.bound} {share:.0%}",
    )
