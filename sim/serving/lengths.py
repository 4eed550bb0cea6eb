"""Batches of decodes that stand for all of one number, mean and spread of contexts.

Lengths of prompts and answers are about log-normal in all traces that we know, and so are contexts.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import exp, sqrt
from statistics import NormalDist
from typing import Final

from sim.model.mixed import Group

# Groups of equal contexts that a batch is cut into.
_BUCKETS: Final = 8
_WIDEST_SIGMA: Final = 4.0
_HALVINGS: Final = 40
# So much further out than a normal distribution's largest, in standard deviations, lies that of
# contexts; and of two numbers, exactly.
_LONGEST: Final = 0.57


def unequal(count: int, mean: float, spread: float) -> tuple[Group, ...]:
    """Return `count` decodes of mean context `mean` whose standard deviation is `spread` means.

    Contexts are quantiles of a log-normal distribution, shortest first, neighbours taken together
    but for the longest: about `count * mean` tokens in all, at least one each.
    """
    if count == 1 or spread <= 0.0:
        return (Group(count=count, q_len=1, context=max(1, round(mean))),)
    shares = _quantiles(count, spread)
    buckets = min(_BUCKETS, count) - 1
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
    """Return about the spread of contexts whose longest of `count` is `ratio` times their mean."""
    if count == 1 or ratio <= 1.0:
        return 0.0
    return min((ratio - 1.0) / (_LONGEST + NormalDist().inv_cdf(count / (count + 1))), ratio - 1.0)


def _quantiles(count: int, spread: float) -> list[float]:
    """Return `count` log-normal quantiles of mean 1, of this spread as far as so many can have it.

    Their own spread is asked for, not that of the distribution, as few quantiles lack its tail.
    """
    normal = NormalDist()
    scores = [normal.inv_cdf((n + 0.5) / count) for n in range(count)]
    low, high = 0.0, _WIDEST_SIGMA
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _spread([exp(middle * score) for score in scores]) < spread:
            low = middle
        else:
            high = middle
    values = [exp(high * score) for score in scores]
    whole = sum(values)
    return [value * count / whole for value in values]


def _spread(values: Sequence[float]) -> float:
    total = sum(values)
    squares = sum(value * value for value in values)
    return sqrt(max(0.0, len(values) * squares / (total * total) - 1.0))
