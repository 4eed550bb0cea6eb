"""Read latency: percentiles along the swept axis, and the whole distribution at one place."""

from itertools import accumulate

from matplotlib.figure import Figure

from analysis.figures.canvas import line_sample, panels, short_name
from analysis.microscope.base import (
    Board,
    Line,
    MicroDrawing,
    contestant_handles,
    figure_of,
    frame,
    mark_line,
    strip,
)
from analysis.serving.ticks import log_ticks
from analysis.style import INK, MUTED
from sim.run.microscope_result import Latency, MicroResult


def draw_percentiles(board: Board) -> Figure:
    """Draw median and p99 of the read latency of every point."""
    figure = figure_of(board, "How long a read takes")
    handles = contestant_handles(board)
    handles.append(line_sample("median", color=INK, linewidth=2.4))
    handles.append(line_sample("p99", color=INK, linewidth=1.1))
    top_in = strip(figure, handles)
    shown = panels(figure, len(board.patterns), board.columns(), top_in, gap=0.75)
    for index, (axes, pattern) in enumerate(zip(shown, board.patterns, strict=True)):
        lines = [_reading(line) for line in board.lines(pattern)]
        lines = [line for line in lines if line.points]
        for line in lines:
            known = [point.latency for point in line.points if point.latency]
            mark_line(axes, line, [one.percentiles_ns[0] for one in known], linewidth=2.4)
            mark_line(axes, line, [one.percentiles_ns[-1] for one in known], linewidth=1.1)
        frame(axes, board, pattern, lines)
        axes.set_yscale("log")
        log_ticks(axes.yaxis, axes.get_ylim(), most=8)
        if index % board.columns() == 0:
            axes.set_ylabel("read latency (ns)")
    return figure


def draw_cdf(board: Board) -> Figure:
    """Draw the distribution of read latencies of each contestant, at one point of a pattern."""
    figure = figure_of(board, "How the latencies of reads are spread")
    top_in = strip(figure, contestant_handles(board))
    shown = panels(figure, len(board.patterns), board.columns(), top_in)
    for index, (axes, pattern) in enumerate(zip(shown, board.patterns, strict=True)):
        where = ""
        for line in map(_reading, board.lines(pattern)):
            if not line.points:
                continue
            point = line.points[len(line.points) // 2]
            where = point.where
            times, shares = _cumulated(point)
            axes.step(times, shares, where="post", color=line.colour, linestyle=line.style)
        title = f"{pattern} · {where}" if where else pattern
        axes.set_title(short_name(title, 11.6 / board.columns(), 1, 10), fontsize=10)
        axes.set_xscale("log")
        log_ticks(axes.xaxis, axes.get_xlim(), most=6)
        axes.set_ylim(0, 101)
        axes.grid(linewidth=0.6)
        axes.axhline(99, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set_xlabel("read latency (ns)")
        if index % board.columns() == 0:
            axes.set_ylabel("% of reads done within")
        else:
            axes.set_yticklabels([])
    return figure


def _reading(line: Line) -> Line:
    """Return the line without points that read nothing."""
    pairs = [(a, p) for a, p in zip(line.at, line.points, strict=True) if p.latency is not None]
    return Line(
        label=line.label,
        colour=line.colour,
        marker=line.marker,
        style=line.style,
        points=tuple(point for _, point in pairs),
        at=tuple(at for at, _ in pairs),
    )


def _cumulated(point: MicroResult) -> tuple[list[float], list[float]]:
    latency = point.latency
    if latency is None:
        return [], []
    used = [index for index, count in enumerate(latency.counts) if count]
    counts = latency.counts[used[0] : used[-1] + 1]
    shares = [0.0, *(100 * total / latency.reads for total in accumulate(counts))]
    return list(latency.edges_ns[used[0] : used[-1] + 2]), shares


def caption_percentiles(board: Board) -> str:
    """Say the shortest and the longest p99."""
    found = [(p.latency, p) for p in board.results.points if p.latency]

    def p99(pair: tuple[Latency, MicroResult]) -> float:
        return pair[0].percentiles_ns[-1]

    low, high = min(found, key=p99), max(found, key=p99)
    ends = (
        f"{p99(pair):,.0f} ns ({pair[1].contestant}, {pair[1].pattern}"
        f"{', ' + pair[1].where if pair[1].where else ''})"
        for pair in (low, high)
    )
    return (
        "99 of 100 reads are done within {} at best and {} at worst. Without an offered load a "
        "read counts from when the queue accepts it; with one, from its arrival.".format(*ends)
    )


def caption_cdf(_board: Board) -> str:
    """Say what is drawn."""
    return "Each panel is the middle of its sweep, the dotted line p99; latency.csv has all points."


def _reads(board: Board) -> bool:
    return any(point.latency for point in board.results.points)


def _sweeps(board: Board) -> bool:
    return _reads(board) and any(point.axes for point in board.results.points)


PERCENTILES = MicroDrawing(
    name="latency", draw=draw_percentiles, caption=caption_percentiles, wanted=_sweeps
)
CDF = MicroDrawing(name="latency_cdf", draw=draw_cdf, caption=caption_cdf, wanted=_reads)
