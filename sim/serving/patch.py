"""A rectangle of mean context and spread on which the cost of decodes is bilinear.

Steps that follow each other mostly fall into the same one, so that pricing a step is a product of
four weights and four rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.serving.step_cost import Columns

Floats = npt.NDArray[np.float64]


class Patch(NamedTuple):
    """Means from `low` to below `high`, spreads from `least` to below `most` (maybe infinite).

    With u and v from 0 to 1 over the two ranges the cost is `base + u a + v b + u v c`.
    """

    low: float
    high: float
    least: float
    most: float
    base: Columns
    a: Columns
    b: Columns
    c: Columns

    def at(self, mean: float, spread: float) -> Columns:
        """Return the cost at a mean and a spread inside."""
        low, high, least, most, base, a, b, c = self
        u = (mean - low) / (high - low)
        v = (spread - least) / (most - least)
        return base + a * u + b * v + c * (u * v)

    def along(self, means: Floats, spreads: Floats) -> Columns:
        """Return the costs of as many steps as begin inside, a row each, as `at` has them."""
        outside = (means < self.low) | (means >= self.high)
        outside |= (spreads < self.least) | (spreads >= self.most)
        count = int(outside.argmax()) if outside.any() else len(means)
        u = ((means[:count] - self.low) / (self.high - self.low))[:, np.newaxis]
        v = ((spreads[:count] - self.least) / (self.most - self.least))[:, np.newaxis]
        return self.base + self.a * u + self.b * v + self.c * (u * v)


def patch_of(
    means: tuple[float, float], spreads: tuple[float, float], corners: Sequence[Columns]
) -> Patch:
    """Return the patch over two ranges from its values at both means, each at both spreads."""
    at_low, at_low_most, at_high, at_high_most = corners
    a, b = at_high - at_low, at_low_most - at_low
    return Patch(*means, *spreads, at_low, a, b, at_high_most - at_low - a - b)
