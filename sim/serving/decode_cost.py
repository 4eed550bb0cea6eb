"""What decodes cost that see their own contexts: a function of their number, mean and spread.

Sequences of one length end together, so that their time has the steps of waves and splits: it is a
line over contexts for each number of sequences, refined where it bends. Unequal ones fill each
other's gaps, so that their time is smooth and a coarse grid of number, mean and spread is enough.
Between no spread and the least of the grid, both are mixed.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final

import numpy as np

from sim.model.mixed import Group
from sim.serving.interpolation import Cell, Line, Table, Weights
from sim.serving.lengths import unequal
from sim.serving.patch import Patch, patch_of
from sim.serving.step_cost import Columns, DeviceRuns

# Sequences are exact where each counts; tiles and waves make steps beyond.
SEQUENCES: Final = (
    *range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(72, 129, 8), *range(144, 257, 16),
    *range(288, 513, 32), *range(576, 1025, 64), 1536, 2048, 4096, 8192,
)  # fmt: skip
_CONTEXTS: Final = (1.0, *(float(2**n) for n in range(8, 23, 2)))
_NARROWEST: Final = 64
_COUNTS: Final = (
    2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0,
    384.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0,
)  # fmt: skip
# Windows bend the line over means, so that its points are close.
_MEANS: Final = (1.0, *(float(2**n) for n in range(6, 23)))
_SPREADS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)

Intervals = tuple[tuple[int, tuple[float, float]], ...]
Key = tuple[Intervals, Cell | None]
"""Intervals of lines, by number of sequences, and a cell of the grid of unequal lengths."""


@dataclass(slots=True, kw_only=True)
class DecodeCost:
    """Decodes of `new` tokens each, `beside` prompts or not.

    A line over contexts may be off by `tolerance_ps` of so many tokens.
    """

    runs: DeviceRuns
    new: int
    beside: bool
    tolerance_ps: Callable[[int], float]
    _lines: dict[int, Line] = field(default_factory=dict)
    _unequal: Table = field(init=False)

    def __post_init__(self) -> None:
        """Set up the grid of unequal lengths."""
        self._unequal = Table(self._unequal_at, (_COUNTS, _MEANS, _SPREADS))

    def at(self, count: int, mean: float, spread: float) -> Columns:
        """Return the cost of `count` decodes."""
        key, weights = self.place(count, mean, spread)
        return np.asarray(np.dot(weights, self.corners(key)))

    def place(self, count: int, mean: float, spread: float) -> tuple[Key, Weights]:
        """Return what the cost is mixed of, and the weights, which sum to 1."""
        mixed = count > 1 and self.new == 1
        if mixed and spread >= _SPREADS[0]:
            cell, weights = self._unequal.place(count, mean, spread)
            return ((), cell), weights
        intervals, weights = self._equal(count, mean)
        if not mixed or spread <= 0.0:
            return (intervals, None), weights
        share = spread / _SPREADS[0]
        cell, others = self._unequal.place(count, mean, _SPREADS[0])
        weights = [*(w * (1 - share) for w in weights), *(w * share for w in others)]
        return (intervals, cell), weights

    def patch(self, count: int, mean: float, spread: float) -> Patch | None:
        """Return a rectangle around a mean and a spread; None beyond the ends of the grids."""
        mixed = count > 1 and self.new == 1
        least, most = _around((0.0, *_SPREADS), spread) if mixed else (-1.0, inf)
        intervals: Intervals = ()
        low, high = _around(_MEANS, mean) if mixed else (-inf, inf)
        if not mixed or least < _SPREADS[0]:
            intervals, _ = self._equal(count, mean)
            low = max(low, *(interval[0] for _, interval in intervals))
            high = min(high, *(interval[1] for _, interval in intervals))
        if not low <= mean < high or inf in (-low, high):
            return None
        spreads = (max(least, 0.0), least if most == inf else most)
        corners = [self._corner(count, intervals, x, s) for x in (low, high) for s in spreads]
        return patch_of((low, high), (least, most), corners)

    def _corner(self, count: int, intervals: Intervals, mean: float, spread: float) -> Columns:
        if spread >= _SPREADS[0]:
            return self._unequal.at(count, mean, spread)
        values = [self._lines[n].within(interval, mean) for n, interval in intervals]
        if len(values) == 1:
            return values[0]
        (low, _), (high, _) = intervals
        return values[0] + (values[1] - values[0]) * ((count - low) / (high - low))

    def corners(self, key: Key) -> Columns:
        """Return the rows that the weights of a place belong to."""
        intervals, cell = key
        rows = [self._lines[count].corners(interval) for count, interval in intervals]
        if cell is not None:
            rows.append(self._unequal.corners(cell))
        return np.concatenate(rows)

    def _equal(self, count: int, mean: float) -> tuple[Intervals, Weights]:
        place = bisect_left(SEQUENCES, count)
        high = SEQUENCES[place]
        interval, weights = self._line(high).place(mean)
        if high == count:
            return ((high, interval),), weights
        low = SEQUENCES[place - 1]
        share = (count - low) / (high - low)
        before, others = self._line(low).place(mean)
        weights = [*(w * (1 - share) for w in others), *(w * share for w in weights)]
        return ((low, before), (high, interval)), weights

    def _line(self, count: int) -> Line:
        if count not in self._lines:

            def compute(mean: float) -> Columns:
                group = Group(count=count, q_len=self.new, context=max(self.new, round(mean)))
                return self.runs.sequences((group,), beside=self.beside)

            tolerance_ps = self.tolerance_ps(count * self.new)
            self._lines[count] = Line(compute, _CONTEXTS, tolerance_ps, _NARROWEST)
        return self._lines[count]

    def _unequal_at(self, count: float, mean: float, spread: float) -> Columns:
        return self.runs.sequences(unequal(int(count), mean, spread), beside=self.beside)


def _around(points: tuple[float, ...], x: float) -> tuple[float, float]:
    """Return the points around `x`, infinite beyond the ends."""
    i = bisect_right(points, x)
    return (points[i - 1] if i else -inf), (points[i] if i < len(points) else inf)
