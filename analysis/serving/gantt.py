"""The slowest requests: what each went through, and under it the same time by cause."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import boxes, legend, new_figure, panels, swatch
from analysis.serving.base import REQUEST_ORDER, Board, ServeDrawing, request_swatch, title
from analysis.style import CAUSE_HATCHES, HATCH_COLOURS, PHASE_COLOURS, REQUEST_COLOURS, SMALL_PT
from sim.measure.causes import REQUEST_CAUSES
from sim.run.serve_result import Served
from sim.run.serve_timeline import phases
from sim.serving.record import RequestRecord
from sim.units import PS_PER_S, format_time

MOST = 25
"""Requests of one panel."""
PHASE_HIGH, CAUSE_HIGH = 0.42, 0.34

Rectangles = dict[str, list[tuple[float, float, float, float]]]


def slowest(one: Served, most: int = MOST) -> list[RequestRecord]:
    """Return the finished requests that took longest, the slowest first; ties by their number."""
    done = [r for r in one.run.requests if r.finished_ps is not None]
    return sorted(done, key=lambda r: (r.sent_ps - (r.finished_ps or 0), r.index))[:most]


def by_cause(record: RequestRecord) -> dict[str, int]:
    """Return the ps of a finished request by cause, in the order of a bar."""
    times = dict(zip(REQUEST_CAUSES, record.causes_ps, strict=False))
    return {cause: times.get(cause, 0) for cause in REQUEST_ORDER}


def draw(board: Board) -> Figure:
    """Draw a panel per contestant: a row per request from when it was sent."""
    count = len(board.shown)
    figure = new_figure(
        "The slowest requests",
        f"{board.heading()} · above: phases in order; below: the same time by cause"
        f"{board.left_out()}",
        8.6,
    )
    rows = [slowest(one) for one in board.shown]
    causes = [by_cause(r) for row in rows for r in row]
    used = [cause for cause in REQUEST_ORDER if any(times.get(cause) for times in causes)]
    # Queue and preemption are phases and causes alike, in one colour.
    phase_names = [p for p in ("prefill", "decode") if p not in used]
    handles = [swatch(PHASE_COLOURS[name], f"phase: {name}") for name in phase_names]
    top_in = legend(figure, [*handles, *map(request_swatch, used)]) + (0.5 if count > 1 else 0.3)
    for index, axes in enumerate(panels(figure, count, count, top_in, gap=1.15)):
        one = board.shown[index]
        _panel(axes, one, rows[index])
        title(axes, board, index, count)
    return figure


def _panel(axes: Axes, one: Served, records: list[RequestRecord]) -> None:
    above: Rectangles = {}
    below: Rectangles = {}
    for y, record in enumerate(records):
        for name, start_ps, end_ps in phases(record, one.run.replicas[record.replica]):
            x = (start_ps - record.sent_ps) / PS_PER_S
            above.setdefault(name, []).append(
                (x, y - PHASE_HIGH, (end_ps - start_ps) / PS_PER_S, PHASE_HIGH)
            )
        at_ps = 0
        for cause, time_ps in by_cause(record).items():
            if time_ps:
                size = (at_ps / PS_PER_S, y, time_ps / PS_PER_S, CAUSE_HIGH)
                below.setdefault(cause, []).append(size)
            at_ps += time_ps
    for name, found in above.items():
        boxes(axes, found, PHASE_COLOURS[name])
    for cause, found in below.items():
        hatch, edge = CAUSE_HATCHES.get(cause, ""), HATCH_COLOURS.get(cause, "white")
        boxes(axes, found, REQUEST_COLOURS[cause], hatch, edge)
    longest_ps = max(((r.finished_ps or 0) - r.sent_ps for r in records), default=1)
    axes.set_xlim(0, longest_ps / PS_PER_S * 1.01)
    axes.set_ylim(len(records) - 0.4, -0.6)
    axes.set_yticks(range(len(records)), labels=[f"#{record.index}" for record in records])
    axes.tick_params(axis="y", left=False, labelsize=SMALL_PT)
    axes.set_xlabel("time since it was sent (s)")


def caption(board: Board) -> str:
    """Say how long the slowest request of each contestant took, beside the median."""
    parts = []
    for one in board.shown:
        for record in slowest(one, 1):
            took = format_time((record.finished_ps or 0) - record.sent_ps)
            parts.append(
                f"request {record.index} of {one.info.contestant} took {took} (median "
                f"{format_time(int(one.e2e.p50))}) for {record.output_tokens:,} tokens"
            )
    return f"The slowest of all: {'; '.join(parts)}."


GANTT = ServeDrawing(name="slowest_requests", draw=draw, caption=caption)
