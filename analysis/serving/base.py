"""What all figures of serving runs share: their record, and a board to look things up on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isinf
from typing import Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import line_sample, short_name, swatch
from analysis.style import (
    CAUSE_HATCHES,
    CONTESTANT_COLOURS,
    CONTESTANT_MARKERS,
    HATCH_COLOURS,
    REQUEST_COLOURS,
)
from sim.measure.causes import CAUSES
from sim.run.serve_answer import REQUEST_LABELS
from sim.run.serve_result import Served, Sweep
from sim.run.serve_tables import series_of
from sim.serving.emissions import Floats
from sim.serving.series import Series
from sim.units import PS_PER_S

REQUEST_ORDER: Final = (
    "queue", "prefill_wait", *CAUSES, "interference", "preempted", "kv_transfer",
)  # fmt: skip
"""The causes of a request in the order of a bar: before it runs, its work, then what others do."""
NAMED: Final = 3
"""Contestants that a caption names."""
COLUMNS: Final = 3
"""Contestants that get panels of their own; figures of time have no room for more."""


class Board:
    """The runs of one scenario, in the order of its contestants, and its sweep if there is one."""

    def __init__(self, results: Sequence[Served], sweep: Sweep | None = None) -> None:
        self.results = tuple(results)
        self.sweep = sweep
        self.names = tuple(one.info.contestant for one in results)

    @cached_property
    def series(self) -> tuple[Series, ...]:
        """Return the time series of each run that has a panel of its own."""
        return tuple(series_of(one) for one in self.shown)

    @property
    def shown(self) -> tuple[Served, ...]:
        """Return the runs that have panels of their own."""
        return self.results[:COLUMNS]

    def heading(self) -> str:
        """Return what every figure says under its title."""
        info = self.results[0].info
        rate = "" if isinf(info.request_rate) else f" at {info.request_rate:g} requests/s"
        return f"{info.chip_title} · {info.engine} · {info.config.policy} · {info.trace}{rate}"

    def left_out(self) -> str:
        """Return how many runs have no panel of their own, if any."""
        left = len(self.results) - len(self.shown)
        return f" · the first {len(self.shown)} of {len(self.results)} contestants" if left else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeDrawing:
    """One kind of figure: how to draw it, what it shows in a sentence, and when it is worth it."""

    name: str
    draw: Callable[[Board], Figure]
    caption: Callable[[Board], str]
    wanted: Callable[[Board], bool] = lambda board: any(r.headline.completed for r in board.results)


def colour(index: int) -> str:
    """Return the colour of the contestant at `index`."""
    return CONTESTANT_COLOURS[index % len(CONTESTANT_COLOURS)]


def marker(index: int) -> str:
    """Return the marker of the contestant at `index`."""
    return CONTESTANT_MARKERS[index % len(CONTESTANT_MARKERS)]


def contestant_handles(board: Board) -> list[Artist]:
    """Return a legend entry for each contestant, none if there is only one."""
    if len(board.names) == 1:
        return []
    return [
        line_sample(short_name(name, 3.6, 1, 10), color=colour(index), linewidth=2)
        for index, name in enumerate(board.names)
    ]


def request_swatch(cause: str) -> Artist:
    """Return the legend entry of a cause of a request."""
    hatch, edge = CAUSE_HATCHES.get(cause, ""), HATCH_COLOURS.get(cause, "none")
    return swatch(REQUEST_COLOURS[cause], REQUEST_LABELS[cause], hatch, edge)


def seconds(times_ps: Floats) -> Floats:
    """Return times in seconds."""
    return times_ps / PS_PER_S


def known(values: Floats) -> Floats:
    """Return `values` without NaN."""
    return values[~np.isnan(values)]


def title(axes: Axes, board: Board, index: int, columns: int) -> None:
    """Name the contestant of a panel, if there are several."""
    if len(board.names) > 1:
        axes.set_title(short_name(board.names[index], 11.6 / columns, 1))
