"""Throughput against batch, beside the roofline of the same bytes and FLOP."""

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.base import Board, Drawing, sentence
from analysis.figures.canvas import (
    WIDTH_IN,
    batch_ticks,
    boxes,
    legend,
    line_sample,
    misfit_swatch,
    new_figure,
    panels,
    short_name,
)
from analysis.style import CONTESTANT_COLOURS, CONTESTANT_MARKERS, MUTED, SMALL_PT
from sim.run.answer import format_context
from sim.run.result import PointResult, Result
from sim.units import PS_PER_S

NAMED = 3
RUG = 0.03
"""Height of one row of the "does not fit" strip, as a share of the axes."""
LABEL_IN = 0.62
"""Room for a label at the end of a line."""
APART = 0.045
"""Least distance of two labels, as a share of the axes."""


def draw(result: Result) -> Figure:
    """Draw tokens/s against batch for up to three contexts, all contestants in each panel."""
    board = Board(result)
    contexts = board.shown_contexts() or (0,)
    figure = new_figure(
        "Tokens per second against batch, beside the roofline",
        f"{board.heading()} · percentages: tokens/s as a share of the roofline at both ends",
    )
    handles = [_handle(index, name) for index, name in enumerate(board.names)]
    handles.append(line_sample("its roofline", color=MUTED, linestyle="--", linewidth=1))
    if any(not p.fits for p in result.points if p.context in contexts):
        handles.append(misfit_swatch("does not fit, in the contestant's colour"))
    top_in = legend(figure, handles) + 0.4
    limits = _limits(board, contexts)
    for index, axes in enumerate(panels(figure, len(contexts), len(contexts), top_in)):
        _frame(axes, board, limits, leftmost=index == 0)
        _panel(axes, board, contexts[index])
        axes.set_title(f"context {format_context(contexts[index])}")
    return figure


def caption(result: Result) -> str:
    """Say how close to its roofline each contestant runs at the smallest and largest batch."""
    board = Board(result)
    context = board.middle_context()
    clauses = []
    for name in board.names:
        line = board.along_batches(name, context)
        if line:
            ends = (line[0], line[-1])[: len(line)]
            texts = [_reached(p) for p in ends]
            clauses.append(f"{name} reaches {' and '.join(texts)}")
    return sentence(clauses[:NAMED], f"Of its roofline at context {format_context(context)},")


def roofline_tokens_per_s(point: PointResult) -> float:
    """Return the throughput of a step that takes only its roofline time."""
    return point.batch * PS_PER_S / max(1, point.roofline_ps)


def _limits(board: Board, contexts: Sequence[int]) -> tuple[float, float]:
    """Return the range of throughput with room below for the strip of misfits."""
    shown = [p for p in board.fitting if p.context in contexts]
    if not shown:
        return 1.0, 10.0
    lower = min(p.tokens_per_s for p in shown)
    upper = max(roofline_tokens_per_s(p) for p in shown)
    span = max(1.0, math.log10(upper / lower))
    room = 0.1 + RUG * len(board.names)
    return lower / 10 ** (span * room), upper * 10 ** (span * 0.08)


def _frame(axes: Axes, board: Board, limits: tuple[float, float], *, leftmost: bool) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.minorticks_off()
    batches = board.batches
    margin = _margin(axes, batches)
    axes.set_xlim(batches[0] / margin, batches[-1] * margin)
    axes.set_ylim(*limits)
    batch_ticks(axes, batches)
    decades = range(math.floor(math.log10(limits[0])), math.ceil(math.log10(limits[1])) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 3) if limits[0] <= m * 10.0**d <= limits[1]]
    axes.set_yticks(ticks, labels=[f"{tick:,.10g}" if leftmost else "" for tick in ticks])
    if leftmost:
        axes.set_ylabel("throughput (tokens/s)")
    axes.grid(linewidth=0.6)


def _margin(axes: Axes, batches: Sequence[int]) -> float:
    """Return the factor beyond the outermost batches that leaves room for the end labels."""
    width = float(axes.get_position().width) * WIDTH_IN
    exponent = LABEL_IN / (width - 2 * LABEL_IN)
    return float(max(2.0, batches[-1] / batches[0]) ** exponent)


def _panel(axes: Axes, board: Board, context: int) -> None:
    """Draw all contestants at one context."""
    ends: list[tuple[list[PointResult], str]] = [([], "left"), ([], "right")]
    for index, name in enumerate(board.names):
        line = board.along_batches(name, context)
        _rug(axes, board, (index, name, context))
        if not line:
            continue
        colour = CONTESTANT_COLOURS[index % 8]
        x = [p.batch for p in line]
        axes.plot(x, [roofline_tokens_per_s(p) for p in line], "--", color=colour, linewidth=1)
        axes.plot(
            x,
            [p.tokens_per_s for p in line],
            color=colour,
            marker=CONTESTANT_MARKERS[index % 8],
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            linewidth=2,
        )
        ends[0][0].extend(line[:1] if len(line) > 1 else ())
        ends[1][0].append(line[-1])
    for points, side in ends:
        _end_labels(axes, board, points, side)


def _rug(axes: Axes, board: Board, row: tuple[int, str, int]) -> None:
    """Hatch the batches that do not fit in a row at the foot of the panel."""
    index, name, context = row
    points = [board.at(name, batch, context) for batch in board.batches]
    misfits = [p.batch for p in points if p is not None and not p.fits]
    if not misfits:
        return
    edges = [b / math.sqrt(2) for b in misfits[:1]] + [misfits[-1] * math.sqrt(2)]
    low, high = axes.get_ylim()
    place = [low * (high / low) ** (0.015 + RUG * (index + end)) for end in (0.0, 0.75)]
    rectangle = (edges[0], place[0], edges[1] - edges[0], place[1] - place[0])
    boxes(axes, [rectangle], "white", hatch="/////", edge=CONTESTANT_COLOURS[index % 8])


def _end_labels(axes: Axes, board: Board, points: Sequence[PointResult], side: str) -> None:
    """Write the share of the roofline at one end of each line, none on top of another."""
    low, high = axes.get_ylim()
    wanted = [math.log(p.tokens_per_s / low) / math.log(high / low) for p in points]
    for p, height in zip(points, spread(wanted, APART), strict=True):
        axes.annotate(
            _percent(p),
            xy=(p.batch, low * (high / low) ** height),
            xytext=(-8 if side == "left" else 8, 0),
            textcoords="offset points",
            ha="right" if side == "left" else "left",
            va="center",
            fontsize=SMALL_PT + 0.5,
            weight="bold",
            color=CONTESTANT_COLOURS[board.names.index(p.contestant) % 8],
        )


def spread(wanted: Sequence[float], apart: float) -> list[float]:
    """Return heights near `wanted`, in the same order, at least `apart` from each other."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + apart)
    excess = sum(p - w for p, w in zip(placed, wanted, strict=True)) / max(1, len(wanted))
    return [p - excess for p in placed]


def _reached(point: PointResult) -> str:
    tokens = f"{point.tokens_per_s:,.0f} tokens/s"
    return f"{_percent(point)} at batch {point.batch} ({tokens})"


def _percent(point: PointResult) -> str:
    return f"{100 * point.roofline_ps / point.step_ps:.0f} %"


def _handle(index: int, name: str) -> Artist:
    marker, colour = CONTESTANT_MARKERS[index % 8], CONTESTANT_COLOURS[index % 8]
    label = short_name(name, 3.6, 1, 10)
    return line_sample(label, color=colour, marker=marker, markersize=6.5, linewidth=2)


TOKENS_PER_S = Drawing(name="tokens_per_s", draw=draw, caption=caption)
