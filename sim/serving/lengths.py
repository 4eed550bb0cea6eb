"""Batches of decodes that stand for all of one number, mean and spread of contexts.

Lengths of prompts and answers are about log-normal in all traces that we know, and so are contexts.
"""

from functools import cache
from itertools import pairwise
from math import expm1, log, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from sim.model.mixed import Group

Values = npt.NDArray[np.float64]

# Groups of equal contexts that a batch is cut into.
_BUCKETS: Final = 8
_WIDEST_SIGMA: Final = 4.0
_HALVINGS: Final = 30


def unequal(
    count: int, mean: float, spread: float, *, most_groups: int = _BUCKETS
) -> tuple[Group, ...]:
    """Return `count` decodes of mean context `mean` whose standard deviation is `spread` means.

    Contexts are quantiles of a log-normal distribution, shortest first: the longest alone, the
    others as neighbours in groups, `most_groups` of them at most; about `count * mean` tokens in
    all, at least one each.
    """
    if count == 1 or spread <= 0.0:
        return (Group(count=count, q_len=1, context=max(1, round(mean))),)
    shares = _quantiles(count, spread)
    buckets = min(most_groups, count) - 1
    edges = [*((count - 1) * n // buckets for n in range(buckets + 1)), count]
    return tuple(
        Group(
            count=high - low,
            q_len=1,
            context=max(1, round(mean * sum(shares[low:high]) / (high - low))),
        )
        for low, high in pairwise(edges)
    )


def spread_of(count: int, total: int, squares: int) -> float:
    """Return standard deviation over mean of `count` numbers, of their sum and sum of squares.

    >>> spread_of(2, 4, 10)
    0.5
    """
    return sqrt(max(0.0, count * squares / (total * total) - 1.0))


def spread_behind(count: int, ratio: float) -> float:
    """Return about the spread of contexts whose longest of `count` is `ratio` times their mean.

    That of the log-normal distribution whose quantile for the largest of so many lies there.
    """
    if count == 1 or ratio <= 1.0:
        return 0.0
    top = NormalDist().inv_cdf((count - 0.5) / count)
    sigma = top - sqrt(max(0.0, top * top - 2.0 * log(ratio)))
    return min(sqrt(expm1(sigma * sigma)), ratio - 1.0)


@cache
def _scores(count: int) -> Values:
    """Return `count` quantiles of the normal distribution."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((n + 0.5) / count) for n in range(count)])


@cache
def _quantiles(count: int, spread: float) -> list[float]:
    """Return `count` log-normal quantiles of mean 1, of this spread as far as so many can have it.

    Their own spread is asked for, not that of the distribution, as few quantiles lack its tail.
    """
    scores = _scores(count)
    low, high = 0.0, _WIDEST_SIGMA
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        values = np.exp(middle * scores)
        if values.std() < spread * values.mean():
            low = middle
        else:
            high = middle
    values = np.exp(high * scores)
    return [float(value) for value in values / values.mean()]
