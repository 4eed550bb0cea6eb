"""Lines and tables of which only visited parts are computed."""

from collections.abc import Callable
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.serving.interpolation import Line, Table
from sim.serving.step_cost import COLUMNS, Columns

N = len(COLUMNS)


def column(value: float) -> Columns:
    """Return columns of which the first is `value`."""
    result = np.zeros(N)
    result[0] = value
    return result


def line(function: Callable[[float], float], asked: list[float], tolerance: float = 1.0) -> Line:
    """Return a line over 0, 100 and 1000 that notes where it asked."""

    def compute(x: float) -> Columns:
        asked.append(x)
        return column(function(x))

    return Line(compute, (0.0, 100.0, 1000.0), tolerance, 10.0)


def test_a_straight_line_asks_for_its_ends_and_its_middle() -> None:
    asked: list[float] = []
    straight = line(lambda x: 3 * x + 5, asked)
    assert straight.at(30.0)[0] == pytest.approx(95.0)
    assert sorted(asked) == [0.0, 50.0, 100.0]


def test_a_curve_is_halved_until_it_is_good_enough() -> None:
    asked: list[float] = []
    curve = line(lambda x: x * x / 10, asked, tolerance=20.0)
    worst = max(abs(curve.at(x)[0] - x * x / 10) for x in range(101))
    assert worst <= 20.0
    assert len(asked) > 3


def test_a_curve_is_not_halved_below_its_narrowest_interval() -> None:
    asked: list[float] = []
    line(lambda x: float(x > 33), asked, tolerance=0.0).at(5.0)
    gaps = [b - a for a, b in pairwise(sorted(asked))]
    assert min(gaps) >= 5.0


def test_intervals_that_nobody_visits_are_not_computed() -> None:
    asked: list[float] = []
    line(sqrt, asked).at(50.0)
    assert max(asked) == 100.0


def test_beyond_its_ends_a_line_goes_on_straight() -> None:
    straight = line(lambda x: 2 * x, [])
    assert straight.at(2000.0)[0] == pytest.approx(4000.0)
    assert straight.at(-10.0)[0] == pytest.approx(-20.0)


@given(st.lists(st.floats(0.0, 1200.0), min_size=2, max_size=20))
def test_answers_do_not_depend_on_the_order_of_questions(points: list[float]) -> None:
    forth = line(lambda x: x**1.5, [], tolerance=5.0)
    back = line(lambda x: x**1.5, [], tolerance=5.0)
    first = [forth.at(x)[0] for x in points]
    last = [back.at(x)[0] for x in reversed(points)]
    assert first == last[::-1]


def product_table(asked: list[tuple[float, float]]) -> Table:
    """Return a table of x * y that notes where it asked."""

    def compute(x: float, y: float) -> Columns:
        asked.append((x, y))
        return column(x * y)

    return Table(compute, ((1.0, 4.0, 16.0), (0.0, 10.0, 50.0)))


def test_a_table_is_exact_on_its_grid_and_asks_for_nothing_else() -> None:
    asked: list[tuple[float, float]] = []
    assert product_table(asked).at(4.0, 10.0)[0] == 40.0
    assert asked == [(4.0, 10.0)]


@given(x=st.floats(1.0, 16.0), y=st.floats(0.0, 50.0))
def test_between_grid_points_a_table_is_linear_in_each_number(x: float, y: float) -> None:
    assert product_table([]).at(x, y)[0] == pytest.approx(x * y, abs=1e-9)


def test_beyond_an_axis_a_table_stays_at_its_end() -> None:
    table = product_table([])
    assert table.at(100.0, 99.0)[0] == table.at(16.0, 50.0)[0] == 800.0
    assert table.at(-1.0, 10.0)[0] == 10.0


def test_a_cell_is_computed_once() -> None:
    asked: list[tuple[float, float]] = []
    table = product_table(asked)
    for x in (2.0, 3.0, 2.5):
        table.at(x, 20.0)
    assert len(asked) == 4


@given(x=st.floats(0.0, 20.0), y=st.floats(-5.0, 60.0))
def test_weights_are_never_negative_and_sum_to_one(x: float, y: float) -> None:
    _, weights = product_table([]).place(x, y)
    assert min(weights) >= 0.0
    assert sum(weights) == pytest.approx(1.0)
