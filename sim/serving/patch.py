"""A rectangle of mean context and spread on which the cost of decodes is bilinear.

Steps that follow each other mostly fall into the same one, so that pricing a step is a product of
four weights and four rows.
"""

from typing import NamedTuple

import numpy as np

from sim.serving.step_cost import Columns


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
        low, high = 1.0 - u, u
        weights = (low * (1.0 - v), low * v, high * (1.0 - v), high * v)
        return np.asarray(np.dot(weights, self.corners))
