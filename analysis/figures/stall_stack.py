"""Where the step goes: share of step time by cause, against batch and against context."""

from matplotlib.figure import Figure

from analysis.figures.base import Board, Drawing, largest, sentence, three_digits, time_unit
from analysis.figures.canvas import (
    cause_swatch,
    columns_for,
    height_for,
    legend,
    misfit_swatch,
    new_figure,
    panels,
    short_name,
)
from analysis.figures.stacks import Bar, draw_bars, label_shares
from analysis.style import CAUSE_COLOURS
from sim.measure.causes import CAUSES
from sim.run.answer import CAUSE_LABELS, format_context
from sim.run.result import PointResult, Result

NAMED = 3


def draw_batch(result: Result) -> Figure:
    """Draw one panel per contestant: a bar per batch at the middle context."""
    board = Board(result)
    context = board.middle_context()
    rows = {n: [board.at(n, b, context) for b in board.batches] for n in board.names}
    where = f"context {format_context(context)} tokens"
    return _draw(board, rows, where, [str(b) for b in board.batches], "batch (sequences)")


def draw_context(result: Result) -> Figure:
    """Draw one panel per contestant: a bar per context at the middle batch."""
    board = Board(result)
    batch = board.middle_batch()
    rows = {n: [board.at(n, batch, c) for c in board.contexts] for n in board.names}
    ticks = [format_context(c) for c in board.contexts]
    return _draw(board, rows, f"batch {batch}", ticks, "context (tokens)")


def _draw(
    board: Board,
    rows: dict[str, list[PointResult | None]],
    where: str,
    ticks: list[str],
    axis: str,
) -> Figure:
    points = [p for row in rows.values() for p in row if p is not None]
    unit, unit_ps = time_unit(p.step_ps for p in points if p.fits)
    columns = columns_for(len(rows))
    figure = new_figure(
        f"Where the step goes at {where}",
        f"{board.heading()} · share of step time by cause; above each bar: step time in {unit}",
        height_for(-(-len(rows) // columns)),
    )
    shown = [c for c in CAUSES if any(p.ledger_ps.get(c) for p in points)]
    handles = [cause_swatch(c) for c in shown]
    if not all(p.fits for p in points):
        handles.append(misfit_swatch())
    top_in = legend(figure, handles) + 0.7
    for index, axes in enumerate(panels(figure, len(rows), columns, top_in, 1.35)):
        name = board.names[index]
        bars = [_bar(p, unit_ps) for p in rows[name]]
        draw_bars(axes, bars, CAUSE_COLOURS, ticks)
        axes.set_xlabel(axis)
        label_shares(axes, "share of step time (%)", leftmost=index % columns == 0)
        axes.set_title(short_name(name, 11.6 / columns), pad=20)
    return figure


def _bar(point: PointResult | None, unit_ps: int) -> Bar:
    if point is None or not point.fits:
        return Bar(parts={}, above="")
    return Bar(parts=point.ledger_ps, above=three_digits(point.step_ps / unit_ps))


def caption_batch(result: Result) -> str:
    """Say which cause leads at the smallest and the largest batch that fit."""
    board = Board(result)
    context = board.middle_context()
    lines = {n: [board.at(n, b, context) for b in board.batches] for n in board.names}
    clauses = [_ends(name, line, "batch") for name, line in lines.items()]
    return sentence(
        [clause for clause in clauses if clause][:NAMED],
        f"Causes of step time against batch at context {format_context(context)}:",
    )


def caption_context(result: Result) -> str:
    """Say which cause leads at the smallest and the largest context that fit."""
    board = Board(result)
    batch = board.middle_batch()
    lines = {n: [board.at(n, batch, c) for c in board.contexts] for n in board.names}
    clauses = [_ends(name, line, "context") for name, line in lines.items()]
    return sentence(
        [clause for clause in clauses if clause][:NAMED],
        f"Causes of step time against context at batch {batch}:",
    )


def _ends(name: str, line: list[PointResult | None], axis: str) -> str:
    fitting = [p for p in line if p is not None and p.fits]
    if not fitting:
        return ""
    causes = [largest(p.ledger_ps) for p in fitting]
    (first, start), (last, end) = causes[0], causes[-1]
    text = f"{name} spends {_spent(start, first)} at {axis} {_value(fitting[0], axis)}"
    if len(fitting) == 1:
        return text
    until = f"{100 * end:.0f} %" if first == last else _spent(end, last)
    return f"{text} and {until} at {axis} {_value(fitting[-1], axis)}"


def _spent(share: float, cause: str) -> str:
    return f"{100 * share:.0f} % on {CAUSE_LABELS[cause]}"


def _value(point: PointResult, axis: str) -> str:
    return str(point.batch) if axis == "batch" else format_context(point.context)


STALL_STACK_BATCH = Drawing(name="stall_stack_batch", draw=draw_batch, caption=caption_batch)
STALL_STACK_CONTEXT = Drawing(
    name="stall_stack_context", draw=draw_context, caption=caption_context
)
