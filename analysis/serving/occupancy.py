"""How full the server is over time: requests, KV cache and peak rates, tokens."""

from collections.abc import Callable
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import legend, line_sample, new_figure, panels
from analysis.serving.base import Board, ServeDrawing, seconds, title
from analysis.serving.ticks import plain
from analysis.style import CAUSE_COLOURS, REQUEST_COLOURS
from sim.serving.emissions import Floats
from sim.serving.series import Series

LINES: Final[tuple[tuple[str, tuple[tuple[str, str, Callable[[Series], Floats]], ...]], ...]] = (
    (
        "requests",
        (
            ("running", "#1f4e96", lambda s: s.running),
            ("waiting", REQUEST_COLOURS["queue"], lambda s: s.waiting),
        ),
    ),
    (
        "used (%)",
        (
            ("KV cache", "#7a1733", lambda s: 100 * s.kv),
            ("HBM bandwidth (MBU)", "#5f8fce", lambda s: 100 * s.mbu),
            ("FLOP rate (MFU)", CAUSE_COLOURS["vector"], lambda s: 100 * s.mfu),
        ),
    ),
    (
        "tokens/s",
        (
            ("prompt tokens", "#c3a06b", lambda s: s.prompt_tokens_per_s),
            ("generated tokens", "#0b6e5d", lambda s: s.output_tokens_per_s),
        ),
    ),
)
"""Rows of panels: what the y axis says, and its lines."""


def draw(board: Board) -> Figure:
    """Draw three panels above each other per contestant, over the time of the run."""
    count = len(board.shown)
    figure = new_figure(
        "How full the server is over time",
        f"{board.heading()} · means over buckets of time{board.left_out()}",
        8.4,
    )
    handles = [
        line_sample(name, color=ink, linewidth=2) for _, lines in LINES for name, ink, _ in lines
    ]
    top_in = legend(figure, handles) + (0.55 if count > 1 else 0.3)
    found = panels(figure, len(LINES) * count, count, top_in, 0.35)
    for index, axes in enumerate(found):
        row, column = divmod(index, count)
        label, lines = LINES[row]
        values = board.series[column]
        edges = seconds(values.edges_ps)
        for _, ink, line in lines:
            width = 1.6 if count == 1 else 1.1
            axes.stairs(line(values), edges, color=ink, linewidth=width, baseline=None)
        highest = max(float(np.max(line(s))) for s in board.series for _, _, line in lines)
        axes.set_ylim(0, 100 if label == "used (%)" else max(1.0, 1.05 * highest))
        axes.set_xlim(edges[0], edges[-1])
        _frame(axes, label, leftmost=column == 0, lowest=row == len(LINES) - 1)
        if row == 0:
            title(axes, board, column, count)
    return figure


def _frame(axes: Axes, label: str, *, leftmost: bool, lowest: bool) -> None:
    axes.grid(linewidth=0.6)
    if leftmost:
        axes.set_ylabel(label)
        axes.yaxis.set_major_formatter(lambda value, _: plain(value))
    else:
        axes.tick_params(axis="y", labelleft=False)
    if lowest:
        axes.set_xlabel("time since the start of the trace (s)")
    else:
        axes.tick_params(axis="x", labelbottom=False)


def caption(board: Board) -> str:
    """Say how full the KV cache got, how many waited at once, and the mean MBU."""
    parts = [
        f"{one.info.contestant} fills its KV cache to {one.headline.kv_peak:.0%}, keeps "
        f"{values.running.mean():.1f} requests running and {values.waiting.mean():.1f} waiting, "
        f"and reaches {values.mbu.mean():.0%} of its HBM bandwidth"
        for one, values in zip(board.shown, board.series, strict=True)
    ]
    return f"On the mean over the run, {'; '.join(parts)}."


OCCUPANCY = ServeDrawing(name="occupancy", draw=draw, caption=caption)
