"""Slides: how a figure is laid out, labelled and saved as deterministic files.

Importing this module imports matplotlib, so only figures do.
"""

import io
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final, cast

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from PIL import Image

from analysis.style import (
    BODY_PT,
    CAUSE_COLOURS,
    CAUSE_HATCHES,
    FAINT,
    HATCH_COLOURS,
    INK,
    LEGEND_PT,
    MUTED,
    TITLE_PT,
)
from sim.run.answer import CAUSE_LABELS

DPI: Final = 160
WIDTH_IN: Final = 12.8
PNG_LEVEL: Final = 4
"""Compression of PNG files: more takes longer and saves 1 %."""
HEADING_IN: Final = 0.85
"""Height of the title and subtitle."""
CLOSE_IN: Final = 0.34
"""Tick labels nearer than this would touch."""
SLIDE_ROWS: Final = 2
"""Rows of panels that fit a slide; figures with more are higher than a slide."""

_RC: Final = {
    "font.family": ["DejaVu Sans"],
    "font.size": BODY_PT,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titley": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "grid.color": FAINT,
    "hatch.linewidth": 0.7,
    "svg.fonttype": "none",
    "text.hinting": "none",
    "path.simplify": False,
}
_GROUP_ID: Final = re.compile(r'(<g) id="[^"]*"')
_METADATA: Final = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_DOCTYPE: Final = re.compile(r"<!DOCTYPE.*?>\s*", re.DOTALL)


@contextmanager
def styled() -> Iterator[None]:
    """Apply the project's look to everything that is drawn or saved inside."""
    with mpl.rc_context(cast(Any, _RC)):
        yield


def new_figure(title: str, subtitle: str, height_in: float = 7.2) -> Figure:
    """Return an empty figure of slide width with its heading in the top left corner."""
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white")
    x = 0.35 / WIDTH_IN
    figure.text(x, 1 - 0.2 / height_in, title, va="top", fontsize=TITLE_PT, weight="bold")
    figure.text(x, 1 - 0.55 / height_in, subtitle, va="top", fontsize=BODY_PT, color=MUTED)
    return figure


def columns_for(count: int) -> int:
    """Return how many panels stand beside each other when there are `count`."""
    return {1: 1, 2: 2, 4: 2}.get(count, 3)


def height_for(rows: int) -> float:
    """Return the height in inches of a figure with `rows` rows of panels: a slide, or more."""
    return 7.2 if rows <= SLIDE_ROWS else 1.8 + 2.9 * rows


def panels(
    figure: Figure,
    count: int,
    columns: int,
    top_in: float,
    between: float = 1.1,
    gap: float = 0.4,
) -> list[Axes]:
    """Return `count` panels row by row below a strip of `top_in` inches, titles included.

    `between` inches part the rows and `gap` inches the columns. With the usual gap, panels of one
    row are meant to share their y axis: only the leftmost has room for its labels.
    """
    width, height = figure.get_size_inches()
    rows = -(-count // columns)
    left, right, bottom = 0.85, 0.35, 0.65
    wide = (width - left - right - gap * (columns - 1)) / columns
    tall = (height - top_in - bottom - between * (rows - 1)) / rows
    places = []
    for index in range(count):
        row, column = divmod(index, columns)
        x, y = left + column * (wide + gap), bottom + (rows - 1 - row) * (tall + between)
        places.append((x / width, y / height, wide / width, tall / height))
    axes = [figure.add_axes(place) for place in places]
    for each in axes:
        each.xaxis.set_label_coords(0.5, -0.36 / tall)
        each.yaxis.set_label_coords(-0.55 / wide, 0.5)
    return axes


def legend(figure: Figure, handles: Sequence[Artist]) -> float:
    """Put `handles` (they carry their labels) in rows under the heading, left aligned.

    Returns the distance in inches from the top of the figure to the foot of the legend. It is laid
    out by hand, as matplotlib's own legend takes longer than all the bars of a figure.
    """
    height = figure.get_figheight()
    if not handles:
        return HEADING_IN
    labels = [str(handle.get_label()) for handle in handles]
    columns = legend_columns(labels)
    wide = [max(map(label_in, labels[column::columns])) for column in range(columns)]
    for index, (handle, label) in enumerate(zip(handles, labels, strict=True)):
        row, column = divmod(index, columns)
        x, y = 0.35 + sum(wide[:column]), height - HEADING_IN - 0.1 - 0.21 * row
        _place(handle, x, y)
        handle.set_transform(figure.dpi_scale_trans)
        figure.add_artist(handle)
        place = ((x + 0.3) / WIDTH_IN, (y - 0.01) / height)
        figure.text(*place, label, va="center", fontsize=LEGEND_PT)
    return HEADING_IN + 0.21 * -(-len(handles) // columns)


def label_in(label: str) -> float:
    """Return the width in inches that an entry of the legend takes, generously."""
    wide = sum(letter.isupper() or letter.isdigit() or letter in "mw" for letter in label)
    return 0.55 + 0.076 * len(label) + 0.032 * wide


def _place(handle: Artist, x: float, y: float) -> None:
    """Move a legend sample to (x, y) in inches from the lower left corner of the figure."""
    if isinstance(handle, Line2D):
        marked = handle.get_linestyle() == "None"
        handle.set_data(
            [x + 0.1] if marked else [x - 0.04, x + 0.08, x + 0.2], [y] * (3 - 2 * marked)
        )
        handle.set_markevery([0 if marked else 1])
    elif isinstance(handle, Rectangle):
        handle.set_bounds(x, y - 0.065, 0.2, 0.13)


def legend_columns(labels: Sequence[str]) -> int:
    """Return the most columns in which `labels`, filled row by row, fit the slide."""
    for columns in range(len(labels), 1, -1):
        wide = (max(map(label_in, labels[column::columns])) for column in range(columns))
        if sum(wide) < WIDTH_IN - 0.5:
            return columns
    return 1


def cause_swatch(cause: str) -> Artist:
    """Return the legend entry of a cause."""
    hatch, edge = CAUSE_HATCHES.get(cause, ""), HATCH_COLOURS.get(cause, "none")
    return swatch(CAUSE_COLOURS[cause], CAUSE_LABELS[cause], hatch, edge)


def swatch(colour: str, label: str, hatch: str = "", edge: str = "none") -> Artist:
    """Return a legend entry for a filled colour."""
    style = {"facecolor": colour, "edgecolor": edge, "hatch": hatch, "linewidth": 0.5}
    return Rectangle((0, 0), 1, 1, label=label, **cast(Any, style))


def line_sample(label: str, **style: object) -> Artist:
    """Return a legend entry for a line (`style`: any property of a Line2D)."""
    line = Line2D([], [], label=label)
    line.set(**style)
    return line


def misfit_swatch(label: str = "does not fit") -> Artist:
    """Return the legend entry for points that do not fit."""
    return swatch("white", label, hatch="////", edge=MUTED)


def boxes(
    axes: Axes,
    rectangles: Sequence[tuple[float, float, float, float]],
    colour: str,
    hatch: str = "",
    edge: str = "#a3abb5",
) -> None:
    """Draw rectangles (x, y, width, height) of one colour as a single artist."""
    outlines = [
        Outline([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)], closed=True)
        for x, y, w, h in rectangles
    ]
    if outlines:
        outline = Outline.make_compound_path(*outlines)
        edge = edge if hatch else "white"
        patch = PathPatch(outline, facecolor=colour, edgecolor=edge, linewidth=0.6, hatch=hatch)
        axes.add_patch(patch)


def short_name(name: str, inches: float, lines: int = 2, point_size: float = 12) -> str:
    """Return `name` wrapped to `inches`; too long a name loses its middle, not its end.

    >>> short_name("A-70B-model-with-a-long-name fp8 and int8 KV", 3, lines=1)
    'A-70B-model- … nd int8 KV'
    """
    width = max(10, int(inches * 72 / (point_size * 0.66)))
    room = width * lines - (2 if lines == 1 else width // 4)
    if len(name) > width and (lines == 1 or len(name) > room):
        head = room // 2
        name = f"{name[:head].rstrip()} … {name[len(name) - (room - head - 3) :].lstrip()}"
    return "\n".join(textwrap.wrap(name, width=width, max_lines=lines, placeholder=" …"))


def batch_ticks(axes: Axes, batches: Sequence[int]) -> None:
    """Label a logarithmic x axis with `batches`, every other one where they stand too close."""
    low, high = axes.get_xlim()
    octaves = math.log2(high / low)
    inches = float(axes.get_position().width) * WIDTH_IN
    close = any(math.log2(b / a) / octaves * inches < CLOSE_IN for a, b in pairwise(batches))
    step = 2 if close else 1
    shown = [str(b) if (len(batches) - 1 - i) % step == 0 else "" for i, b in enumerate(batches)]
    axes.set_xticks(list(batches), labels=shown)
    axes.set_xlabel("batch (sequences)")


def svg_text(figure: Figure, name: str) -> str:
    """Return `figure` as an SVG document; the same every time.

    `name` salts the ids inside, so that figures of different names can share a page.
    """
    document = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(document, format="svg", metadata={"Date": None, "Creator": None})
    svg = _METADATA.sub("", _DOCTYPE.sub("", document.getvalue()))
    return _GROUP_ID.sub(r"\1", svg).replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")


def pixels(figure: Figure) -> Image.Image:
    """Return `figure` drawn at DPI, without alpha; `png_bytes` makes a file of it."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    size = canvas.get_width_height()
    return Image.frombuffer("RGBA", size, canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")


def png_bytes(image: Image.Image) -> bytes:
    """Return an image as PNG; it releases the interpreter, so threads can share the work."""
    raster = io.BytesIO()
    image.save(raster, format="png", dpi=(DPI, DPI), compress_level=PNG_LEVEL)
    return raster.getvalue()
