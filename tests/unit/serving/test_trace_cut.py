"""`sim.serving.trace_cut`: windows, limits and rates."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from sim.serving.request import MeasuredSettings, MeasuredTimes, Request, Trace
from sim.serving.trace_cut import cut_trace
from sim.units import PS_PER_S


def trace_of(*arrivals_ps: int) -> Trace:
    return Trace(
        name="t",
        requests=tuple(
            Request(index=index, arrival_ps=at_ps, input_tokens=index + 1, output_tokens=0)
            for index, at_ps in enumerate(arrivals_ps)
        ),
        concurrency=3,
        settings=MeasuredSettings(max_num_seqs=5),
        measured=MeasuredTimes(first_token_ps=arrivals_ps, last_token_ps=arrivals_ps),
    )


def timeline(trace: Trace) -> list[tuple[int, int, int]]:
    return [(r.index, r.arrival_ps, r.input_tokens) for r in trace.requests]


SECONDS = trace_of(*(second * PS_PER_S for second in range(5)))


def test_a_window_begins_at_its_start_and_ends_before_its_end() -> None:
    """Times count from the start; requests are numbered anew."""
    cut = cut_trace(SECONDS, start_s=1, end_s=3)
    assert timeline(cut) == [(0, 0, 2), (1, PS_PER_S, 3)]
    assert timeline(cut_trace(SECONDS, start_s=0.5, end_s=1)) == []
    assert timeline(cut_trace(SECONDS, start_s=Decimal("3.5"))) == [(0, PS_PER_S // 2, 5)]


def test_a_limit_takes_the_first_of_the_window() -> None:
    """Also none of them."""
    assert timeline(cut_trace(SECONDS, start_s=2, limit=1)) == [(0, 0, 3)]
    assert timeline(cut_trace(SECONDS, limit=0)) == []


def test_a_rate_of_two_halves_every_time() -> None:
    """A rate is exact as written: 0.1 is a tenth."""
    assert [r.arrival_ps for r in cut_trace(trace_of(0, 2, 3), rate_scale=2).requests] == [0, 1, 2]
    assert [r.arrival_ps for r in cut_trace(trace_of(1, 3), rate_scale=0.1).requests] == [10, 30]


def test_measured_times_go_and_the_rest_stays() -> None:
    """The server has not seen the changed trace."""
    cut = cut_trace(SECONDS, limit=2)
    assert cut == replace(SECONDS, requests=SECONDS.requests[:2], measured=None)
    assert cut_trace(SECONDS, limit=5, end_s=9) is SECONDS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"start_s": -1}, "t: start_s = -1: makes no sense (expected 0 or more)"),
        ({"end_s": float("nan")}, "t: end_s = nan: makes no sense (expected 0 or more)"),
        (
            {"limit": 1.5, "rate_scale": 0},
            "t: limit = 1.5: makes no sense (expected an integer, 0 or more)\n"
            "t: rate_scale = 0: makes no sense (expected more than 0)",
        ),
        (
            {"rate_scale": 1e400},
            "t: rate_scale = inf: makes no sense (expected more than 0)",
        ),
        (
            {"rate_scale": 1e-7},
            "t: its last request arrives 462 days after its start (expected at most 90)",
        ),
    ],
)
def test_what_makes_no_sense_is_told(values: dict[str, Any], message: str) -> None:
    """All of it at once."""
    with pytest.raises(InputError) as caught:
        cut_trace(SECONDS, **values)
    assert str(caught.value) == message


@given(
    st.lists(st.integers(0, 10**15), max_size=20).map(sorted),
    st.integers(0, 1000),
    st.fractions(min_value=Fraction(1, 100), max_value=100, max_denominator=100),
)
def test_two_windows_are_the_whole_and_order_is_kept(
    arrivals: list[int], split_s: int, rate: Fraction
) -> None:
    """No request is lost or doubled at the seam, and a rate changes no order."""
    whole = trace_of(*arrivals)
    parts = (cut_trace(whole, end_s=split_s), cut_trace(whole, start_s=split_s))
    assert [r.input_tokens for part in parts for r in part.requests] == [
        r.input_tokens for r in whole.requests
    ]
    scaled = [r.arrival_ps for r in cut_trace(whole, rate_scale=float(rate)).requests]
    assert scaled == sorted(scaled)
    assert len(scaled) == len(arrivals)
