"""What a token moves over the HBM: bytes by traffic class, against batch, at two contexts."""

from matplotlib.figure import Figure

from analysis.figures.base import (
    Board,
    Drawing,
    bytes_by_class,
    largest,
    sentence,
    three_digits,
)
from analysis.figures.canvas import (
    columns_for,
    height_for,
    legend,
    misfit_swatch,
    new_figure,
    panels,
    short_name,
    swatch,
)
from analysis.figures.stacks import Bar, draw_bars, label_shares
from analysis.style import TRAFFIC_COLOURS, TRAFFIC_LABELS
from sim.run.answer import format_context
from sim.run.result import PointResult, Result
from sim.units import format_bytes

NAMED = 3
ROWS_UP_TO = 3
"""Up to this many contestants get a row for the smallest and one for the largest context."""
MEGA, GIGA = 10**6, 10**9


def draw(result: Result) -> Figure:
    """Draw shares by class as bars, total above; few contestants at two contexts, many at one."""
    board = Board(result)
    layout = _layout(board)
    columns = len(board.names) if len(board.names) <= ROWS_UP_TO else columns_for(len(layout))
    rows = [[board.at(name, b, context) for b in board.batches] for name, context in layout]
    points = [p for row in rows for p in row if p is not None]
    unit, unit_bytes = _unit(points)
    figure = new_figure(
        "Bytes that a token moves over the HBM",
        f"{board.heading()} · share by class; above each bar: {unit} per token",
        height_for(-(-len(layout) // columns)),
    )
    moved = {name for p in points for name, size in bytes_by_class(p).items() if size}
    handles = [swatch(TRAFFIC_COLOURS[t], TRAFFIC_LABELS[t]) for t in TRAFFIC_LABELS if t in moved]
    if not all(p.fits for p in points):
        handles.append(misfit_swatch())
    top_in = legend(figure, handles) + 0.55
    for index, axes in enumerate(panels(figure, len(layout), columns, top_in)):
        name, context = layout[index]
        bars = [_bar(p, unit_bytes) for p in rows[index]]
        draw_bars(axes, bars, TRAFFIC_COLOURS, [str(batch) for batch in board.batches])
        axes.set_xlabel("batch (sequences)")
        label_shares(axes, "share of HBM bytes (%)", leftmost=index % columns == 0)
        label = short_name(name, 11.6 / columns - 1.4, 1)
        axes.set_title(f"{label}, context {format_context(context)}", pad=20)
    return figure


def caption(result: Result) -> str:
    """Say what a token costs at the smallest and the largest batch, and what most of it is."""
    board = Board(result)
    context = board.middle_context()
    clauses = []
    for name in board.names:
        line = board.along_batches(name, context)
        if line:
            texts = [_cost(p) for p in (line[0], line[-1])[: len(line)]]
            clauses.append(f"{name} moves {' and '.join(texts)}")
    return sentence(clauses[:NAMED], f"Per token at context {format_context(context)},")


def _layout(board: Board) -> list[tuple[str, int]]:
    shown = board.shown_contexts()
    if not shown:
        return [(name, 0) for name in board.names]
    contexts = sorted({shown[0], shown[-1]})
    if len(board.names) > ROWS_UP_TO:
        contexts = [board.middle_context()]
    return [(name, context) for context in contexts for name in board.names]


def _unit(points: list[PointResult]) -> tuple[str, int]:
    sizes = sorted(sum(bytes_by_class(p).values()) // p.batch for p in points if p.fits)
    middle = sizes[len(sizes) // 2] if sizes else GIGA
    return ("GB", GIGA) if middle >= GIGA // 10 else ("MB", MEGA)


def _bar(point: PointResult | None, unit_bytes: int) -> Bar:
    if point is None or not point.fits:
        return Bar(parts={}, above="")
    sizes = bytes_by_class(point)
    return Bar(parts=sizes, above=three_digits(sum(sizes.values()) / point.batch / unit_bytes))


def _cost(point: PointResult) -> str:
    sizes = bytes_by_class(point)
    if not sum(sizes.values()):
        return f"nothing at batch {point.batch} (all is in L2)"
    traffic, share = largest(sizes)
    total = format_bytes(sum(sizes.values()) // point.batch)
    return f"{total} at batch {point.batch} ({100 * share:.0f} % {TRAFFIC_LABELS[traffic]})"


BYTES_PER_TOKEN = Drawing(name="bytes_per_token", draw=draw, caption=caption)
