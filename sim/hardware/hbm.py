"""HBM: pseudo-channels that serve bytes first come, first served.

A channel is a server with one virtual clock: a request that arrives at `t` is done at
`max(t, free) + service`. Requests of one instant are interleaved sector by sector, as round-robin
arbitration at the crossbar does, so they are one service and complete together. The service
time comes from `ChannelTiming`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import lcm

from sim.hardware.address_map import AddressMap
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import Segment
from sim.measure.busy import BusyLog
from sim.measure.probe import Probe
from sim.units import PS_PER_S, ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTiming:
    """How long one pseudo-channel is busy per byte, in ps, as exact fractions.

    Derived from measured whole-chip efficiencies: reads run at `read_efficiency` of the peak;
    writes cost what makes a 1:1 mix reach `copy_efficiency` (1/w = 2/copy - 1/read), so bus
    turnaround is charged to the writes. Weight matrices read in tiles (short rows of many streams,
    few bytes per activated DRAM row) run at `tile_efficiency`.
    """

    read_ps_per_byte: Fraction
    tile_ps_per_byte: Fraction
    write_ps_per_byte: Fraction

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, spec: ChipSpec) -> "ChannelTiming":
        """Return the timing of one pseudo-channel of `spec`."""
        peak_ps = Fraction(PS_PER_S * spec.pseudo_channels, spec.hbm_bytes_per_s)
        read = 1 / spec.read_efficiency
        return cls(
            read_ps_per_byte=peak_ps * read,
            tile_ps_per_byte=peak_ps / spec.tile_efficiency,
            write_ps_per_byte=peak_ps * (2 / spec.copy_efficiency - read),
        )


class HbmChannel:
    """A class of `multiplicity` pseudo-channels that get identical shares of every request."""

    __slots__ = ("busy", "free_ps", "multiplicity", "name", "probe")

    def __init__(self, probe: Probe | None, name: str, multiplicity: int) -> None:
        self.probe = probe
        self.name = name
        self.multiplicity = multiplicity
        self.free_ps = 0
        self.busy = BusyLog()

    def serve(self, arrival_ps: int, read_ps: int, write_ps: int, moved_bytes: int) -> int:
        """Be busy for reads, then for writes, of one instant; return when the reads are done.

        Writes are posted: nobody waits for them, but they delay later arrivals. `moved_bytes` is
        what the whole class moves, for the probe.
        """
        start = max(arrival_ps, self.free_ps)
        done = start + read_ps
        self.free_ps = done + write_ps
        if self.free_ps > start:
            self.busy.add(start, self.free_ps)
            if self.probe is not None:
                self.probe.served(self.name, start, self.free_ps, moved_bytes)
        return done


class Hbm:
    """All pseudo-channels behind one address map.

    With symmetry on, channels that get identical shares of every segment are one class. Counts
    the bytes read per segment; write-backs are spread evenly and counted by the L2.
    """

    __slots__ = ("_costs", "_per", "channels", "read_bytes")

    def __init__(
        self,
        spec: ChipSpec,
        probe: Probe | None,
        *,
        address_map: AddressMap,
        segments: Sequence[Segment],
        symmetry: bool,
    ) -> None:
        tiled = tuple(segment.tiled for segment in segments)
        shares = address_map.shares(segments)
        self._per, groups = _channel_classes(ChannelTiming.of(spec), shares, tiled, symmetry)
        self.channels = [HbmChannel(probe, f"hbm{i}", n) for i, (_, n) in enumerate(groups)]
        self._costs = [costs for costs, _ in groups]
        self.read_bytes = [0] * len(segments)

    def serve(
        self, arrival_ps: int, reads: Sequence[tuple[int, int]], write_bytes: int
    ) -> tuple[int, BusyLog]:
        """Serve `reads` (segment, bytes) and evenly spread write-backs that arrive together.

        Returns when the last read is done, and the log of the channel that finished last.
        """
        moved = write_bytes
        for segment, size in reads:
            self.read_bytes[segment] += size
            moved += size
        per = self._per
        last, slowest = -1, self.channels[0]
        for channel, costs in zip(self.channels, self._costs, strict=True):
            load = 0
            for segment, size in reads:
                load += size * costs[segment]
            write_ps = ceil_div(write_bytes * costs[-1], per) if write_bytes else 0
            done = channel.serve(arrival_ps, ceil_div(load, per), write_ps, moved)
            if done > last:
                last, slowest = done, channel
        return last, slowest.busy


@lru_cache(maxsize=256)
def _channel_classes(
    timing: ChannelTiming,
    shares: tuple[tuple[int, ...], ...],
    tiled: tuple[bool, ...],
    symmetry: bool,
) -> tuple[int, list[tuple[tuple[int, ...], int]]]:
    """Return (unit, classes): what a byte of each segment, and of a write, costs each channel.

    A class is (costs in unit-ths of a ps, number of channels). `shares` has one row per segment
    and a last one for writes; a request splits over the channels in proportion to its row.
    """
    costs = (timing.read_ps_per_byte, timing.tile_ps_per_byte, timing.write_ps_per_byte)
    unit = lcm(*(cost.denominator for cost in costs))
    read, tile, write = (cost.numerator * (unit // cost.denominator) for cost in costs)
    row_costs = [*(tile if is_tiled else read for is_tiled in tiled), write]
    totals = [sum(row) for row in shares]
    per = lcm(*totals)
    scaled = [
        [weight * (per // total) * cost for weight in row]
        for row, total, cost in zip(shares, totals, row_costs, strict=True)
    ]
    columns = list(zip(*scaled, strict=True))
    groups = list(Counter(columns).items()) if symmetry else [(column, 1) for column in columns]
    return per * unit, groups
