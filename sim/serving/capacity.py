"""The highest request rate at which a server keeps its SLO: bracketing, then bisection."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.errors import InvariantError
from sim.serving.config import Slo
from sim.serving.metrics import Latencies, good

SHARE = 0.99
"""Share of requests that must keep the SLO, unless said otherwise."""
GROWTH = 2.0
"""Factor between the rates of the bracketing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The highest rate found, in requests a second, and every rate tried, in order.

    `rate` is None if not even the lowest rate holds. Otherwise it was tried and held; `limit` is
    the lowest rate above it that failed, None if the highest rate allowed held as well.
    """

    rate: float | None
    limit: float | None
    tried: tuple[tuple[float, bool], ...]


def max_rate(
    run_at: Callable[[float], bool], low: float, high: float, tolerance: float = 0.02
) -> Capacity:
    """Return the highest rate from `low` to `high` at which `run_at` says that the SLO holds.

    Rates double from `low` until one fails; the last interval is then halved, geometrically,
    until its ends are within `tolerance` (0.02: 2 %) of each other. No rate is run twice. Where
    `run_at` is not monotone, the answer is a rate that held right below one that failed.
    """
    if not (0 < low <= high and tolerance > 0):
        message = f"max_rate needs 0 < low <= high and a tolerance: {low}, {high}, {tolerance}"
        raise InvariantError(message)
    tried: list[tuple[float, bool]] = []

    def holds(rate: float) -> bool:
        tried.append((rate, run_at(rate)))
        return tried[-1][1]

    held, failed = _bracket(holds, low, high)
    while held is not None and failed is not None and failed > held * (1 + tolerance):
        middle = math.sqrt(held * failed)
        held, failed = (middle, failed) if holds(middle) else (held, middle)
    return Capacity(rate=held, limit=failed, tried=tuple(tried))


def keeps(times: Latencies, slo: Slo, share: float = SHARE) -> bool:
    """Return whether at least `share` of all requests, failed ones included, kept `slo`."""
    kept = good(times, slo)
    return bool(kept.sum() >= share * kept.size)


def keeps_p99(times: Latencies, slo: Slo) -> bool:
    """Return whether the 99th percentile of each latency is within its limit and none failed.

    A latency that no request has is kept.
    """
    limits = (
        (times.ttft_ps, slo.ttft_ps),
        (times.tpot_ps, slo.tpot_ps),
        (times.e2e_ps, slo.e2e_ps),
    )
    for values, limit in limits:
        known = values[~np.isnan(values)]
        if limit is not None and known.size and np.percentile(known, 99) > limit:
            return False
    return bool(times.finished.all())


def _bracket(
    holds: Callable[[float], bool], low: float, high: float
) -> tuple[float | None, float | None]:
    """Return neighbouring rates that held and failed; None for one that there is not."""
    held, rate = None, low
    while holds(rate):
        held = rate
        if rate >= high:
            return held, None
        rate = min(high, rate * GROWTH)
    return held, rate
