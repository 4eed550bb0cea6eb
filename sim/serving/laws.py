"""Laws of arrivals and lengths: pure functions that draw, each in a visible dict.

A law of `ARRIVALS` returns the gaps in ps before each of `n` requests, the first counted from 0; a
law of `LENGTHS` returns `n` lengths in tokens. Both draw only from the generator they are given
and raise LawError for a parameter that makes no sense, also where n is 0. To add one, write a
function with keyword-only parameters of type int or float and put it in the dict.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.serving.trace_cut import MAX_SPAN_PS
from sim.serving.trace_rows import MAX_TOKENS
from sim.units import PS_PER_S

Integers = NDArray[np.int64]
Law = Callable[..., Integers]

P90_SIGMAS: Final = 1.2815515655446004
"""The standard normal law stays below so many standard deviations in 90 % of draws."""


_TOO_LONG_S: Final = MAX_SPAN_PS / PS_PER_S + 1
_CV_LEAST, _CV_MOST = 0.001, 100.0


class LawError(ValueError):
    """The parameter `key` of a law has a value that is not as `expected`."""

    def __init__(self, key: str, expected: str) -> None:
        self.key = key
        self.expected = expected
        super().__init__(f"{key} is not {expected}")


def poisson(n: int, rng: np.random.Generator, *, rate_per_s: float) -> Integers:
    """Return gaps of a Poisson process; at an infinite rate all come at once."""
    _need(rate_per_s > 0, "rate_per_s", "more than 0")
    return _gaps_ps(rng.exponential(1 / rate_per_s, n))


def gamma(n: int, rng: np.random.Generator, *, rate_per_s: float, cv: float) -> Integers:
    """Return gamma-distributed gaps with the coefficient of variation `cv`; 1 is Poisson.

    vLLM's `--burstiness` is 1 / cv².
    """
    _need(rate_per_s > 0, "rate_per_s", "more than 0")
    _need(_CV_LEAST <= cv <= _CV_MOST, "cv", f"{_CV_LEAST:g} to {_CV_MOST:g}")
    shape = 1 / cv**2
    return _gaps_ps(rng.gamma(shape, 1 / (rate_per_s * shape), n))


def constant(n: int, _rng: np.random.Generator, *, interval_s: float) -> Integers:
    """Return equal gaps; the first request comes at 0."""
    _need(0 <= interval_s < math.inf, "interval_s", "0 or more")
    return _gaps_ps(np.where(np.arange(n) > 0, interval_s, 0.0))


def bursts(n: int, _rng: np.random.Generator, *, size: int, every_s: float) -> Integers:
    """Return gaps of `size` requests at once, again and again; the first burst comes at 0."""
    _need(1 <= size <= MAX_TOKENS, "size", f"1 to {MAX_TOKENS}")
    _need(0 <= every_s < math.inf, "every_s", "0 or more")
    place = np.arange(n)
    return _gaps_ps(np.where((place % size == 0) & (place > 0), every_s, 0.0))


def at_once(n: int, _rng: np.random.Generator) -> Integers:
    """Return no gaps: every request is there from the start."""
    return np.zeros(n, dtype=np.int64)


def fixed(n: int, _rng: np.random.Generator, *, tokens: int) -> Integers:
    """Return one length for all."""
    _need(1 <= tokens <= MAX_TOKENS, "tokens", f"1 to {MAX_TOKENS}")
    return np.full(n, tokens, dtype=np.int64)


def uniform(n: int, rng: np.random.Generator, *, least: int, most: int) -> Integers:
    """Return lengths from `least` to `most`, both included, each as likely."""
    _need_range(least, most)
    return rng.integers(least, most, n, endpoint=True, dtype=np.int64)


def lognormal(
    n: int,
    rng: np.random.Generator,
    *,
    median: float,
    p90: float,
    least: int = 1,
    most: int = MAX_TOKENS,
) -> Integers:
    """Return log-normal lengths with a median and a 90th percentile, kept in [least, most]."""
    _need_range(least, most)
    _need(1 <= median <= MAX_TOKENS, "median", f"1 to {MAX_TOKENS}")
    _need(median <= p90 <= MAX_TOKENS, "p90", f"`median` to {MAX_TOKENS}")
    sigma = math.log(p90 / median) / P90_SIGMAS
    drawn = rng.lognormal(math.log(median), sigma, n)
    return np.rint(np.clip(drawn, least, most)).astype(np.int64)


def _need(holds: bool, key: str, expected: str) -> None:
    if not holds:
        raise LawError(key, expected)


def _need_range(least: int, most: int) -> None:
    _need(1 <= least <= MAX_TOKENS, "least", f"1 to {MAX_TOKENS}")
    _need(least <= most <= MAX_TOKENS, "most", f"`least` to {MAX_TOKENS}")


def _gaps_ps(gaps_s: NDArray[np.float64]) -> Integers:
    """Return gaps in ps, none longer than just too long for a trace."""
    gaps_ps: Integers = np.rint(np.minimum(gaps_s, _TOO_LONG_S) * PS_PER_S).astype(np.int64)
    return gaps_ps


ARRIVALS: Final[Mapping[str, Law]] = MappingProxyType(
    {
        "poisson": poisson,
        "gamma": gamma,
        "constant": constant,
        "bursts": bursts,
        "at_once": at_once,
    }
)

LENGTHS: Final[Mapping[str, Law]] = MappingProxyType(
    {
        "fixed": fixed,
        "uniform": uniform,
        "lognormal": lognormal,
    }
)
