"""What all figures of microscope runs share: their record, and a board to look things up on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import HEADING_IN, legend, line_sample, new_figure, short_name
from analysis.style import CONTESTANT_COLOURS, CONTESTANT_MARKERS
from sim.run.microscope_result import MicroResult, MicroResults
from sim.scenario.microscope_scenario import Axis

MOST: Final = 6
"""Patterns that a figure shows."""
COLUMNS: Final = 3
STYLES: Final = ("-", "--", ":", "-.")
_CLOSE: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points of one contestant at one place of the second axis, along the first."""

    label: str
    colour: str
    marker: str
    style: str
    points: tuple[MicroResult, ...]
    at: tuple[int, ...]


class Board:
    """The points of a run by pattern, and the lines that they make."""

    def __init__(self, results: MicroResults) -> None:
        self.results = results
        self.patterns = results.patterns[:MOST]

    def heading(self) -> str:
        """Return what every figure says under its title."""
        devices = dict.fromkeys(point.device for point in self.results.points)
        left = len(self.results.patterns) - len(self.patterns)
        more = f" · the first {MOST} of {len(self.results.patterns)} patterns" if left else ""
        size = self.results.total_bytes // 1024
        return f"{', '.join(devices)} · {size} KiB a point · seed {self.results.seed}{more}"

    def of(self, pattern: str) -> list[MicroResult]:
        """Return the points of a pattern."""
        return [point for point in self.results.points if point.pattern == pattern]

    def axes_of(self, pattern: str) -> tuple[Axis | None, Axis | None]:
        """Return the axis along x, numeric and long if there is one, and the other one."""
        points = self.of(pattern)
        axes = points[0].axes

        def size(axis: Axis) -> tuple[bool, int]:
            numeric = isinstance(axis.value, int | float) and not isinstance(axis.value, bool)
            return numeric, len({_axis(p, axis.key).label for p in points})

        ranked = sorted(axes, key=size, reverse=True)
        return (ranked[0] if ranked else None), (ranked[1] if len(ranked) > 1 else None)

    def ticks(self, pattern: str) -> list[str]:
        """Return the labels along x, in the order of the scenario."""
        axis, _ = self.axes_of(pattern)
        labels = (label_of(point, axis) for point in self.of(pattern))
        return list(dict.fromkeys(labels))

    def lines(self, pattern: str) -> list[Line]:
        """Return a line for each contestant and place of the second axis."""
        x_axis, other = self.axes_of(pattern)
        ticks, points = self.ticks(pattern), self.of(pattern)
        places = list(dict.fromkeys(label_of(point, other) for point in points))
        names = self.results.contestants
        found = []
        for nth, name in enumerate(names):
            for which, place in enumerate(places):
                own = [p for p in points if p.contestant == name and label_of(p, other) == place]
                if not own:
                    continue
                index = nth if len(names) > 1 else which
                found.append(
                    Line(
                        label=f"{other.key} {place}" if other else "",
                        colour=CONTESTANT_COLOURS[index % len(CONTESTANT_COLOURS)],
                        marker=CONTESTANT_MARKERS[index % len(CONTESTANT_MARKERS)],
                        style=STYLES[which % len(STYLES)],
                        points=tuple(own),
                        at=tuple(ticks.index(label_of(p, x_axis)) for p in own),
                    )
                )
        return found

    def columns(self) -> int:
        """Return how many panels stand beside each other."""
        return min(COLUMNS, len(self.patterns))


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroDrawing:
    """One kind of figure: how to draw it, and what it shows in a computed sentence."""

    name: str
    draw: Callable[[Board], Figure]
    caption: Callable[[Board], str]
    wanted: Callable[[Board], bool] = lambda _board: True


def label_of(point: MicroResult, axis: Axis | None) -> str:
    """Return where a point lies on an axis, as the scenario says it; empty without an axis."""
    return "" if axis is None else _axis(point, axis.key).label


def _axis(point: MicroResult, key: str) -> Axis:
    return next(axis for axis in point.axes if axis.key == key)


def contestant_handles(board: Board) -> list[Artist]:
    """Return a legend entry for each contestant, none if there is only one."""
    names = board.results.contestants
    if len(names) == 1:
        return []
    return [
        line_sample(
            short_name(name, 3.6, 1, 10),
            color=CONTESTANT_COLOURS[index % len(CONTESTANT_COLOURS)],
            marker=CONTESTANT_MARKERS[index % len(CONTESTANT_MARKERS)],
            linewidth=2,
        )
        for index, name in enumerate(names)
    ]


def frame(axes: Axes, board: Board, pattern: str, lines: Sequence[Line]) -> None:
    """Title, ticks and, for a second axis, a legend of its own."""
    axis, other = board.axes_of(pattern)
    ticks = board.ticks(pattern)
    axes.set_title(short_name(pattern, 11.6 / board.columns(), 1))
    tilted = len(ticks) > _CLOSE
    axes.set_xticks(range(len(ticks)), labels=ticks, rotation=30 if tilted else 0)
    axes.set_xlim(-0.4, len(ticks) - 0.6)
    axes.set_xlabel(key_label(axis.key) if axis else "")
    axes.grid(linewidth=0.6)
    if other is not None:
        shown = {line.label: line for line in lines}
        samples = [
            line_sample(label, color=line.colour, linestyle=line.style)
            for label, line in shown.items()
        ]
        axes.legend(handles=samples, fontsize=8, frameon=False)


def key_label(key: str) -> str:
    """Return a key of a scenario as an axis calls it."""
    return {
        "chunk": "granule", "load": "offered load (share of peak)",
        "read_share": "share of reads", "block": "block (tokens)", "touched": "experts touched",
        "interleave": "bytes of a channel side by side",
    }.get(key, key.replace("_", " "))  # fmt: skip


def figure_of(board: Board, title: str, height_in: float = 0.0) -> Figure:
    """Return an empty figure for panels of all patterns."""
    rows = -(-len(board.patterns) // board.columns())
    return new_figure(title, board.heading(), height_in or 2.0 + 3.5 * rows)


def strip(figure: Figure, handles: Sequence[Artist]) -> float:
    """Put a legend under the heading, if there is one; return where the panels begin, in inches."""
    return 0.5 + (legend(figure, handles) if handles else HEADING_IN)


def mark_line(axes: Axes, line: Line, values: Sequence[float], **style: object) -> None:
    """Draw a line with its markers."""
    given: dict[str, object] = {"linestyle": line.style, "linewidth": 2.0, **style}
    axes.plot(
        line.at, values, color=line.colour, marker=line.marker, markersize=5,
        markeredgecolor="white", markeredgewidth=0.6, **given,  # type: ignore[arg-type]
    )  # fmt: skip
