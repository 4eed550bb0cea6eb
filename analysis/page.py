"""What every report is made of: figures in two forms, and one page from a template.

`report.html` needs nothing but itself: figures and style are inline, so it can be mailed, printed
and read offline.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from sim.run.write import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES: Final = Path(__file__).parent / "templates"
TINT: Final = 0.55
"""Strength of a cause's colour in a table when it takes the whole time."""
_SIZE: Final = re.compile(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"')
_PROLOGUE: Final = re.compile(r"^.*?(?=<svg)", re.DOTALL)

Board_contra = TypeVar("Board_contra", contravariant=True)


class Drawing(Protocol[Board_contra]):
    """A figure that can be drawn of what a board holds."""

    @property
    def name(self) -> str:
        """Return the stem of its files."""
        ...

    @property
    def draw(self) -> "Callable[[Board_contra], Figure]":
        """Return what draws it."""
        ...

    @property
    def caption(self) -> Callable[[Board_contra], str]:
        """Return what says what is seen."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure in both forms."""

    name: str
    caption: str
    svg: str
    png: bytes


def drawn(drawing: Drawing[Board_contra], board: Board_contra) -> Drawn:
    """Draw a figure. Matplotlib is loaded by the first."""
    from analysis.figures.canvas import pixels, png_bytes, styled, svg_text  # noqa: PLC0415

    with styled():
        figure = drawing.draw(board)
        return Drawn(
            name=drawing.name,
            caption=drawing.caption(board),
            svg=svg_text(figure, drawing.name),
            png=png_bytes(pixels(figure)),
        )


Figures = list[dict[str, str]]


def write_report(
    drawings: Iterable[Drawn], page: Callable[[Figures], str], out_dir: Path
) -> list[Path]:
    """Write figures and `report.html`, which `page` makes of them; return their paths.

    Nothing is written before everything is rendered. Raises InputError if the folder cannot be
    written.
    """
    files: dict[str, bytes] = {}
    figures: Figures = []
    for figure in drawings:
        files[f"{figure.name}.svg"] = figure.svg.encode()
        files[f"{figure.name}.png"] = figure.png
        figures.append({"name": figure.name, "caption": figure.caption, "svg": inline(figure.svg)})
    files["report.html"] = page(figures).encode()
    return [write_whole(out_dir / name, data) for name, data in files.items()]


def render(template: str, **values: object) -> str:
    """Return a page from a template of `analysis/templates`."""
    # Only a report that is really written pays for the template engine.
    import jinja2  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def inline(svg: str) -> str:
    """Return an SVG document as an element that scales with the page."""
    return _SIZE.sub(r"\1", _PROLOGUE.sub("", svg), count=1)
