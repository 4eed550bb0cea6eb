"""L2 slices: one in front of each pseudo-channel, so that the address map spreads both alike."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import lcm

from sim.units import ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """How much of every segment lies behind each sort of slice.

    `weights[sort][segment]` over `unit` is the share of a slice times the number of slices: 1 where
    a segment is spread evenly, 4 where a quarter of the slices holds all of it.
    """

    unit: int
    weights: tuple[tuple[int, ...], ...]

    def equivalent(self, moved: Iterable[tuple[int, int]]) -> int:
        """Return how many evenly spread bytes take as long as these (segment, bytes).

        The slice that most of them lie behind is the last to be done.
        """
        listed = [*moved]
        loads = (sum(size * row[segment] for segment, size in listed) for row in self.weights)
        return ceil_div(max(loads), self.unit)


@lru_cache(maxsize=256)
def slices_of(shares: tuple[tuple[int, ...], ...]) -> Slices | None:
    """Return the slices of an address map's shares, a row per segment; None if all are even."""
    columns = dict.fromkeys(zip(*shares, strict=True))
    if len(columns) == 1:
        return None
    totals = [sum(row) for row in shares]
    unit, count = lcm(*totals), len(shares[0])
    return Slices(
        unit=unit,
        weights=tuple(
            tuple(share * count * (unit // total) for share, total in zip(c, totals, strict=True))
            for c in columns
        ),
    )
