"""Bars that split a whole into shares: the body of the stall stack and of bytes per token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from analysis.figures.canvas import boxes
from analysis.style import CAUSE_HATCHES, HATCH_COLOURS, INK, SMALL_PT, text_colour

BAR = 0.82
ROOMY = 3
"""Bars over which "does not fit" can be written level."""
LABELLED = 0.09
"""Shares from this size on carry their percentage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: its parts in any unit, and the text above it; no text means "does not fit"."""

    parts: Mapping[str, int]
    above: str


def draw_bars(
    axes: Axes, bars: Sequence[Bar], colours: Mapping[str, str], ticks: Sequence[str]
) -> None:
    """Draw each bar as shares of its sum, in the order of `colours`, with its text above."""
    rectangles: dict[str, list[tuple[float, float, float, float]]] = {key: [] for key in colours}
    misfits = [x for x, bar in enumerate(bars) if not bar.above]
    for x, bar in enumerate(bars):
        for key, low, share in _segments(bar.parts, colours):
            rectangles[key].append((x - BAR / 2, low, BAR, share))
            if share >= LABELLED:
                _share_label(axes, (x, low + share / 2), share, colours[key])
        axes.text(x, 1.015, bar.above, ha="center", va="bottom", fontsize=SMALL_PT, color=INK)
    for key, found in rectangles.items():
        hatch, edge = CAUSE_HATCHES.get(key, ""), HATCH_COLOURS.get(key, "white")
        boxes(axes, found, colours[key], hatch, edge)
    boxes(axes, [(x - BAR / 2, 0.0, BAR, 1.0) for x in misfits], "white", hatch="////")
    for run in _runs(misfits):
        _misfit_label(axes, run)
    axes.set_xlim(-0.55, len(bars) - 0.45)
    axes.set_ylim(0, 1)
    axes.set_xticks(range(len(ticks)), labels=list(ticks))
    axes.tick_params(axis="x", bottom=False)


def label_shares(axes: Axes, label: str, *, leftmost: bool) -> None:
    """Label the y axis of the leftmost panel of a row; the others share it."""
    if leftmost:
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100"])
        axes.set_ylabel(label)
    else:
        axes.set_yticks([])


def _segments(
    parts: Mapping[str, int], colours: Mapping[str, str]
) -> list[tuple[str, float, float]]:
    total, low, found = sum(parts.values()), 0, []
    for key in colours:
        size = parts.get(key, 0)
        if size:
            found.append((key, low / total, size / total))
        low += size
    return found


def _share_label(axes: Axes, place: tuple[float, float], share: float, colour: str) -> None:
    axes.text(
        *place,
        f"{100 * share:.0f}",
        ha="center",
        va="center",
        fontsize=SMALL_PT,
        color=text_colour(colour),
    )


def _runs(places: Sequence[int]) -> list[list[int]]:
    """Return `places` as runs of neighbours."""
    runs: list[list[int]] = []
    for x in places:
        if runs and x == runs[-1][-1] + 1:
            runs[-1].append(x)
        else:
            runs.append([x])
    return runs


def _misfit_label(axes: Axes, run: Sequence[int]) -> None:
    """Say once per run of bars that they do not fit, upright if there is no room."""
    axes.text(
        (run[0] + run[-1]) / 2,
        0.5,
        "does not fit",
        ha="center",
        va="center",
        rotation=0 if len(run) >= ROOMY else 90,
        fontsize=SMALL_PT,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )
