"""The report of microscope runs: figures as SVG and PNG, and one page that holds them all."""

from pathlib import Path
from typing import Final

from analysis.page import TINT, Drawn, Figures, drawn, render, write_report
from analysis.style import DRAM_COLOURS, mixed
from sim.run.microscope_result import CAUSE_NAMES, CAUSE_TEXTS, MicroResult, MicroResults

NOT_COVERED: Final = (
    "One channel, with requests in the order given: nothing above it waits for its answers, so "
    "without an offered load the queue is always full.",
    "How chips spread addresses over channels is not published; interleave, hash and number of "
    "channels are assumptions of the scenario.",
    "Requests of kernels keep the order of issue; the L2 and the crossbar between would mix them.",
    "No ECC traffic, temperature-dependent refresh rate, refresh management or power-down.",
    "Reads differ from a reference simulator by less than 1 % in most cases, 16 % in the worst; "
    "mixed reads and writes by up to 17 % in one draw, 5 % in the mean of five "
    "(docs/decisions/0023-bank-level-channel.md).",
)


def write(results: MicroResults, out_dir: Path) -> list[Path]:
    """Write all figures and `report.html` of a run; return their paths.

    Nothing is written before everything is rendered. Raises InputError if the folder cannot be
    written.
    """
    return write_report(_drawn(results), lambda figures: page(results, figures), out_dir)


def page(results: MicroResults, figures: Figures) -> str:
    """Return the report as HTML; `figures` have `name`, `caption` and inline `svg`."""
    causes = used_causes(results)
    return render(
        "microscope_report.html",
        title=results.title,
        version=results.version,
        seed=results.seed,
        results=results,
        answer=[figure["caption"] for figure in figures[:2]],
        cards=[_card(results, name) for name in results.contestants],
        figures=figures,
        rows=[row(point) for point in results.points],
        shown_causes=[CAUSE_NAMES[cause] for cause in causes],
        ledger=[ledger_row(point, causes) for point in results.points],
        causes=[(CAUSE_NAMES[cause], text) for cause, text in CAUSE_TEXTS.items()],
        not_covered=NOT_COVERED,
    )


def used_causes(results: MicroResults) -> list[str]:
    """Return the causes that any point is charged for."""
    return [c for c in CAUSE_NAMES if any(point.cause_edges[c] for point in results.points)]


def row(point: MicroResult) -> tuple[str, ...]:
    """Return the cells of a point in the table of points."""
    latency = point.latency
    times: tuple[str, ...] = ("–",) * 3
    if latency is not None:
        ns = (latency.mean_ns, latency.percentiles_ns[0], latency.percentiles_ns[-1])
        times = tuple(f"{value:,.0f}" for value in ns)
    return (
        point.contestant, point.pattern, point.where, f"{100 * point.bandwidth_fraction:.1f}",
        f"{point.bytes_per_s / 1e9:.1f}", *times, f"{100 * point.row_hit_rate:.1f}",
        f"{100 * point.bank_utilisation:.1f}", str(point.activations), str(point.refreshes),
    )  # fmt: skip


def ledger_row(point: MicroResult, causes: list[str]) -> dict[str, object]:
    """Return the row of a point in the table of time: per cent and a tint per cause."""
    total = sum(point.cause_edges.values())
    shares = [(cause, point.cause_edges[cause] / total) for cause in causes]
    return {
        "place": (point.contestant, point.pattern, point.where),
        "shares": [(f"{100 * s:.1f}", mixed(DRAM_COLOURS[c], TINT * s)) for c, s in shares],
    }


def _card(results: MicroResults, name: str) -> dict[str, object]:
    own = [point for point in results.points if point.contestant == name]

    def each(key: str) -> str:
        return ", ".join(dict.fromkeys(str(getattr(point, key)) for point in own))

    peaks = dict.fromkeys(f"{point.peak_bytes_per_s / 1e9:.1f} GB/s" for point in own)
    facts = {
        "device": each("device"),
        "peak of the channel": ", ".join(peaks),
        "pseudo-channels": each("pseudo_channels"),
        "address map": each("map_label"),
        "refresh": each("refresh"),
    }
    return {"name": name, "facts": facts}


def _drawn(results: MicroResults) -> list[Drawn]:
    """Return every figure that there is something to draw for."""
    from analysis.microscope.base import Board  # noqa: PLC0415
    from analysis.microscope.drawings import DRAWINGS  # noqa: PLC0415

    board = Board(results)
    return [drawn(drawing, board) for drawing in DRAWINGS if drawing.wanted(board)]
