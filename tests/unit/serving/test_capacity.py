"""`sim.serving.capacity`: few runs, and an answer in every case."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvariantError
from sim.serving.capacity import keeps, keeps_p99, max_rate
from sim.serving.config import Slo
from sim.serving.metrics import Latencies


def test_the_search_doubles_then_halves_and_runs_no_rate_twice() -> None:
    found = max_rate(lambda rate: rate <= 5.0, 1.0, 100.0, tolerance=0.1)
    assert found.tried[:4] == ((1.0, True), (2.0, True), (4.0, True), (8.0, False))
    assert found.rate == pytest.approx(4 * 2**0.25)
    assert found.limit == pytest.approx(4 * 2**0.375)
    rates = [rate for rate, _ in found.tried]
    assert len(set(rates)) == len(rates) == 7


def test_a_lowest_rate_that_fails_gives_no_rate_after_one_run() -> None:
    found = max_rate(lambda _: False, 0.5, 64.0)
    assert (found.rate, found.limit, found.tried) == (None, 0.5, ((0.5, False),))


def test_a_highest_rate_that_holds_is_the_answer_without_a_limit() -> None:
    found = max_rate(lambda _: True, 1.0, 5.0)
    assert (found.rate, found.limit) == (5.0, None)
    assert [rate for rate, _ in found.tried] == [1.0, 2.0, 4.0, 5.0]
    assert max_rate(lambda _: True, 3.0, 3.0).rate == 3.0


@pytest.mark.parametrize(("low", "high", "tolerance"), [(0, 1, 0.1), (2, 1, 0.1), (1, 2, 0)])
def test_a_range_that_is_none_is_a_bug(low: float, high: float, tolerance: float) -> None:
    with pytest.raises(InvariantError, match="max_rate needs 0 < low <= high and a tolerance"):
        max_rate(lambda _: True, low, high, tolerance)


@given(st.floats(0.2, 200.0), st.floats(0.005, 0.2))
def test_a_monotone_limit_is_found_within_the_tolerance(limit: float, tolerance: float) -> None:
    found = max_rate(lambda rate: rate <= limit, 0.25, 128.0, tolerance)
    if found.rate is None:
        assert limit < 0.25
    elif found.limit is None:
        assert limit >= 128.0
    else:
        assert found.rate <= limit < found.limit <= found.rate * (1 + tolerance)
    assert len(found.tried) <= 19


@given(st.floats(1.0, 50.0), st.sets(st.integers(0, 40), max_size=5))
def test_near_a_ragged_limit_the_answer_held_right_below_one_that_failed(
    limit: float, flukes: set[int]
) -> None:
    def run_at(rate: float) -> bool:
        ragged = 0.9 * limit < rate < 1.1 * limit
        return (rate <= limit) != (ragged and int(rate * 1000) % 41 in flukes)

    found = max_rate(run_at, 0.5, 400.0, 0.02)
    assert found.rate is not None
    assert found.limit is not None
    assert (found.rate, True) in found.tried
    assert (found.limit, False) in found.tried
    assert 0.8 * limit < found.rate < 1.1 * limit
    assert found == max_rate(run_at, 0.5, 400.0, 0.02)


def times(ttft: list[float], finished: list[bool]) -> Latencies:
    values = np.array(ttft)
    return Latencies(
        finished=np.array(finished), ttft_ps=values, tpot_ps=values * np.nan, e2e_ps=values
    )


def test_a_share_of_all_requests_must_be_good_and_rejected_ones_are_not() -> None:
    found = times([1.0, 2.0, 3.0, np.nan], [True, True, True, False])
    assert keeps(found, Slo(ttft_ps=3), 0.75)
    assert not keeps(found, Slo(ttft_ps=3), 0.76)
    assert not keeps(found, Slo(ttft_ps=2), 0.75)


def test_a_limit_on_p99_is_on_the_percentile_and_nothing_may_fail() -> None:
    values = [float(i) for i in range(101)]
    fine = times(values, [True] * 101)
    assert keeps_p99(fine, Slo(ttft_ps=99, tpot_ps=0))
    assert not keeps_p99(fine, Slo(ttft_ps=98))
    assert not keeps_p99(times(values, [True] * 100 + [False]), Slo(ttft_ps=99))
