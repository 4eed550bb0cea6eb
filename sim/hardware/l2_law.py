"""Which share of data that is used again an L2 still holds, and on which side.

`hardware_specs/l2/hits.csv` is made by `python -m analysis.l2_hits`, which plays sets of lines one
by one. The argument is the reuse distance: the distinct bytes that pass through L2 from one use of
a byte to the next, itself included. Between the rows of the table the shares are linear.
"""

import csv
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from sim.errors import InputError, Problem
from sim.resources import chip_dirs, display

TABLE_NAME: Final = "hits.csv"
MILLION: Final = 1_000_000


class Held(NamedTuple):
    """What is still in L2, in millionths: beside the SM that asks, and on the other side."""

    near: int
    far: int

    @property
    def total(self) -> int:
        """Return the share that need not come from HBM."""
        return self.near + self.far


ALL: Final = Held(MILLION, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HitLaw:
    """The law of an L2 of one partition or two.

    Two partitions cache for the SMs beside them, whatever the address. What one side alone uses
    moves over when its partition is full; what both use is there twice.
    """

    partitions: int

    def held(self, distance_bytes: int, capacity_bytes: int, *, one_sided: bool = False) -> Held:
        """Return what of data with this reuse distance is held; `one_sided` if one SM reads it."""
        if distance_bytes <= 0 or 5 * distance_bytes <= capacity_bytes:
            return ALL
        ratio = distance_bytes * MILLION // max(1, capacity_bytes)
        table = _table()
        if self.partitions == 1:
            return Held(_at(table.ratios, table.one, ratio), 0)
        if not one_sided:
            near = _at(table.ratios, table.near, ratio)
            return Held(near, _at(table.ratios, table.far, ratio))
        near = _at(table.ratios, table.one, ratio * self.partitions)
        return Held(near, max(0, _at(table.ratios, table.one, ratio) - near))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """Columns of the table, in millionths."""

    ratios: tuple[int, ...]
    one: tuple[int, ...]
    near: tuple[int, ...]
    far: tuple[int, ...]


def _at(ratios: tuple[int, ...], values: tuple[int, ...], ratio: int) -> int:
    """Return a column between its rows; before the first all is held, behind the last as there."""
    if ratio <= ratios[0]:
        return values[0]
    if ratio >= ratios[-1]:
        return values[-1]
    i = bisect_right(ratios, ratio)
    low, high = ratios[i - 1], ratios[i]
    return values[i - 1] + (values[i] - values[i - 1]) * (ratio - low) // (high - low)


@lru_cache(maxsize=1)
def _table() -> _Table:
    found = (d / "l2" / TABLE_NAME for d in chip_dirs())
    path = next((p for p in found if p.is_file()), None)
    if path is None:
        raise InputError([Problem(file=TABLE_NAME, message="is in no hardware_specs/l2")])
    columns: dict[str, list[int]] = {"ratio": [], "one": [], "near": [], "far": []}
    with path.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                for name, values in columns.items():
                    values.append(round(float(row[name]) * MILLION))
            except (KeyError, TypeError, ValueError) as error:
                message = f"is not a row of {', '.join(columns)}"
                problem = Problem(file=display(path), line=number, message=message)
                raise InputError([problem]) from error
    return _Table(
        ratios=tuple(columns["ratio"]),
        one=tuple(columns["one"]),
        near=tuple(columns["near"]),
        far=tuple(columns["far"]),
    )
