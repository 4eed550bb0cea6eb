"""Throughput and latency against the request rate, up to the highest that keeps the SLO."""

from collections.abc import Callable
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import legend, line_sample, new_figure, panels
from analysis.serving.base import NAMED, Board, ServeDrawing, colour, contestant_handles, marker
from analysis.serving.ticks import log_ticks, plain
from analysis.style import INK, MUTED
from sim.run.serve_result import Sweep, SweepPoint

PS_PER_MS = 1e9
Line = Callable[[SweepPoint], float]
PANELS: Final[tuple[tuple[str, str, tuple[Line, ...], str], ...]] = (
    ("Output", "generated tokens/s", (lambda p: p.output_tokens_per_s,), ""),
    (
        "TTFT",
        "time to first token (ms)",
        (lambda p: p.ttft_p50_ps / PS_PER_MS, lambda p: p.ttft_p99_ps / PS_PER_MS),
        "ttft_ps",
    ),
    (
        "TPOT",
        "time per output token (ms)",
        (lambda p: p.tpot_p50_ps / PS_PER_MS, lambda p: p.tpot_p99_ps / PS_PER_MS),
        "tpot_ps",
    ),
)


def draw(board: Board) -> Figure:
    """Draw tokens/s, TTFT and TPOT against the request rate, all contestants in each panel."""
    sweep = board.sweep or Sweep(points=(), max_rate={})
    figure = new_figure(
        "What happens as requests come faster",
        f"{board.heading().split(' at ')[0]} · request rate from low to high",
        6.2,
    )
    handles = contestant_handles(board)
    handles.append(line_sample("median", color=INK, linewidth=2))
    handles.append(line_sample("p99", color=INK, linewidth=1.4, linestyle="--"))
    if sweep.slo:
        handles.append(line_sample("SLO", color=MUTED, linestyle="-.", linewidth=1.4))
    if any(rate is not None for rate in sweep.max_rate.values()):
        handles.append(line_sample("highest rate that keeps the SLO", color=INK, linestyle=":"))
    top_in = legend(figure, handles) + 0.55
    for index, axes in enumerate(panels(figure, len(PANELS), len(PANELS), top_in, gap=0.95)):
        name, label, lines, field = PANELS[index]
        axes.set_title(name)
        axes.set_ylabel(label)
        axes.set_xlabel("request rate (requests/s)")
        for place, contestant in enumerate(board.names):
            _lines(axes, sweep, (place, contestant), lines)
        limit = getattr(sweep.slo, field) if sweep.slo and field else None
        if limit is not None:
            axes.axhline(limit / PS_PER_MS, color=MUTED, linestyle="-.", linewidth=1.4)
        axes.set_xlim(left=0)
        _frame(axes, logarithmic=bool(field))
    return figure


def _lines(axes: Axes, sweep: Sweep, who: tuple[int, str], lines: tuple[Line, ...]) -> None:
    place, contestant = who
    points = sorted((p for p in sweep.points if p.contestant == contestant), key=lambda p: p.rate)
    rates = [p.rate for p in points]
    for nth, line in enumerate(lines):
        style = "--" if nth else "-"
        axes.plot(
            rates, [line(p) for p in points], style, color=colour(place), marker=marker(place),
            markersize=5, markeredgecolor="white", markeredgewidth=0.6, linewidth=1.4 if nth else 2,
        )  # fmt: skip
    rate = sweep.max_rate.get(contestant)
    if rate is not None:
        axes.axvline(rate, color=colour(place), linestyle=":", linewidth=1.6)


def _frame(axes: Axes, *, logarithmic: bool) -> None:
    axes.grid(linewidth=0.6)
    if logarithmic:
        axes.set_yscale("log")
        log_ticks(axes.yaxis, axes.get_ylim(), most=9)
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: plain(value))


def caption(board: Board) -> str:
    """Say the highest rate that keeps the SLO of each contestant searched for."""
    sweep = board.sweep or Sweep(points=(), max_rate={})
    parts = [
        f"{name} keeps the SLO up to {rate:.3g} requests/s"
        if rate is not None
        else f"{name} does not keep it at any rate tried"
        for name, rate in sweep.max_rate.items()
    ]
    most = max((p.output_tokens_per_s for p in sweep.points), default=0.0)
    peak = f"The most tokens generated are {most:,.0f}/s"
    return f"{peak}; {'; '.join(parts[:NAMED])}." if parts else f"{peak}."


SWEEP = ServeDrawing(
    name="rate_sweep",
    draw=draw,
    caption=caption,
    wanted=lambda board: bool(board.sweep and board.sweep.points),
)
