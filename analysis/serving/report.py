"""The report of serving runs: figures as SVG and PNG, and one page that holds them all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from analysis.page import Drawn, Figures, drawn, render, write_report
from sim.measure.causes import REQUEST_CAUSES
from sim.run.serve_answer import REQUEST_LABELS, serve_answer
from sim.run.serve_result import Served, Sweep

NOT_COVERED: Final = (
    "Requests have lengths, not texts: what a model would answer, and when it would stop by "
    "itself, is the trace's say.",
    "The host's share of a step is a number of the engine profile; tokenisation, networking and "
    "the client take no time.",
    "Step times between simulated batches are interpolated.",
    "Power and thermal limits do not change clocks during a run.",
    "Models and number formats are compared by time and bytes, never by the quality of what they "
    "answer.",
)


def write(results: Sequence[Served], sweep: Sweep | None, out_dir: Path) -> list[Path]:
    """Write all figures and `report.html` of the runs of one scenario; return their paths.

    `results` are in the order of the contestants, at least one; `sweep` is None where no request
    rates were swept. Nothing is written before everything is rendered. Raises InputError if the
    folder cannot be written.
    """
    return write_report(
        _drawn(results, sweep), lambda figures: page(results, sweep, figures), out_dir
    )


def page(results: Sequence[Served], sweep: Sweep | None, figures: Figures) -> str:
    """Return the report as HTML; `figures` have `name`, `caption` and inline `svg`."""
    from analysis.serving.tables import card, ledger_rows, tables, used_causes  # noqa: PLC0415

    info = results[0].info
    return render(
        "serve_report.html",
        title=info.title,
        version=info.version,
        seed=info.seed,
        info=info,
        requests=f"{len(results[0].run.requests):,}",
        answer=serve_answer(results),
        cards=[card(one) for one in results],
        tables=tables(results, sweep),
        figures=figures,
        shown_causes=[REQUEST_LABELS[cause] for cause in used_causes(results)],
        ledger=ledger_rows(results),
        causes=[(REQUEST_LABELS[cause], text) for cause, text in REQUEST_CAUSES.items()],
        not_covered=NOT_COVERED,
    )


def _drawn(results: Sequence[Served], sweep: Sweep | None) -> list[Drawn]:
    """Return every figure that there is something to draw for."""
    from analysis.serving.base import Board  # noqa: PLC0415
    from analysis.serving.drawings import DRAWINGS  # noqa: PLC0415

    board = Board(results, sweep)
    return [drawn(drawing, board) for drawing in DRAWINGS if drawing.wanted(board)]
