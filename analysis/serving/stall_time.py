"""Where the steps go over time: share of step time by cause."""

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from analysis.figures.canvas import cause_swatch, legend, new_figure, panels
from analysis.serving.base import Board, ServeDrawing, seconds, title
from analysis.style import CAUSE_COLOURS, CAUSE_HATCHES, HATCH_COLOURS
from sim.measure.causes import CAUSES
from sim.run.serve_answer import shares_text, step_causes
from sim.serving.emissions import Floats


def draw(board: Board) -> Figure:
    """Draw a panel per contestant, one above the other: causes stacked over the run."""
    count = len(board.shown)
    figure = new_figure(
        "Where the steps go over time",
        f"{board.heading()} · share of step time by cause{board.left_out()}",
        1.9 + 2.5 * count + (1.6 if count == 1 else 0),
    )
    used = [c for i, c in enumerate(CAUSES) if any(s.stalls[i].any() for s in board.series)]
    top_in = legend(figure, [cause_swatch(c) for c in used]) + (0.55 if count > 1 else 0.3)
    for index, axes in enumerate(panels(figure, count, 1, top_in, 0.95)):
        found = board.series[index]
        below = np.zeros(found.running.size)
        for cause, share in zip(CAUSES, 100 * found.stalls, strict=True):
            if share.any():
                band = PolyCollection(
                    _band(seconds(found.edges_ps), below, below + share),
                    facecolor=CAUSE_COLOURS[cause],
                    edgecolor=HATCH_COLOURS.get(cause, "none"),
                    hatch=CAUSE_HATCHES.get(cause, ""),
                    linewidth=0,
                )
                axes.add_collection(band)
            below = below + share
        axes.set_ylim(0, 100)
        axes.set_xlim(*seconds(found.edges_ps)[[0, -1]])
        axes.set_ylabel("share of step time (%)")
        axes.set_xlabel("time since the start of the trace (s)" if index == count - 1 else "")
        title(axes, board, index, 1)
    return figure


def _band(edges: Floats, low: Floats, high: Floats) -> list[Floats]:
    """Return the outline between two levels that change at the edges of buckets."""
    x = np.repeat(edges, 2)[1:-1]
    upper, lower = np.repeat(high, 2), np.repeat(low, 2)
    return [np.stack([np.append(x, x[::-1]), np.append(upper, lower[::-1])], axis=1)]


def caption(board: Board) -> str:
    """Say the largest causes of all steps of each contestant."""
    parts = [
        f"{one.info.contestant} {shares_text(step_causes(one))}"
        for one in board.shown
        if sum(one.step_causes_ps)
    ]
    return f"Over the whole run the steps spend: {'; '.join(parts)}."


STALL_TIME = ServeDrawing(
    name="stalls_over_time",
    draw=draw,
    caption=caption,
    wanted=lambda board: any(sum(one.step_causes_ps) for one in board.shown),
)
