"""`sim.serving.laws`: arrivals and lengths as their laws say."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.serving.laws import (
    ARRIVALS,
    LENGTHS,
    LawError,
    at_once,
    bursts,
    constant,
    fixed,
    gamma,
    lognormal,
    poisson,
    uniform,
)
from sim.serving.trace_rows import MAX_TOKENS
from sim.units import PS_PER_S

N = 20_000
SIGMAS = 5.0
"""Bounds are five standard errors: one seed in two million misses them."""

seeds = st.integers(0, 2**32 - 1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_bursts_come_together_and_at_equal_times() -> None:
    """The first at 0; the last may be smaller."""
    gaps = bursts(7, rng(), size=3, every_s=0.5)
    assert gaps.tolist() == [0, 0, 0, PS_PER_S // 2, 0, 0, PS_PER_S // 2]


def test_constant_gaps_begin_at_zero() -> None:
    """A request every quarter of a second."""
    assert constant(3, rng(), interval_s=0.25).tolist() == [0, PS_PER_S // 4, PS_PER_S // 4]


def test_all_at_once_is_also_an_infinite_rate() -> None:
    """As `--request-rate inf` of vLLM."""
    assert at_once(3, rng()).tolist() == [0, 0, 0]
    assert poisson(3, rng(), rate_per_s=math.inf).tolist() == [0, 0, 0]
    assert gamma(3, rng(), rate_per_s=math.inf, cv=2).tolist() == [0, 0, 0]


def test_fixed_lengths_are_fixed() -> None:
    """Whatever the seed."""
    assert fixed(3, rng(), tokens=7).tolist() == [7, 7, 7]


@given(seeds, st.sampled_from([0.01, 3.0, 1000.0]))
def test_a_poisson_process_has_its_rate_and_a_variation_of_one(seed: int, rate: float) -> None:
    """Standard errors: mean/sqrt(n); of the CV 1/sqrt(n), as its kurtosis is 9."""
    gaps = poisson(N, rng(seed), rate_per_s=rate)
    assert abs(gaps.mean() * rate / PS_PER_S - 1) < SIGMAS / math.sqrt(N)
    assert abs(gaps.std() / gaps.mean() - 1) < SIGMAS / math.sqrt(N)


@given(seeds, st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_gamma_gaps_have_their_rate_and_variation(seed: int, cv: float) -> None:
    """Standard errors: cv/sqrt(n) of the mean; of the CV cv * sqrt((1 + cv²) / 2 / n).

    The latter is by the delta method from the gamma law's moments (skewness 2 cv, excess kurtosis
    6 cv²): var(CV)/CV² = (1/n) (cv² - 2 cv² + (6 cv² + 2) / 4) = (1 + cv²) / 2 / n.
    """
    gaps = gamma(N, rng(seed), rate_per_s=4, cv=cv)
    assert abs(gaps.mean() * 4 / PS_PER_S - 1) < SIGMAS * cv / math.sqrt(N)
    error = cv * math.sqrt((1 + cv**2) / 2 / N)
    assert abs(gaps.std() / gaps.mean() - cv) < SIGMAS * error


@given(seeds)
def test_lognormal_lengths_have_their_median_and_90th_percentile(seed: int) -> None:
    """The share at or below each is a mean of n coin flips; rounding moves it by under 0.1 %."""
    tokens = lognormal(N, rng(seed), median=1000, p90=4000)
    for bound, share in ((1000, 0.5), (4000, 0.9)):
        error = math.sqrt(share * (1 - share) / N)
        assert abs((tokens <= bound).mean() - share) < SIGMAS * error + 0.001


@given(seeds, st.integers(1, 50), st.integers(0, 50))
def test_lengths_stay_between_least_and_most(seed: int, least: int, more: int) -> None:
    """Both ends are reached."""
    most = least + more
    drawn = uniform(2000, rng(seed), least=least, most=most)
    assert (drawn.min(), drawn.max()) == (least, most)
    drawn = lognormal(50, rng(seed), median=20, p90=200, least=least, most=most)
    assert drawn.min() >= least
    assert drawn.max() <= most


def test_lengths_that_hardly_vary_are_all_the_median() -> None:
    """Where p90 is the median."""
    assert lognormal(3, rng(), median=100, p90=100).tolist() == [100, 100, 100]


def test_a_gap_is_never_longer_than_just_too_long() -> None:
    """So that it stays an integer; the trace is refused later."""
    assert poisson(3, rng(), rate_per_s=5e-324).max() < 2**63
    assert constant(2, rng(), interval_s=1e300)[1] > 90 * 24 * 3600 * PS_PER_S


@pytest.mark.parametrize("law", [*ARRIVALS.values(), *LENGTHS.values()])
def test_a_law_is_named_as_its_function(law: Callable[..., object]) -> None:
    """One function, one line."""
    assert (ARRIVALS | LENGTHS)[law.__name__] is law


@pytest.mark.parametrize(
    ("law", "values", "message"),
    [
        ("poisson", {"rate_per_s": 0.0}, "rate_per_s is not more than 0"),
        ("poisson", {"rate_per_s": math.nan}, "rate_per_s is not more than 0"),
        ("gamma", {"rate_per_s": -1.0, "cv": 1.0}, "rate_per_s is not more than 0"),
        ("gamma", {"rate_per_s": 1.0, "cv": 0.0}, "cv is not 0.001 to 100"),
        ("constant", {"interval_s": math.inf}, "interval_s is not 0 or more"),
        ("bursts", {"size": 0, "every_s": 1.0}, f"size is not 1 to {MAX_TOKENS}"),
        ("bursts", {"size": 1, "every_s": -1.0}, "every_s is not 0 or more"),
        ("fixed", {"tokens": 0}, f"tokens is not 1 to {MAX_TOKENS}"),
        ("uniform", {"least": 0, "most": 5}, f"least is not 1 to {MAX_TOKENS}"),
        ("uniform", {"least": 6, "most": 5}, f"most is not `least` to {MAX_TOKENS}"),
        ("lognormal", {"median": 0.5, "p90": 2.0}, f"median is not 1 to {MAX_TOKENS}"),
        ("lognormal", {"median": 5.0, "p90": 4.0}, f"p90 is not `median` to {MAX_TOKENS}"),
    ],
)
def test_a_value_that_makes_no_sense_is_told_before_anything_is_drawn(
    law: str, values: dict[str, float], message: str
) -> None:
    """Also where nothing is to be drawn."""
    with pytest.raises(LawError) as caught:
        (ARRIVALS | LENGTHS)[law](0, rng(), **values)
    assert str(caught.value) == message
