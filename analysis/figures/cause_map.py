"""The plane of batch and context: what dominates each point, and who is fastest where."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from analysis.figures.base import Board, Drawing, three_digits, time_unit
from analysis.figures.canvas import (
    boxes,
    cause_swatch,
    columns_for,
    height_for,
    legend,
    line_sample,
    misfit_swatch,
    new_figure,
    panels,
    short_name,
    swatch,
)
from analysis.style import (
    CAUSE_COLOURS,
    CAUSE_HATCHES,
    CONTESTANT_COLOURS,
    HATCH_COLOURS,
    mixed,
    text_colour,
)
from sim.measure.causes import CAUSES
from sim.run.answer import CAUSE_LABELS, EQUAL, format_context, times_text
from sim.run.result import PointResult, Result

Cell = tuple[int, int]
Labels = Mapping[Cell, str]

GROUPS: Final = MappingProxyType(
    {c: "memory" for c in CAUSES if c.startswith(("hbm_", "l2_"))}
    | dict.fromkeys(("tensor", "vector", "sfu"), "compute")
)
CROSSOVER_STYLE: Final = MappingProxyType({"color": "#e5007d", "linestyle": (0, (2.2, 1.2))})
SWITCH_STYLE: Final = MappingProxyType({"color": "#000000", "linestyle": "solid"})
FULL_RATIO = 3.0
"""From this lead on, a cell of the winner's panel has the full colour."""


def draw(result: Result) -> Figure:
    """Draw a map per contestant, and for two or more a panel of who is fastest."""
    board = Board(result)
    unit, unit_ps = time_unit(p.step_ps for p in board.fitting)
    count = len(board.names) + (len(board.names) > 1)
    columns = columns_for(count)
    figure = new_figure(
        "What dominates the step, over batch and context",
        f"{board.heading()} · colour: cause with the largest share; numbers: step time in {unit}",
        height_for(-(-count // columns)),
    )
    winners = fastest(board)
    crossover = crossover_line(board, winners)
    top_in = legend(figure, _handles(board, crossover, winners)) + 0.55
    for index, axes in enumerate(panels(figure, count, columns, top_in, 1.35)):
        _frame(axes, board, index % columns == 0)
        if index < len(board.names):
            name = board.names[index]
            _contestant_panel(axes, board, name, unit_ps)
            _lines(axes, crossover, CROSSOVER_STYLE)
            axes.set_title(short_name(name, 11.6 / columns))
        else:
            _winner_panel(axes, board, winners)
            _lines(axes, crossover, CROSSOVER_STYLE)
            axes.set_title(short_name("Fastest, and its lead over the next", 11.6 / columns))
    return figure


def caption(result: Result) -> str:
    """Say which causes dominate how often, and how many points do not fit."""
    board = Board(result)
    counts = Counter(p.bound for p in board.fitting)
    total = len(result.points)
    misfits = total - len(board.fitting)
    if not counts:
        return f"None of the {total} points fits."
    fitting = len(board.fitting)
    causes = ", ".join(f"{CAUSE_LABELS[c]} at {n}" for c, n in counts.most_common())
    causes = f"{causes} of {fitting}" if len(counts) > 1 else causes.replace("at ", "at all ")
    missing = f" that fit; {misfits} do not" if misfits else ""
    return f"The largest share of the step goes to {causes} points{missing}."


def fastest(board: Board) -> dict[Cell, str]:
    """Return the contestant with the shortest step in each cell where anything fits."""
    winners = {}
    for cell, points in _columns(board):
        if points:
            winners[cell] = min(points, key=lambda p: p.step_ps).contestant
    return winners


def borders(labels: Labels) -> list[tuple[Cell, Cell]]:
    """Return the neighbouring cells whose labels differ, in grid order."""
    found: list[tuple[Cell, Cell]] = []
    for (x, y), label in sorted(labels.items()):
        neighbours = ((x + 1, y), (x, y + 1))
        found.extend(((x, y), n) for n in neighbours if labels.get(n, label) != label)
    return found


def crossover_line(board: Board, winners: Labels) -> list[tuple[Cell, Cell]]:
    """Return the borders where one contestant overtakes another, not where one no longer fits."""
    fitting = {cell: {p.contestant for p in points} for cell, points in _columns(board)}
    return [
        (a, b) for a, b in borders(winners) if {winners[a], winners[b]} <= fitting[a] & fitting[b]
    ]


def switches(board: Board, name: str) -> list[tuple[Cell, Cell]]:
    """Return the neighbouring cells between which memory gives way to compute."""
    groups = {
        cell: GROUPS[p.bound]
        for cell, points in _columns(board)
        for p in points
        if p.contestant == name and p.bound in GROUPS
    }
    return borders(groups)


def _columns(board: Board) -> list[tuple[Cell, list[PointResult]]]:
    rows = []
    for x, batch in enumerate(board.batches):
        for y, context in enumerate(board.contexts):
            points = [board.at(name, batch, context) for name in board.names]
            rows.append(((x, y), [p for p in points if p is not None and p.fits]))
    return rows


def _frame(axes: Axes, board: Board, leftmost: bool) -> None:
    axes.set_xlim(-0.5, len(board.batches) - 0.5)
    axes.set_ylim(-0.5, len(board.contexts) - 0.5)
    axes.set_xticks(range(len(board.batches)), labels=[str(b) for b in board.batches])
    axes.tick_params(bottom=False, left=False)
    axes.set_xlabel("batch (sequences)")
    if leftmost:
        contexts = [format_context(context) for context in board.contexts]
        axes.set_yticks(range(len(contexts)), labels=contexts)
        axes.set_ylabel("context (tokens)")
    else:
        axes.set_yticks([])


def _contestant_panel(axes: Axes, board: Board, name: str, unit_ps: int) -> None:
    by_cause: dict[str, list[Cell]] = {}
    misfits: list[Cell] = []
    size = _cell_points(axes, board)
    for x, batch in enumerate(board.batches):
        for y, context in enumerate(board.contexts):
            point = board.at(name, batch, context)
            if point is None or not point.fits:
                misfits.append((x, y))
                continue
            by_cause.setdefault(point.bound, []).append((x, y))
            colour = text_colour(CAUSE_COLOURS[point.bound])
            _write(axes, (x, y), three_digits(point.step_ps / unit_ps), colour, size)
    for cause, cells in by_cause.items():
        hatch, edge = CAUSE_HATCHES.get(cause, ""), HATCH_COLOURS.get(cause, "white")
        boxes(axes, _squares(cells), CAUSE_COLOURS[cause], hatch, edge)
    boxes(axes, _squares(misfits), "white", hatch="////")
    _lines(axes, switches(board, name), SWITCH_STYLE)


def _winner_panel(axes: Axes, board: Board, winners: Labels) -> None:
    size = _cell_points(axes, board)
    misfits, colours = [], {}
    for cell, points in _columns(board):
        if not points:
            misfits.append(cell)
            continue
        steps = sorted(p.step_ps for p in points)
        ratio = steps[1] / steps[0] if len(steps) > 1 else 0.0
        colours[cell] = _shade(CONTESTANT_COLOURS[board.names.index(winners[cell]) % 8], ratio)
        _write(axes, cell, _lead(ratio), text_colour(colours[cell]), size)
    corners = [
        [(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h in _squares(list(colours))
    ]
    shades = list(colours.values())
    axes.add_collection(
        PolyCollection(corners, facecolors=shades, edgecolors="white", linewidths=0.6)
    )
    boxes(axes, _squares(misfits), "white", hatch="////")


def _lead(ratio: float) -> str:
    if not ratio:
        return "only"
    return "=" if ratio < EQUAL else f"{times_text(ratio)}x"


def _shade(colour: str, ratio: float) -> str:
    """Return `colour` mixed with white: the smaller the lead, the paler; 0 means no rival."""
    lead = 1.0 if not ratio else min(1.0, (ratio - 1) / (FULL_RATIO - 1))
    return mixed(colour, 0.25 + 0.75 * lead**0.6)


def _squares(cells: Sequence[Cell]) -> list[tuple[float, float, float, float]]:
    return [(x - 0.5, y - 0.5, 1.0, 1.0) for x, y in cells]


def _cell_points(axes: Axes, board: Board) -> float:
    """Return the font size at which five digits fit a cell."""
    figure = axes.get_figure(root=True)
    width = axes.get_position().width * (figure.get_figwidth() if figure else 1)
    cell = width / max(1, len(board.batches))
    return max(5.5, min(11.0, cell * 72 / (5 * 0.74)))


def _write(axes: Axes, cell: Cell, text: str, colour: str, size: float) -> None:
    axes.text(*cell, text, ha="center", va="center", fontsize=size, color=colour)


def _lines(axes: Axes, edges: Sequence[tuple[Cell, Cell]], style: Mapping[str, Any]) -> None:
    """Draw the sides that pairs of neighbouring cells share, on a white casing."""
    if not edges:
        return
    sides = []
    for (x, y), (other, _) in edges:
        if other > x:
            sides.append([(x + 0.5, y - 0.5), (x + 0.5, y + 0.5)])
        else:
            sides.append([(x - 0.5, y + 0.5), (x + 0.5, y + 0.5)])
    axes.add_collection(LineCollection(sides, colors="white", linewidths=5.0, capstyle="round"))
    axes.add_collection(LineCollection(sides, linewidths=2.6, **style))


def _handles(board: Board, crossover: Sequence[tuple[Cell, Cell]], winners: Labels) -> list[Artist]:
    present = {p.bound for p in board.fitting}
    handles = [cause_swatch(c) for c in CAUSES if c in present]
    if len(board.fitting) < len(board.result.points):
        handles.append(misfit_swatch())
    if any(switches(board, name) for name in board.names):
        handles.append(line_sample("memory | compute", linewidth=2.6, **SWITCH_STYLE))
    if crossover:
        handles.append(line_sample("crossover", linewidth=2.6, **CROSSOVER_STYLE))
    if len(board.names) > 1:
        named = [n for n in board.names if n in set(winners.values())]
        index: Callable[[str], int] = board.names.index
        handles += [
            swatch(CONTESTANT_COLOURS[index(n) % 8], f"fastest: {short_name(n, 3.2, 1, 10)}")
            for n in named
        ]
    return handles


CAUSE_MAP = Drawing(name="cause_map", draw=draw, caption=caption)
