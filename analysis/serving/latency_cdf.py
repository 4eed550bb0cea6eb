"""How latencies are spread: the share of requests within a time, measured ones dashed."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import legend, line_sample, new_figure, panels
from analysis.serving.base import NAMED, Board, ServeDrawing, colour, contestant_handles, known
from analysis.serving.ticks import log_ticks
from analysis.style import INK, MUTED
from sim.run.serve_measured import measured_times
from sim.run.serve_result import Served
from sim.serving.emissions import Floats
from sim.units import format_time

PS_PER_MS = 1e9
POINTS = 400
"""Points of a curve: as many as can be told apart."""
PANELS = (
    ("TTFT", "time to first token (ms)", "ttft_ps"),
    ("TPOT", "time per output token (ms)", "tpot_ps"),
    ("E2E", "time to last token (ms)", "e2e_ps"),
)


def draw(board: Board) -> Figure:
    """Draw TTFT, TPOT with inter-token gaps, and E2E, all contestants in each panel."""
    subtitle = f"{board.heading()} · share of requests that took at most so long"
    figure = new_figure("How long requests take", subtitle, 6)
    handles = contestant_handles(board)
    ink = {"color": colour(0) if len(board.names) == 1 else INK}
    handles.append(line_sample("simulated", linewidth=2, **ink))
    if any(one.trace.measured for one in board.results):
        handles.append(line_sample("measured", linestyle="--", linewidth=1.6, **ink))
    handles.append(line_sample("gaps between tokens (ITL)", linewidth=1, linestyle=":", **ink))
    if board.results[0].info.slo:
        handles.append(line_sample("SLO", color=MUTED, linestyle="-.", linewidth=1.4))
    top_in = legend(figure, handles) + 0.55
    for index, axes in enumerate(panels(figure, len(PANELS), len(PANELS), top_in)):
        name, label, field = PANELS[index]
        axes.set_title(name)
        axes.set_xscale("log")
        axes.set_xlabel(label)
        for place, one in enumerate(board.results):
            _curves(axes, one, field, colour(place))
        _limit(axes, board, field)
        _frame(axes, leftmost=index == 0)
    return figure


def curve(values: Floats) -> tuple[Floats, Floats]:
    """Return times in ms and the per cent of `values` within them, thinned to a few hundred.

    The tail keeps its points: half of them stand for the slowest tenth.
    """
    ordered = np.sort(known(values))
    low, high = np.linspace(0, 0.9, POINTS // 2), np.linspace(0.9, 1, POINTS // 2)
    shares = np.concatenate([low, high])
    places = np.round(shares * (ordered.size - 1)).astype(np.int64)
    return ordered[places] / PS_PER_MS, 100 * (places + 1) / ordered.size


def _curves(axes: Axes, one: Served, field: str, ink: str) -> None:
    real = measured_times(one)
    lines: list[tuple[Floats, dict[str, Any]]]
    lines = [(getattr(one.times, field), {"linewidth": 2.0})]
    if real is not None:
        lines.append((getattr(real, field), {"linewidth": 1.6, "linestyle": "--"}))
    if field == "tpot_ps":
        gaps = one.emitted.gaps_ps().astype(np.float64)
        lines.append((gaps, {"linewidth": 1.2, "linestyle": ":"}))
    for values, style in lines:
        if values.size and not np.isnan(values).all():
            axes.plot(*curve(values), color=ink, **style)


def _limit(axes: Axes, board: Board, field: str) -> None:
    slo = board.results[0].info.slo
    limit = getattr(slo, field) if slo else None
    if limit is not None:
        axes.axvline(limit / PS_PER_MS, color=MUTED, linestyle="-.", linewidth=1.4)


def _frame(axes: Axes, *, leftmost: bool) -> None:
    axes.set_ylim(0, 101)
    ticks = [0, 25, 50, 75, 90, 99]
    axes.set_yticks(ticks, labels=[str(t) if leftmost else "" for t in ticks])
    axes.grid(linewidth=0.6)
    log_ticks(axes.xaxis, axes.get_xlim(), most=6)
    if leftmost:
        axes.set_ylabel("requests within (%)")


def caption(board: Board) -> str:
    """Say median and 99th percentile of TTFT and TPOT of each contestant."""
    parts = [
        f"{one.info.contestant}: TTFT {format_time(int(one.ttft.p50))} (p99 "
        f"{format_time(int(one.ttft.p99))}), TPOT {format_time(int(one.tpot.p50))} (p99 "
        f"{format_time(int(one.tpot.p99))})"
        for one in board.results
        if one.ttft.count
    ]
    return f"Medians: {'; '.join(parts[:NAMED])}."


LATENCY_CDF = ServeDrawing(name="latency_cdf", draw=draw, caption=caption)
