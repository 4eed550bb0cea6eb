"""How evenly the banks are used: a row a point, a column a bank."""

from typing import Final

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.canvas import new_figure, short_name
from analysis.microscope.base import Board, MicroDrawing
from analysis.style import SMALL_PT
from sim.run.microscope_result import MicroResult

MOST_ROWS: Final = 60
FULL: Final = 3.0
"""Times the mean at which the colour is full."""
_ROW_IN, _LEFT_IN, _GAP_IN = 0.19, 3.9, 0.75


def draw(board: Board) -> Figure:
    """Draw the bytes of each bank as multiples of the mean, pattern by pattern."""
    groups = [_shown(board, pattern) for pattern in board.patterns]
    height = 1.5 + sum(_ROW_IN * len(group) + _GAP_IN for group in groups)
    figure = new_figure(
        "Which banks the bytes come from",
        f"{board.heading()} · bytes of a bank over the mean of its channel",
        height,
    )
    top = height - 1.25
    width = float(figure.get_figwidth())
    for pattern, points in zip(board.patterns, groups, strict=True):
        tall = _ROW_IN * len(points)
        place = (_LEFT_IN / width, (top - tall) / height, (width - _LEFT_IN - 1.6) / width)
        axes = figure.add_axes((*place, tall / height))
        table = np.full((len(points), max(len(p.bank_bytes) for p in points)), np.nan)
        for row, point in enumerate(points):
            own = np.array(point.bank_bytes, dtype=float)
            table[row, : len(own)] = own / own.mean()
        image = axes.imshow(
            table, aspect="auto", cmap="Blues", vmin=0, vmax=FULL, interpolation="nearest"
        )
        axes.set_yticks(range(len(points)), labels=[_name(p) for p in points], fontsize=SMALL_PT)
        axes.tick_params(left=False)
        axes.set_title(short_name(pattern, 6, 1))
        top -= tall + _GAP_IN
    axes.set_xlabel("bank, pseudo-channel by pseudo-channel")
    bar = figure.add_axes(((width - 1.25) / width, 1 - 3.4 / height, 0.18 / width, 2.0 / height))
    figure.colorbar(image, cax=bar, ticks=[0, 1, 2, FULL], format="%g x")
    return figure


def _shown(board: Board, pattern: str) -> list[MicroResult]:
    points = board.of(pattern)
    step = -(-len(points) * len(board.patterns) // MOST_ROWS)
    return points[:: max(1, step)]


def _name(point: MicroResult) -> str:
    where = ", ".join(axis.label for axis in point.axes)
    return short_name(f"{point.contestant}  {where}".strip(), 3.5, 1, 9)


def caption(board: Board) -> str:
    """Say how uneven the banks are at the most uneven point."""

    def uneven(point: MicroResult) -> float:
        return max(point.bank_bytes) * len(point.bank_bytes) / sum(point.bank_bytes)

    worst = max((p for name in board.patterns for p in board.of(name)), key=uneven)
    place = f"{worst.contestant}, {worst.pattern}{', ' + worst.where if worst.where else ''}"
    busy = sum(size > 0 for size in worst.bank_bytes)
    return (
        f"Most uneven: {place}, where {busy} of {len(worst.bank_bytes)} banks have bytes and the "
        f"fullest has {uneven(worst):.1f} times the mean. Rows are thinned where there are many."
    )


BANKS = MicroDrawing(name="banks", draw=draw, caption=caption)
