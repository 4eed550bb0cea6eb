"""What a microscope run found: one record a point."""

from dataclasses import dataclass
from typing import Final

from sim.hardware.dram.channel import Command
from sim.hardware.dram.state import CAUSES as DRAM_CAUSES
from sim.scenario.microscope_scenario import Axis

MICRO_SCHEMA_VERSION: Final = 1
PERCENTILES: Final = (50, 90, 99)

CAUSE_TEXTS: Final = {
    "data": "the data bus carries data",
    "row_miss": "a bank without an open row is being activated (tRCD)",
    "bank_conflict": "another row of the same bank must be closed first (tRAS, tRP)",
    "faw": "activations are limited: tFAW, tRRD or the row command bus",
    "turnaround": "the bus changes between reads and writes",
    "refresh": "a refresh occupies banks or is waited for",
    "column": "spacing of accesses: tCCD_L, tCCD_R, the column command bus",
    "idle": "nothing was asked of this data bus",
}
CAUSE_NAMES: Final = {
    "data": "data", "row_miss": "row miss", "bank_conflict": "bank conflict", "faw": "FAW",
    "turnaround": "turnaround", "refresh": "refresh", "column": "column", "idle": "idle",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Read latencies in ns: mean, percentiles as `PERCENTILES`, longest, and a histogram.

    `counts[i]` reads took from `edges_ns[i]` to `edges_ns[i + 1]`.
    """

    reads: int
    mean_ns: float
    percentiles_ns: tuple[float, ...]
    max_ns: float
    edges_ns: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroResult:
    """One point. `cause_edges` sums to `span_edges` x `pseudo_channels` exactly.

    `bank_bytes` is what was asked of each bank, pseudo-channel by pseudo-channel; it sums to
    `moved_bytes`. Bandwidth and latency leave out the first and last tenth of the granules.
    """

    contestant: str
    device: str
    map_label: str
    refresh: str
    pattern: str
    kind: str
    axes: tuple[Axis, ...]
    chunk_bytes: int
    moved_bytes: int
    peak_bytes_per_s: int
    bandwidth_fraction: float
    latency: Latency | None
    row_hit_rate: float
    bank_utilisation: float
    cause_edges: dict[str, int]
    span_edges: int
    span_ps: int
    pseudo_channels: int
    activations: int
    refreshes: int
    bank_bytes: tuple[int, ...]

    @property
    def bytes_per_s(self) -> float:
        """Return the bandwidth."""
        return self.bandwidth_fraction * self.peak_bytes_per_s

    @property
    def where(self) -> str:
        """Return the place on the axes as text, empty without any.

        >>> _toy = Axis(key="chunk", value=64, label="64 B")
        >>> f"{_toy.key} {_toy.label}"
        'chunk 64 B'
        """
        return ", ".join(f"{axis.key} {axis.label}" for axis in self.axes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroLog:
    """The commands of one point, times of a clock edge in ps as a fraction, and bank names."""

    title: str
    commands: tuple[Command, ...]
    clock_ps: int
    edges_per_clock: int
    burst_ps: int
    read_delay_ps: int
    write_delay_ps: int
    banks: tuple[str, ...]
    bank_pc: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroResults:
    """All points in the order of the scenario; `log` is of the first, if a timeline is wanted."""

    name: str
    title: str
    version: str
    seed: int
    total_bytes: int
    points: tuple[MicroResult, ...]
    log: MicroLog | None = None

    @property
    def contestants(self) -> tuple[str, ...]:
        """Return the names of the contestants in order."""
        return tuple(dict.fromkeys(point.contestant for point in self.points))

    @property
    def patterns(self) -> tuple[str, ...]:
        """Return the names of the patterns in order."""
        return tuple(dict.fromkeys(point.pattern for point in self.points))


__all__ = ["CAUSE_NAMES", "CAUSE_TEXTS", "DRAM_CAUSES", "Latency", "MicroLog", "MicroResult",
           "MicroResults"]  # fmt: skip
