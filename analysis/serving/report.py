"""The report of serving runs: figures as SVG and PNG, and one page that holds them all.

`report.html` needs nothing but itself: figures and style are inline.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sim.measure.causes import REQUEST_CAUSES
from sim.run.serve_answer import REQUEST_LABELS, serve_answer
from sim.run.serve_result import Served, Sweep
from sim.run.write import write_whole

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
    files: dict[str, bytes] = {}
    figures: list[dict[str, str]] = []
    for name, caption, svg, png in _drawn(results, sweep):
        files[f"{name}.svg"] = svg.encode()
        files[f"{name}.png"] = png
        figures.append({"name": name, "caption": caption, "svg": svg})
    files["report.html"] = page(results, sweep, figures).encode()
    return [write_whole(out_dir / name, data) for name, data in files.items()]


def page(results: Sequence[Served], sweep: Sweep | None, figures: list[dict[str, str]]) -> str:
    """Return the report as HTML; `figures` have `name`, `caption` and `svg`."""
    # Only a report that is really written pays for the template engine.
    import jinja2  # noqa: PLC0415

    from analysis.report import TEMPLATES, inline  # noqa: PLC0415
    from analysis.serving.tables import card, ledger_rows, tables, used_causes  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("serve_report.html").render(
        info=results[0].info,
        requests=f"{len(results[0].run.requests):,}",
        answer=serve_answer(results),
        cards=[card(one) for one in results],
        tables=tables(results, sweep),
        figures=[{**figure, "svg": inline(figure["svg"])} for figure in figures],
        shown_causes=[REQUEST_LABELS[cause] for cause in used_causes(results)],
        ledger=ledger_rows(results),
        causes=[(REQUEST_LABELS[cause], text) for cause, text in REQUEST_CAUSES.items()],
        not_covered=NOT_COVERED,
    )


def _drawn(results: Sequence[Served], sweep: Sweep | None) -> list[tuple[str, str, str, bytes]]:
    """Return name, caption, SVG and PNG of every figure that there is something to draw for."""
    from analysis.figures.canvas import pixels, png_bytes, styled, svg_text  # noqa: PLC0415
    from analysis.serving.base import Board  # noqa: PLC0415
    from analysis.serving.drawings import DRAWINGS  # noqa: PLC0415

    board = Board(results, sweep)
    found = []
    with styled():
        for drawing in DRAWINGS:
            if drawing.wanted(board):
                figure = drawing.draw(board)
                svg, png = svg_text(figure, drawing.name), png_bytes(pixels(figure))
                found.append((drawing.name, drawing.caption(board), svg, png))
    return found
