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
from pathlib import Path
from typing import Any, Final, cast

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline

from analysis.style import BODY_PT, FAINT, INK, MUTED, TITLE_PT
from sim.run.write import write_whole

DPI: Final = 160
WIDTH_IN: Final = 12.8
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
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "hatch.linewidth": 0.7,
    "svg.fonttype": "none",
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


def panels(figure: Figure, count: int, columns: int, top_in: float) -> list[Axes]:
    """Return `count` panels row by row below a strip of `top_in` inches, titles included."""
    width, height = figure.get_size_inches()
    rows = -(-count // columns)
    left, right, bottom, gap, between = 0.85, 0.35, 0.65, 0.75, 1.1
    wide = (width - left - right - gap * (columns - 1)) / columns
    tall = (height - top_in - bottom - between * (rows - 1)) / rows
    places = []
    for index in range(count):
        row, column = divmod(index, columns)
        x, y = left + column * (wide + gap), bottom + (rows - 1 - row) * (tall + between)
        places.append((x / width, y / height, wide / width, tall / height))
    return [figure.add_axes(place) for place in places]


def legend(figure: Figure, handles: Sequence[Artist]) -> float:
    """Put `handles` (they carry their labels) in rows under the heading, left aligned.

    Returns the distance in inches from the top of the figure to the foot of the legend.
    """
    width, height = figure.get_size_inches()
    columns = legend_columns([str(handle.get_label()) for handle in handles])
    row_by_row = [handle for start in range(columns) for handle in handles[start::columns]]
    figure.legend(
        handles=row_by_row,
        loc="upper left",
        bbox_to_anchor=(0.3 / width, 1 - HEADING_IN / height),
        ncols=columns,
        borderaxespad=0,
        borderpad=0,
        handlelength=1.2,
        handleheight=0.9,
        columnspacing=1.6,
        labelspacing=0.35,
    )
    return HEADING_IN + 0.2 * -(-len(handles) // columns)


def legend_columns(labels: Sequence[str]) -> int:
    """Return the most columns in which `labels`, filled row by row, fit the slide."""
    for columns in range(len(labels), 1, -1):
        longest = [max(map(len, labels[column::columns])) for column in range(columns)]
        if sum(0.58 + 0.082 * letters for letters in longest) < WIDTH_IN - 0.4:
            return columns
    return 1


def swatch(colour: str, label: str, hatch: str = "") -> Artist:
    """Return a legend entry for a filled colour."""
    edge = MUTED if hatch else "none"
    return Patch(facecolor=colour, edgecolor=edge, hatch=hatch, linewidth=0.5, label=label)


def line_sample(label: str, **style: object) -> Artist:
    """Return a legend entry for a line (`style`: any property of a Line2D)."""
    line = Line2D([], [], label=label)
    line.set(**style)
    return line


def misfit_swatch(label: str = "does not fit") -> Artist:
    """Return the legend entry for points that do not fit."""
    return swatch("white", label, hatch="////")


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
    """Return `name` wrapped to `inches`, cut with an ellipsis after `lines` lines."""
    width = max(8, int(inches * 72 / (point_size * 0.66)))
    wrapped = textwrap.wrap(name, width=width, max_lines=lines, placeholder=" …")
    return "\n".join(wrapped)


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


def save(figure: Figure, name: str, out_dir: Path) -> list[Path]:
    """Write `figure` as `name.svg` and `name.png` into `out_dir`; the same bytes every time."""
    vector, raster = io.StringIO(), io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": "tokenstall"})
    figure.savefig(raster, format="png", dpi=DPI, metadata={"Software": None})
    return [
        write_whole(out_dir / f"{name}.svg", _clean(vector.getvalue()).encode()),
        write_whole(out_dir / f"{name}.png", raster.getvalue()),
    ]


def _clean(svg: str) -> str:
    """Drop what refers to the network and the ids that would clash when figures share a page."""
    svg = _METADATA.sub("", _DOCTYPE.sub("", svg))
    return _GROUP_ID.sub(r"\1", svg).replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
