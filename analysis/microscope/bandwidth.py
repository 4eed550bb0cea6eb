"""Bandwidth of the channel along the swept axis, all contestants in each panel."""

from matplotlib.figure import Figure

from analysis.figures.canvas import panels
from analysis.microscope.base import (
    Board,
    MicroDrawing,
    contestant_handles,
    figure_of,
    frame,
    mark_line,
    strip,
)


def draw(board: Board) -> Figure:
    """Draw the share of the peak bandwidth of every point."""
    figure = figure_of(board, "How much of its bandwidth the channel gives")
    top_in = strip(figure, contestant_handles(board))
    shown = panels(figure, len(board.patterns), board.columns(), top_in)
    for index, (axes, pattern) in enumerate(zip(shown, board.patterns, strict=True)):
        lines = board.lines(pattern)
        for line in lines:
            mark_line(axes, line, [100 * p.bandwidth_fraction for p in line.points])
        frame(axes, board, pattern, lines)
        axes.set_ylim(0, 105)
        if index % board.columns() == 0:
            axes.set_ylabel("% of peak bandwidth")
        else:
            axes.set_yticklabels([])
    return figure


def caption(board: Board) -> str:
    """Say the fastest and the slowest point."""
    points = [point for name in board.patterns for point in board.of(name)]
    best = max(points, key=lambda point: point.bandwidth_fraction)
    worst = min(points, key=lambda point: point.bandwidth_fraction)
    told = (
        f"{p.contestant}, {p.pattern}{', ' + p.where if p.where else ''} at "
        f"{p.bandwidth_fraction:.1%} ({p.bytes_per_s / 1e9:.1f} GB/s)"
        for p in (best, worst)
    )
    return "Fastest: {}. Slowest: {}.".format(*told)


BANDWIDTH = MicroDrawing(name="bandwidth", draw=draw, caption=caption)
