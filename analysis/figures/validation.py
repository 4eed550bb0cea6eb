"""Figures of the validation: predicted against measured, and error against bytes moved."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from analysis.figures.canvas import legend, line_sample, new_figure, panels
from analysis.style import CONTESTANT_COLOURS, CONTESTANT_MARKERS, FAINT, MUTED

_BANDS: Final = ((0.25, "#eef1f4"), (0.10, "#dce3ea"))
_DOT: Final = 9
# Below this ratio powers of ten are too few ticks.
_FEW_DECADES: Final = 100
_MOST_GPUS: Final = len(CONTESTANT_COLOURS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One judged row: measured, simulated and roofline value, and the bytes it moves."""

    gpu: str
    measured: float
    predicted: float
    roofline: float
    size_bytes: float


def validation_figure(selection: str, dots: Sequence[Dot], unit: str) -> Figure:
    """Return the figure of one selection: scatter on the left, error against bytes on the right."""
    figure = new_figure(
        f"{selection}: predicted against measured",
        f"{len(dots)} judged rows, fastest engine of each shape; bands ±10 % and ±25 %; "
        "grey: the roofline",
    )
    gpus = sorted({dot.gpu for dot in dots})[:_MOST_GPUS]
    samples = [
        line_sample(gpu, color=CONTESTANT_COLOURS[i], marker=CONTESTANT_MARKERS[i], linestyle="")
        for i, gpu in enumerate(gpus)
    ]
    top = legend(figure, [*samples, line_sample("roofline", color=FAINT, marker="x", linestyle="")])
    left, right = panels(figure, 2, 2, top + 0.45)
    _scatter(left, dots, gpus, unit)
    _errors(right, dots, gpus)
    return figure


def _scatter(axes: Axes, dots: Sequence[Dot], gpus: Sequence[str], unit: str) -> None:
    low = min(dot.measured for dot in dots) / 1.5
    high = max(dot.measured for dot in dots) * 1.5
    for width, colour in _BANDS:
        axes.fill_between(
            [low, high],
            [low * (1 - width), high * (1 - width)],
            [low * (1 + width), high * (1 + width)],
            color=colour,
            linewidth=0,
        )
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.8)
    axes.scatter([d.measured for d in dots], [d.roofline for d in dots], s=_DOT, marker="x",
                 color=FAINT, linewidths=0.8, rasterized=True)  # fmt: skip
    for i, gpu in enumerate(gpus):
        own = [dot for dot in dots if dot.gpu == gpu]
        axes.scatter(
            [d.measured for d in own], [d.predicted for d in own], s=_DOT, alpha=0.6, linewidths=0,
            color=CONTESTANT_COLOURS[i], marker=CONTESTANT_MARKERS[i], rasterized=True,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low / 2, high))
    axes.set_xlabel(f"measured, {unit}")
    axes.set_ylabel(f"predicted, {unit}")
    axes.set_title("Predicted against measured")


def _errors(axes: Axes, dots: Sequence[Dot], gpus: Sequence[str]) -> None:
    for width, colour in _BANDS:
        axes.axhspan(-100 * width, 100 * width, color=colour, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    for i, gpu in enumerate(gpus):
        own = [dot for dot in dots if dot.gpu == gpu]
        axes.scatter(
            [d.size_bytes / 1e6 for d in own], [_error_percent(d) for d in own],
            s=_DOT, alpha=0.6, linewidths=0, color=CONTESTANT_COLOURS[i],
            marker=CONTESTANT_MARKERS[i], rasterized=True,
        )  # fmt: skip
    axes.set(xscale="log", ylim=(-100, 100), yticks=range(-75, 100, 25))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if max(d.size_bytes for d in dots) < _FEW_DECADES * min(d.size_bytes for d in dots):
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("bytes that must move, MB")
    axes.set_ylabel("error, %")
    axes.set_title("Error against bytes")


def _error_percent(dot: Dot) -> float:
    """Return the error in percent; what is twice as long or longer lies on the upper edge."""
    return min(100.0, 100 * (dot.predicted / dot.measured - 1))
