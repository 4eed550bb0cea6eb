"""Linear interpolation of columns on grids of which only visited cells are computed."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from sim.serving.step_cost import N_CAUSES, Columns

Answer = Callable[[float], Columns]


@dataclass(slots=True)
class Line:
    """A function of one number, halved where a line between its points is not good enough.

    An interval is checked when it is first used: if the function in its middle is further than
    `tolerance_ps` from the line, both halves are checked likewise, down to `narrowest`. So the
    answer does not depend on what was asked before. Beyond the last point it goes on straight.
    """

    compute: Answer
    points: Sequence[float]
    tolerance_ps: float
    narrowest: float
    _known: dict[float, Columns] = field(default_factory=dict)
    _cuts: dict[int, list[float]] = field(default_factory=dict)

    def at(self, x: float) -> Columns:
        """Return the value at `x`."""
        if x in self._known:
            return self._known[x]
        points = self.points
        start = min(max(bisect_right(points, x) - 1, 0), len(points) - 2)
        cuts = self._cuts.get(start)
        if cuts is None:
            cuts = self._cuts[start] = self._refined(points[start], points[start + 1])
        i = min(max(bisect_right(cuts, x) - 1, 0), len(cuts) - 2)
        low, high = cuts[i], cuts[i + 1]
        a = self._known[low]
        return a + (self._known[high] - a) * ((x - low) / (high - low))

    def _refined(self, low: float, high: float) -> list[float]:
        middle = float(round((low + high) / 2))
        a, b = self._value(low), self._value(high)
        if high - low < 2 * self.narrowest or not low < middle < high:
            return [low, high]
        share = (middle - low) / (high - low)
        error = self._value(middle) - (a + (b - a) * share)
        if abs(error[:N_CAUSES].sum()) <= self.tolerance_ps:
            return [low, middle, high]
        return [*self._refined(low, middle), *self._refined(middle, high)[1:]]

    def _value(self, x: float) -> Columns:
        if x not in self._known:
            self._known[x] = self.compute(x)
        return self._known[x]


@dataclass(slots=True)
class Table:
    """A function of several numbers on the grid of `axes`, linear in each between grid points.

    A number beyond its axis counts as the axis' end.
    """

    compute: Callable[..., Columns]
    axes: tuple[tuple[float, ...], ...]
    _known: dict[tuple[float, ...], Columns] = field(default_factory=dict)
    _cells: dict[tuple[int, ...], Columns] = field(default_factory=dict)

    def at(self, *point: float) -> Columns:
        """Return the value at `point`, from the corners of its cell that count."""
        weights = [1.0]
        cell = []
        for axis, x in zip(self.axes, point, strict=True):
            i = bisect_right(axis, x) - 1
            if i < 0 or i == len(axis) - 1 or axis[i] == x:
                cell.append(~max(i, 0))
            else:
                share = (x - axis[i]) / (axis[i + 1] - axis[i])
                cell.append(i)
                weights = [w * s for w in weights for s in (1.0 - share, share)]
        key = tuple(cell)
        corners = self._cells.get(key)
        if corners is None:
            corners = self._cells[key] = self._corners(key)
        return np.asarray(np.dot(weights, corners))

    def _corners(self, cell: tuple[int, ...]) -> Columns:
        """Return the values at the corners of a cell; ~i in it stands for point i of an axis."""
        sides = [
            (axis[~i],) if i < 0 else (axis[i], axis[i + 1])
            for axis, i in zip(self.axes, cell, strict=True)
        ]
        return np.array([self._value(place) for place in product(*sides)])

    def _value(self, place: tuple[float, ...]) -> Columns:
        if place not in self._known:
            self._known[place] = self.compute(*place)
        return self._known[place]
