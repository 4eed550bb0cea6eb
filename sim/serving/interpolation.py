"""Linear interpolation of columns on grids of which only visited cells are computed.

A place in a grid is a cell and the weights of its corners, so that a caller can keep the corners of
several grids in one matrix and mix them with one product.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from sim.serving.step_cost import N_CAUSES, Columns

Answer = Callable[[float], Columns]
Weights = list[float]


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
        interval, weights = self.place(x)
        return np.asarray(np.dot(weights, self.corners(interval)))

    def place(self, x: float) -> tuple[tuple[float, float], Weights]:
        """Return the interval that `x` lies in, or the nearest, and the weights of its ends."""
        points = self.points
        start = min(max(bisect_right(points, x) - 1, 0), len(points) - 2)
        cuts = self._cuts.get(start)
        if cuts is None:
            cuts = self._cuts[start] = self._refined(points[start], points[start + 1])
        i = min(max(bisect_right(cuts, x) - 1, 0), len(cuts) - 2)
        low, high = cuts[i], cuts[i + 1]
        share = (x - low) / (high - low)
        return (low, high), [1.0 - share, share]

    def within(self, interval: tuple[float, float], x: float) -> Columns:
        """Return the value at `x` by the line over an interval that `place` has returned."""
        low, high = interval
        a = self._known[low]
        return a + (self._known[high] - a) * ((x - low) / (high - low))

    def corners(self, interval: tuple[float, float]) -> Columns:
        """Return the values at the ends of an interval, a row each."""
        return np.array([self._known[x] for x in interval])

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


Cell = tuple[int, ...]


@dataclass(slots=True)
class Table:
    """A function of several numbers on the grid of `axes`, linear in each between grid points.

    A number beyond its axis counts as the axis' end.
    """

    compute: Callable[..., Columns]
    axes: tuple[tuple[float, ...], ...]
    _known: dict[tuple[float, ...], Columns] = field(default_factory=dict)
    _cells: dict[Cell, Columns] = field(default_factory=dict)

    def at(self, *point: float) -> Columns:
        """Return the value at `point`, from the corners of its cell that count."""
        cell, weights = self.place(*point)
        return np.asarray(np.dot(weights, self.corners(cell)))

    def place(self, *point: float) -> tuple[Cell, Weights]:
        """Return the cell of `point` and the weights of its corners.

        i in a cell stands for the interval behind point i of an axis, ~i for the point itself.
        """
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
        return tuple(cell), weights

    def corners(self, cell: Cell) -> Columns:
        """Return the values at the corners of a cell, a row each."""
        corners = self._cells.get(cell)
        if corners is None:
            sides = [
                (axis[~i],) if i < 0 else (axis[i], axis[i + 1])
                for axis, i in zip(self.axes, cell, strict=True)
            ]
            corners = np.array([self._value(place) for place in product(*sides)])
            self._cells[cell] = corners
        return corners

    def _value(self, place: tuple[float, ...]) -> Columns:
        if place not in self._known:
            self._known[place] = self.compute(*place)
        return self._known[place]
