"""Tables of what a channel delivers: share of peak by granule, streams and read share.

`hardware_specs/dram/efficiency.csv` is made by `python -m analysis.channel_tables` with the
bank-level channel; `sim.hardware.channel_check` compares chips with it. Between the points of the
table the efficiency is linear in the logarithms of granule and streams and in the read share.
"""

import csv
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import log2
from typing import Final, NamedTuple

from sim.errors import InputError, Problem
from sim.resources import chip_dirs, display

TABLE_NAME: Final = "efficiency.csv"
COLUMNS: Final = (
    "device", "granule_bytes", "streams", "read_share", "efficiency", "row_hit_rate",
)  # fmt: skip


class Access(NamedTuple):
    """How a channel is used: contiguous bytes of a stream, streams at once, share of reads."""

    granule_bytes: int
    streams: int
    read_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficiencyTable:
    """One device's table: the three axes, ascending, and the share of peak of every point."""

    device: str
    granules: tuple[int, ...]
    streams: tuple[int, ...]
    read_shares: tuple[float, ...]
    values: dict[Access, float]

    def at(self, access: Access) -> float:
        """Return the share of peak of an access; beyond the table that of its edge."""
        corners = (
            _between(self.granules, access.granule_bytes, logarithmic=True),
            _between(self.streams, access.streams, logarithmic=True),
            _between(self.read_shares, access.read_share, logarithmic=False),
        )
        total = 0.0
        for (granule, a), (streams, b), (share, c) in product(*corners):
            if a * b * c:
                point = Access(int(granule), int(streams), share)
                total += a * b * c * self.values[point]
        return total


def _between(
    axis: tuple[float, ...], value: float, *, logarithmic: bool
) -> tuple[tuple[float, float], ...]:
    """Return the two neighbours of a value on an axis with their weights."""
    if value <= axis[0] or len(axis) == 1:
        return ((axis[0], 1.0),)
    if value >= axis[-1]:
        return ((axis[-1], 1.0),)
    i = bisect_right(axis, value)
    low, high = axis[i - 1], axis[i]
    if logarithmic:
        part = (log2(value) - log2(low)) / (log2(high) - log2(low))
    else:
        part = (value - low) / (high - low)
    return ((low, 1 - part), (high, part))


@lru_cache(maxsize=1)
def efficiency_tables() -> dict[str, EfficiencyTable]:
    """Return the tables by device. Raises InputError if the file is missing or broken."""
    found = (d / "dram" / TABLE_NAME for d in chip_dirs())
    path = next((p for p in found if p.is_file()), None)
    if path is None:
        raise InputError([Problem(file=TABLE_NAME, message="is in no hardware_specs/dram")])
    points: dict[str, dict[Access, float]] = {}
    with path.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                access = Access(
                    int(row["granule_bytes"]), int(row["streams"]), float(row["read_share"])
                )
                points.setdefault(row["device"], {})[access] = float(row["efficiency"])
            except (KeyError, TypeError, ValueError) as error:
                message = f"is not a row of {', '.join(COLUMNS)}"
                raise InputError(
                    [Problem(file=display(path), line=number, message=message)]
                ) from error
    return {device: table_of(device, values) for device, values in points.items()}


def table_of(device: str, values: dict[Access, float]) -> EfficiencyTable:
    """Return the table of a full grid of points."""
    return EfficiencyTable(
        device=device,
        granules=tuple(sorted({a.granule_bytes for a in values})),
        streams=tuple(sorted({a.streams for a in values})),
        read_shares=tuple(sorted({a.read_share for a in values})),
        values=values,
    )
