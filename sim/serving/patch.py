"""A rectangle of mean context and spread on which the cost of decodes is bilinear.

Steps that follow each other mostly fall into the same one, so that pricing a step is a product of
four weights and four rows.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.serving.step_cost import Columns

Floats = npt.NDArray[np.float64]


class Patch(NamedTuple):
    """Means from `low` to below `high`, spreads from `least` to below `most` (maybe infinite).

    `corners` are rows of (low, least), (low, most), (high, least) and (high, most).
    """

    low: float
    high: float
    least: float
    most: float
    corners: Columns

    def at(self, mean: float, spread: float) -> Columns:
        """Return the cost at a mean and a spread inside."""
        u = (mean - self.low) / (self.high - self.low)
        v = (spread - self.least) / (self.most - self.least)
        a, b, c, d = self.corners
        total = a * ((1.0 - u) * (1.0 - v)) + b * ((1.0 - u) * v)
        return np.asarray(total + c * (u * (1.0 - v)) + d * (u * v))

    def along(self, means: Floats, spreads: Floats) -> Columns:
        """Return the costs of as many steps as begin inside, a row each, as `at` has them."""
        outside = (means < self.low) | (means >= self.high)
        outside |= (spreads < self.least) | (spreads >= self.most)
        count = int(outside.argmax()) if outside.any() else len(means)
        u = ((means[:count] - self.low) / (self.high - self.low))[:, np.newaxis]
        v = ((spreads[:count] - self.least) / (self.most - self.least))[:, np.newaxis]
        a, b, c, d = self.corners
        total = a * ((1.0 - u) * (1.0 - v)) + b * ((1.0 - u) * v)
        return np.asarray(total + c * (u * (1.0 - v)) + d * (u * v))
