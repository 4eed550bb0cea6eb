"""The roofline of the chip with the operators of each contestant on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.base import Board, Drawing, sentence
from analysis.figures.canvas import (
    columns_for,
    height_for,
    legend,
    line_sample,
    new_figure,
    panels,
    short_name,
)
from analysis.style import FAINT, INK, MUTED, PART_COLOURS, PART_MARKERS, SMALL_PT
from sim.kernel.formats import WEIGHT_FORMATS
from sim.run.answer import format_context
from sim.run.result import ContestantInfo, OperatorRow, PointResult, Result
from sim.units import PS_PER_S, format_rate

NAMED = 3
LARGEST_PT2: Final = 900.0
"""Area of the marker of an operator that takes the whole step, in square points."""
SMALLEST_PT2: Final = 28.0
TERA = 10**12
APART = 0.08
"""Least vertical distance of two names, as a share of the axes."""
PREFIXES: Final = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"), (1, ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An operator as a place on the chart: intensity, rate and share of its step."""

    row: OperatorRow
    flop_per_byte: float
    flop_per_s: float
    share: float


def draw(result: Result) -> Figure:
    """Draw a panel per contestant: its operators at the smallest and the largest batch."""
    board = Board(result)
    context = board.middle_context()
    columns = columns_for(len(board.names))
    figure = new_figure(
        f"Operators under the roofline at context {format_context(context)}",
        f"{board.heading()} · {format_rate(result.chip.peak_bytes_per_s)} peak · "
        "size: share of step time",
        height_for(-(-len(board.names) // columns)),
    )
    ends = {name: _ends(board, name, context) for name in board.names}
    limits = _limits(result, [mark for pair in ends.values() for p in pair for mark in marks(p)])
    parts = [o.part for pair in ends.values() for p in pair for o in p.operators]
    top_in = legend(figure, _handles(list(dict.fromkeys(parts)))) + 0.4
    for index, axes in enumerate(panels(figure, len(board.names), columns, top_in)):
        name = board.names[index]
        _frame(axes, limits, leftmost=index % columns == 0)
        _roofs(axes, result, result.contestants[index], limits)
        for place, point in enumerate(ends[name]):
            _scatter(axes, marks(point), filled=place == len(ends[name]) - 1)
        _name_longest(axes, ends[name])
        axes.set_title(short_name(name, 11.6 / columns - 1.7, 1) + _batches(ends[name]))
    return figure


def caption(result: Result) -> str:
    """Name the operator that takes most time at the largest batch, and how near its roof it is."""
    board = Board(result)
    context = board.middle_context()
    clauses = []
    for card in result.contestants:
        for point in _ends(board, card.name, context)[-1:]:
            found = marks(point)
            if found:
                clauses.append(_longest(result, card, point, max(found, key=lambda m: m.share)))
    return sentence(clauses[:NAMED], "The longest operator:")


def marks(point: PointResult) -> list[Mark]:
    """Return the operators that have a place on log axes: with FLOP, HBM bytes and time."""
    return [
        Mark(
            row=row,
            flop_per_byte=row.flop / row.hbm_bytes,
            flop_per_s=row.flop * PS_PER_S / row.time_ps,
            share=row.time_ps / point.step_ps,
        )
        for row in point.operators
        if row.flop and row.hbm_bytes and row.time_ps
    ]


def peak_flop_per_s(result: Result, card: ContestantInfo) -> tuple[str, int]:
    """Return the compute format of a contestant's weights and its rate on the chip."""
    rates = result.chip.tensor_flop_per_s
    known = WEIGHT_FORMATS.get(card.weight_format)
    name = known.compute if known and known.compute in rates else max(rates, key=lambda k: rates[k])
    return name, rates[name]


def _longest(result: Result, card: ContestantInfo, point: PointResult, mark: Mark) -> str:
    _, peak = peak_flop_per_s(result, card)
    roof = min(peak, mark.flop_per_byte * result.chip.peak_bytes_per_s)
    return (
        f"{card.name} at batch {point.batch}: {mark.row.operator} with "
        f"{100 * mark.share:.0f} % of the step, at {mark.flop_per_byte:.3g} FLOP per byte and "
        f"{100 * mark.flop_per_s / roof:.0f} % of its roof"
    )


def _ends(board: Board, name: str, context: int) -> tuple[PointResult, ...]:
    line = board.along_batches(name, context)
    return line if len(line) <= 1 else (line[0], line[-1])


def _batches(ends: Sequence[PointResult]) -> str:
    if not ends:
        return ": does not fit"
    return f", batch {' and '.join(str(p.batch) for p in ends)}"


def _limits(result: Result, found: Sequence[Mark]) -> tuple[float, float, float, float]:
    chip = result.chip
    peak = max(chip.tensor_flop_per_s.values())
    ridge = peak / chip.peak_bytes_per_s
    left = min([m.flop_per_byte for m in found], default=0.1)
    right = max([m.flop_per_byte for m in found], default=ridge)
    bottom = min([m.flop_per_s for m in found], default=left * chip.peak_bytes_per_s)
    return left / 3, max(right, 3 * ridge) * 4, bottom / 4, peak * 3


def _frame(axes: Axes, limits: tuple[float, float, float, float], *, leftmost: bool) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    left, right, bottom, top = limits
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    x, y = _decades(left, right), _decades(bottom, top)
    axes.set_xticks(x, labels=[f"{tick:,.10g}" for tick in x])
    axes.set_yticks(y, labels=[_si(tick) if leftmost else "" for tick in y])
    if leftmost:
        axes.set_ylabel("achieved rate (FLOP/s)")
    axes.grid(linewidth=0.6, color=FAINT)
    axes.set_xlabel("FLOP per HBM byte")


def _decades(low: float, high: float) -> list[float]:
    exponents = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    step = 1 if len(exponents) <= 6 else 2  # noqa: PLR2004
    return [10.0**e for e in exponents][::step]


def _si(value: float) -> str:
    for factor, prefix in PREFIXES:
        if value >= factor:
            return f"{value / factor:g}{prefix}"
    return f"{value:g}"


def _roofs(
    axes: Axes, result: Result, card: ContestantInfo, limits: tuple[float, float, float, float]
) -> None:
    """Draw the memory slope, the contestant's compute roof, and the chip's other ones faintly."""
    left, right, _, _ = limits
    bandwidth = result.chip.peak_bytes_per_s
    mine, peak = peak_flop_per_s(result, card)
    rates = result.chip.tensor_flop_per_s
    for rate in sorted(set(rates.values()) - {peak}):
        axes.plot([rate / bandwidth, right], [rate, rate], color=MUTED, linewidth=0.8, alpha=0.6)
    highest = max(rates.values())
    slope = ([left, highest / bandwidth], [left * bandwidth, highest])
    axes.plot(*slope, color=MUTED, linewidth=0.8)
    ridge = peak / bandwidth
    axes.plot([left, ridge, right], [left * bandwidth, peak, peak], color=INK, linewidth=2)
    note = f"roof: {mine}, {peak / TERA:,.0f} TFLOPS"
    axes.text(0.03, 0.96, note, transform=axes.transAxes, va="top", fontsize=SMALL_PT)


def _scatter(axes: Axes, found: Sequence[Mark], filled: bool) -> None:
    for part in dict.fromkeys(mark.row.part for mark in found):
        mine = [mark for mark in found if mark.row.part == part]
        colour = PART_COLOURS.get(part, MUTED)
        axes.scatter(
            [m.flop_per_byte for m in mine],
            [m.flop_per_s for m in mine],
            s=[max(SMALLEST_PT2, LARGEST_PT2 * m.share) for m in mine],
            marker=PART_MARKERS.get(part, "8"),
            facecolors=colour if filled else "white",
            edgecolors="white" if filled else colour,
            linewidths=0.7 if filled else 1.6,
            alpha=0.9,
            zorder=4 if filled else 3,
        )


def _name_longest(axes: Axes, ends: Sequence[PointResult]) -> None:
    """Name the longest operator of each point unless it would touch that of a larger batch."""
    taken: list[float] = []
    for point in reversed(ends):
        mark = max(marks(point), key=lambda m: m.share, default=None)
        if mark is None:
            continue
        low, high = axes.get_ylim()
        height = math.log(mark.flop_per_s / low) / math.log(high / low)
        if all(abs(height - other) > APART for other in taken):
            taken.append(height)
            axes.annotate(
                mark.row.operator,
                xy=(mark.flop_per_byte, mark.flop_per_s),
                xytext=(math.sqrt(LARGEST_PT2 * mark.share) / 2 + 5, -3.0),
                textcoords="offset points",
                va="center",
                fontsize=SMALL_PT,
                zorder=5,
            )


def _handles(parts: Sequence[str]) -> list[Artist]:
    style = {"linestyle": "none", "markersize": 9, "markeredgewidth": 0}
    handles = [
        line_sample(
            part, marker=PART_MARKERS.get(part, "8"), color=PART_COLOURS.get(part, MUTED), **style
        )
        for part in parts
    ]
    hollow = style | {"marker": "o", "markeredgecolor": MUTED, "markeredgewidth": 1.6}
    handles.append(line_sample("hollow: smallest batch", markerfacecolor="white", **hollow))
    handles.append(line_sample("filled: largest batch", markerfacecolor=MUTED, **hollow))
    return handles


ROOFLINE = Drawing(name="roofline", draw=draw, caption=caption)
