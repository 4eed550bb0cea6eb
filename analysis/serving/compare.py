"""Contestants side by side: where the mean request's time goes, and percentiles."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.base import three_digits
from analysis.figures.canvas import (
    boxes,
    legend,
    line_sample,
    new_figure,
    panels,
    short_name,
)
from analysis.serving.base import NAMED, REQUEST_ORDER, Board, ServeDrawing, colour, request_swatch
from analysis.serving.ticks import log_ticks
from analysis.style import (
    CAUSE_HATCHES,
    FAINT,
    HATCH_COLOURS,
    INK,
    REQUEST_COLOURS,
    SMALL_PT,
    text_colour,
)
from sim.run.serve_answer import mean_request_ps, shares_text
from sim.serving.metrics import Spread
from sim.units import PS_PER_S, format_time

PS_PER_MS = 1e9
LEAST_PS = 1.0
"""What stands for zero on a logarithmic axis."""
BAR = 0.62
LABELLED = 0.07
"""Parts from this share of the longest bar on carry their per cent."""
MARKS = (("p50", "o"), ("p90", "s"), ("p99", "D"))


def draw(board: Board) -> Figure:
    """Draw the bars of the mean requests, and beside them TTFT and TPOT percentiles."""
    count = len(board.results)
    figure = new_figure(
        "Where the mean request's time goes",
        f"{board.heading()} · in the bars: % of the request's time",
        2.7 + 0.75 * max(2, count),
    )
    means = [mean_request_ps(one) for one in board.results]
    used = [c for c in REQUEST_ORDER if any(mean.get(c) for mean in means)]
    handles = [request_swatch(c) for c in used]
    handles += [
        line_sample(name, color=INK, marker=shape, linestyle="None", markersize=6)
        for name, shape in MARKS
    ]
    top_in = legend(figure, handles) + 0.5
    bars, ttft, tpot = panels(figure, 3, 3, top_in)
    _place(figure, (bars, ttft, tpot))
    _bars(bars, means)
    _percentiles(ttft, [one.ttft for one in board.results], "time to first token (ms)")
    _percentiles(tpot, [one.tpot for one in board.results], "time per output token (ms)")
    names = [short_name(name, 1.65, 2, 10) for name in board.names]
    bars.set_yticks(range(count), labels=names)
    return figure


def _place(figure: Figure, axes: tuple[Axes, Axes, Axes]) -> None:
    """Give the bars half of the width, after room for names, and a quarter to each other panel."""
    width = figure.get_figwidth()
    for each, (left, wide) in zip(axes, ((1.85, 5.4), (7.65, 2.2), (10.25, 2.2)), strict=True):
        place = each.get_position()
        each.set_position((left / width, place.y0, wide / width, place.height))


def _bars(axes: Axes, means: list[dict[str, float]]) -> None:
    """Draw a bar per contestant in seconds or ms, with its length behind it."""
    totals_ps = [sum(mean.values()) for mean in means]
    unit, unit_ps = ("s", PS_PER_S) if max(totals_ps) > PS_PER_S else ("ms", PS_PER_MS)
    longest_ps = max(totals_ps)
    starts_ps = [0.0] * len(means)
    for cause in REQUEST_ORDER:
        found = []
        for y, mean in enumerate(means):
            size_ps = mean.get(cause, 0.0)
            left = starts_ps[y] / unit_ps
            if size_ps:
                found.append((left, y - BAR / 2, size_ps / unit_ps, BAR))
            if size_ps > LABELLED * longest_ps:
                share = f"{100 * size_ps / totals_ps[y]:.0f}"
                _share(axes, (left + size_ps / unit_ps / 2, y), share, REQUEST_COLOURS[cause])
            starts_ps[y] += size_ps
        hatch, edge = CAUSE_HATCHES.get(cause, ""), HATCH_COLOURS.get(cause, "white")
        boxes(axes, found, REQUEST_COLOURS[cause], hatch, edge)
    longest = longest_ps / unit_ps
    for y, total_ps in enumerate(totals_ps):
        text = f"{three_digits(total_ps / unit_ps)} {unit}"
        axes.text(total_ps / unit_ps + 0.012 * longest, y, text, va="center")
    axes.set_xlim(0, 1.14 * longest)
    axes.set_ylim(len(means) - 0.5, -0.5)
    axes.set_xlabel(f"time of the mean request ({unit})")
    axes.tick_params(axis="y", left=False)


def _share(axes: Axes, place: tuple[float, float], text: str, background: str) -> None:
    ink = text_colour(background)
    axes.text(*place, text, ha="center", va="center", fontsize=SMALL_PT, color=ink)


def _percentiles(axes: Axes, spreads: list[Spread], label: str) -> None:
    """Draw three marks a contestant on one line; median and p99 carry their number."""
    axes.set_xscale("log")
    shown = [(y, values) for y, values in enumerate(spreads) if values.count]
    for y, values in shown:
        times = [max(LEAST_PS, getattr(values, name)) / PS_PER_MS for name, _ in MARKS]
        axes.plot([times[0], times[-1]], [y, y], color=FAINT, linewidth=4, zorder=1)
        for time, (_, shape) in zip(times, MARKS, strict=True):
            axes.plot([time], [y], shape, color=colour(y), markersize=7, markeredgecolor="white")
        for time, shift in ((times[0], -17), (times[-1], 9)):
            axes.annotate(
                three_digits(time), (time, y), (0, shift), textcoords="offset points",
                ha="center", fontsize=SMALL_PT,
            )  # fmt: skip
    axes.set_ylim(len(spreads) - 0.5, -0.5)
    axes.set_yticks([])
    _range(axes, [t for _, values in shown for t in (values.p50, values.p99)])
    axes.grid(axis="x", linewidth=0.6)
    axes.set_xlabel(label)


def _range(axes: Axes, times_ps: list[float]) -> None:
    """Leave room beside the marks for their numbers."""
    times = [max(LEAST_PS, time_ps) / PS_PER_MS for time_ps in times_ps] or [1.0]
    low, high = min(times), max(times)
    room = max(1.5, (high / low) ** 0.2)
    axes.set_xlim(low / room, high * room)
    log_ticks(axes.xaxis, axes.get_xlim(), most=4)


def caption(board: Board) -> str:
    """Say the largest causes of the mean request of each contestant."""
    parts = [
        f"{one.info.contestant} {format_time(int(one.e2e.mean))}, "
        f"{shares_text(mean_request_ps(one), 2)}"
        for one in board.results
        if one.e2e.count
    ]
    return f"The mean request takes: {'; '.join(parts[:NAMED])}."


COMPARE = ServeDrawing(name="mean_request", draw=draw, caption=caption)
