"""Ticks of axes of time: plain numbers, few enough to be read."""

import math
from collections.abc import Iterable

from matplotlib.axis import Axis

MARKS = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
"""Where a decade has ticks, from the densest."""


def log_ticks(axis: Axis, bounds: Iterable[float], most: int) -> None:
    """Label a logarithmic axis between `bounds` with at most `most` plain numbers.

    They stand at a few multiples of 10^n, as many as there is room for.
    """
    low, high = sorted(bounds)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = [[m * 10.0**d for d in decades for m in marks] for marks in MARKS]
    choices += [[10.0**d for d in decades if d % apart == 0] for apart in range(2, len(decades))]
    shown = [[tick for tick in ticks if low <= tick <= high] for ticks in choices]
    ticks = next((ticks for ticks in shown if len(ticks) <= most), [])
    axis.set_ticks(ticks, labels=[plain(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def plain(value: float) -> str:
    """Return a tick label without zeros to count.

    >>> plain(12500.0), plain(500.0), plain(2e6)
    ('12.5k', '500', '2M')
    """
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"
