"""Rows of allreduce.csv and alltoall.csv: what several GPUs tell each other over their links.

Every framework is a reference of its own. Some rows of alltoall.csv hold nanoseconds
(`analysis.expert_rows.measured_us`); they are predicted in the unit that they hold.
"""

from collections.abc import Callable
from dataclasses import dataclass

from analysis.collective_rows import collective_us
from analysis.expert_rows import alltoall_us, measured_us
from analysis.validate.case import Row, UnpredictableError, number
from sim.errors import InputError
from sim.hardware.spec import ChipSpec
from sim.run.memo import Memo
from sim.units import PS_PER_S, PS_PER_US


@dataclass(frozen=True, slots=True)
class CollectiveCase:
    """One row, as sorted (column, text) pairs without what was measured."""

    table: str
    row: tuple[tuple[str, str], ...]
    unit_us: float
    size_bytes: int

    def predicted(self, chip: ChipSpec, memo: Memo) -> float:
        """Return the simulated time. Raises UnpredictableError where nothing here models it."""
        del memo
        predict: Callable[[Row, ChipSpec], float] = (
            collective_us if self.table == "allreduce" else alltoall_us
        )
        try:
            return predict(dict(self.row), chip) / self.unit_us
        except InputError as error:
            raise UnpredictableError(error.problems[0].message) from None

    def roofline(self, chip: ChipSpec) -> float:
        """Return the time of the bytes at the bandwidth of one GPU's link."""
        if chip.link is None:
            raise UnpredictableError(f"no link of {chip.name}")
        seconds = self.size_bytes / chip.link.bytes_per_s
        return seconds * (PS_PER_S / PS_PER_US) / self.unit_us

    def moved_bytes(self) -> int:
        """Return the bytes of one GPU's part."""
        return self.size_bytes


def allreduce_case(row: Row) -> CollectiveCase:
    """Return what a row of allreduce.csv timed."""
    return _case("allreduce", row, 1.0, number(row, "bytes"))


def alltoall_case(row: Row) -> CollectiveCase:
    """Return what a row of alltoall.csv timed; dispatched tokens are taken as 16 bits a value."""
    tokens, hidden, top_k = (number(row, key) for key in ("tokens", "hidden", "topk"))
    size = number(row, "bytes") or 2 * tokens * hidden * max(1, top_k)
    return _case("alltoall", row, measured_us(row) / float(row["time_us"]), size)


def _case(table: str, row: Row, unit_us: float, size_bytes: int) -> CollectiveCase:
    known = tuple(sorted((k, v) for k, v in row.items() if k not in ("time_us", "source")))
    return CollectiveCase(table, known, unit_us, size_bytes)
