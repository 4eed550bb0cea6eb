"""A device in closed form: parts of steps with times by formula, and what was asked of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sim.model.mixed import Group
from sim.serving.step_cost import COLUMNS, Columns

WEIGHTS_PS = 20_000_000
TOKEN_PS = 1_000
HEAD_PS = 1_000
HOST_PS = 7_000_000
_TENSOR, _HBM, _HOST = (COLUMNS.index(name) for name in ("tensor", "hbm_bandwidth", "host"))


def attended_ps(group: Group) -> float:
    """Return a time that is proportional to the pairs of tokens that attend to each other."""
    pairs = group.q_len * (2 * group.context - group.q_len) / 2
    return group.count * (2000.0 + 300.0 * pairs)


@dataclass(slots=True)
class FakeDevice:
    """Times by formulas; `of_group` is that of a group of sequences."""

    of_group: Callable[[Group], float] = attended_ps
    mixes: bool = False
    asked: list[object] = field(default_factory=list)

    def host(self, sequences: int) -> Columns:
        """Return a fixed time."""
        return columns(host=HOST_PS)

    def tokens(self, rows: int, form: str) -> Columns:
        """Return a time for each row."""
        self.asked.append(("tokens", rows))
        return columns(tensor=WEIGHTS_PS + TOKEN_PS * rows, hbm=10**6, flop=1000 * rows)

    def head(self, rows: int) -> Columns:
        """Return a time for each sequence."""
        return columns(tensor=HEAD_PS * rows)

    def sequences(
        self, groups: tuple[Group, ...], *, beside: bool = False, rough: bool = False
    ) -> Columns:
        """Return the sum over all groups."""
        self.asked.append(("sequences", groups))
        pairs = sum(g.count * g.q_len * (2 * g.context - g.q_len) for g in groups)
        hbm = sum(g.count * g.context for g in groups)
        return columns(hbm_bandwidth=sum(map(self.of_group, groups)), hbm=100 * hbm, flop=pairs)

    def whole(self, groups: tuple[Group, ...], rows: int) -> Columns:
        """Return the sum of all parts."""
        sequences = sum(group.count for group in groups)
        parts = (self.tokens(rows, ""), self.sequences(groups), self.head(sequences))
        return np.asarray(sum(parts, self.host(sequences)))


def columns(
    *, tensor: float = 0, hbm_bandwidth: float = 0, host: float = 0, hbm: float = 0, flop: float = 0
) -> Columns:
    """Return columns of which these are not zero."""
    result = np.zeros(len(COLUMNS))
    result[_TENSOR], result[_HBM], result[_HOST] = tensor, hbm_bandwidth, host
    result[-2:] = hbm, flop
    return result
