"""Where the time of the data buses goes: a bar a point, split by cause."""

from typing import Final

from matplotlib.figure import Figure

from analysis.figures.canvas import legend, new_figure, panels, short_name, swatch
from analysis.figures.stacks import Bar, draw_bars, label_shares
from analysis.microscope.base import Board, MicroDrawing, key_label
from analysis.style import DRAM_COLOURS
from sim.run.microscope_result import CAUSE_NAMES, MicroResult

COLUMNS: Final = 4
MOST_ROWS: Final = 6
MOST_BARS: Final = 12
ROOMY: Final = 6


def draw(board: Board) -> Figure:
    """Draw a panel for each pattern and contestant: bars along the swept axis."""
    groups = _groups(board)
    columns = min(COLUMNS, len(board.results.contestants)) if len(groups) > COLUMNS else len(groups)
    rows = -(-len(groups) // columns)
    figure = new_figure(
        "Where the time of the data bus goes",
        f"{board.heading()} · above each bar: % of peak bandwidth",
        2.0 + 3.1 * rows,
    )
    handles = [swatch(colour, CAUSE_NAMES[cause]) for cause, colour in DRAM_COLOURS.items()]
    top_in = legend(figure, handles) + 0.65
    shown = panels(figure, len(groups), columns, top_in, between=1.25)
    for index, (axes, points) in enumerate(zip(shown, groups, strict=True)):
        bars = [
            Bar(parts=point.cause_edges, above=f"{100 * point.bandwidth_fraction:.0f}")
            for point in points
        ]
        axis, other = board.axes_of(points[0].pattern)
        ticks = [
            "\n".join(
                a.label for a in sorted(point.axes, key=lambda a: axis is None or a.key != axis.key)
            )
            for point in points
        ]
        draw_bars(axes, bars, DRAM_COLOURS, ticks)
        if len(bars) > ROOMY:
            axes.tick_params(axis="x", labelsize=7)
        if other is None and axis is not None:
            axes.set_xlabel(key_label(axis.key))
        label_shares(axes, "% of time", leftmost=index % columns == 0)
        name = f"{points[0].pattern} · {points[0].contestant}"
        axes.set_title(short_name(name, 11.6 / columns, 1, 10), pad=22, fontsize=10)
    return figure


def _groups(board: Board) -> list[list[MicroResult]]:
    """Return the points of each panel, at most `MOST_BARS` of them."""
    found = []
    for pattern in board.patterns[:MOST_ROWS]:
        for name in board.results.contestants[:COLUMNS]:
            own = [point for point in board.of(pattern) if point.contestant == name]
            step = -(-len(own) // MOST_BARS)
            if own:
                found.append(own[::step])
    return found


def caption(board: Board) -> str:
    """Say which cause but data takes most time over all points."""
    sums = dict.fromkeys(DRAM_COLOURS, 0.0)
    points = board.results.points
    for point in points:
        total = sum(point.cause_edges.values())
        for cause, edges in point.cause_edges.items():
            sums[cause] += edges / total / len(points)
    lost = {cause: share for cause, share in sums.items() if cause != "data"}
    first, second = sorted(lost, key=lambda cause: -lost[cause])[:2]
    left = len(board.results.contestants) - COLUMNS
    more = f" Contestants without a panel: {left}; they are in the table." if left > 0 else ""
    return (
        f"On average over all points {sums['data']:.0%} of the time carries data; most of the rest "
        f"is {CAUSE_NAMES[first]} ({lost[first]:.0%}) and {CAUSE_NAMES[second]} "
        f"({lost[second]:.0%}). A gap is idle only while nothing waits.{more}"
    )


CAUSES = MicroDrawing(name="time_by_cause", draw=draw, caption=caption)
