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
from itertools import accumulate
from math import ceil, gcd, lcm

from sim.hardware.address_map import AddressMap
from sim.hardware.channel_check import efficiencies
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import Segment
from sim.measure.busy import BusyLog
from sim.measure.probe import Probe
from sim.units import PS_PER_S, ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTiming:
    """How long one pseudo-channel is busy per byte, in ps, as exact fractions.

    Derived from `sim.hardware.channel_check.efficiencies`: reads run at the read efficiency of the
    peak; writes cost what makes a 1:1 mix reach that of a copy (1/w = 2/copy - 1/read), so bus
    turnaround is charged to the writes. Weight matrices read in tiles (short rows of many streams,
    few bytes per activated DRAM row) run at the tile efficiency, in pieces of half a cache line at
    that of short rows.
    """

    read_ps_per_byte: Fraction
    tile_ps_per_byte: Fraction
    short_ps_per_byte: Fraction
    write_ps_per_byte: Fraction

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, spec: ChipSpec) -> "ChannelTiming":
        """Return the timing of one pseudo-channel of `spec`."""
        peak_ps = Fraction(PS_PER_S * spec.pseudo_channels, spec.hbm_bytes_per_s)
        share = efficiencies(spec)
        return cls(
            read_ps_per_byte=peak_ps / share.read,
            tile_ps_per_byte=peak_ps / share.tile,
            short_ps_per_byte=peak_ps / share.short,
            write_ps_per_byte=peak_ps * (2 / share.copy - 1 / share.read),
        )


def _layout(segment: Segment) -> int:
    """Return how a segment is read: 0 in long runs, 1 in tiles, 2 in tiles of short rows."""
    return int(segment.tiled) + int(segment.tiled and segment.short)


class HbmChannel:
    """A class of `multiplicity` pseudo-channels that get identical shares of every request."""

    __slots__ = ("busy", "free_ps", "multiplicity", "name")

    def __init__(self, name: str, multiplicity: int) -> None:
        self.name = name
        self.multiplicity = multiplicity
        self.free_ps = 0
        self.busy = BusyLog()

    def serve(self, arrival_ps: int, read_ps: int, write_ps: int) -> tuple[int, int]:
        """Be busy for reads, then for writes, of one instant; return (start, reads done).

        Writes are posted: nobody waits for them, but they delay later arrivals.
        """
        start = max(arrival_ps, self.free_ps)
        done = start + read_ps
        self.free_ps = done + write_ps
        if self.free_ps > start:
            self.busy.add(start, self.free_ps)
        return start, done


class Hbm:
    """All pseudo-channels behind one address map.

    With symmetry on, channels that get identical shares of every segment are one class. Counts
    the bytes read per segment; write-backs are spread evenly and counted by the L2.
    """

    __slots__ = ("_classes", "_costs", "channels", "probe", "read_bytes")
    access_ps = 0  # of the latency that `serve` contains already

    def __init__(
        self,
        spec: ChipSpec,
        probe: Probe | None,
        *,
        address_map: AddressMap,
        segments: Sequence[Segment],
        symmetry: bool,
    ) -> None:
        self.probe = probe
        layouts = tuple(_layout(segment) for segment in segments)
        shares = address_map.shares(segments)
        self._classes = _channel_classes(ChannelTiming.of(spec), shares, layouts, symmetry)
        self.channels = [HbmChannel(f"hbm{i}", n) for i, n in enumerate(self._classes.counts)]
        self._costs = self._classes.costs
        self.read_bytes = [0] * len(segments)

    def serve(
        self, arrival_ps: int, reads: Sequence[tuple[int, int]], write_bytes: int
    ) -> tuple[int, BusyLog]:
        """Serve `reads` (segment, bytes) and evenly spread write-backs that arrive together.

        Returns when the last read is done, and the log of the channel that finished last.
        """
        for segment, size in reads:
            self.read_bytes[segment] += size
        unit = self._classes.unit
        last, slowest = -1, self.channels[0]
        for index, (channel, costs) in enumerate(zip(self.channels, self._costs, strict=True)):
            load = 0
            for segment, size in reads:
                load += size * costs[segment]
            write_ps = ceil_div(write_bytes * costs[-1], unit) if write_bytes else 0
            start, done = channel.serve(arrival_ps, ceil_div(load, unit), write_ps)
            if self.probe is not None and channel.free_ps > start:
                moved = self._classes.bytes_of(index, reads, write_bytes)
                self.probe.served(channel.name, start, channel.free_ps, moved)
            if done > last:
                last, slowest = done, channel
        return last, slowest.busy

    def finish(self) -> None:
        """Do nothing: every request was served when it came."""

    def busiest_bytes(self) -> int:
        """Return what all channels would have read, had each read as much as the busiest one."""
        per_channel = (
            sum(part * size for part, size in zip(parts[:-1], self.read_bytes, strict=True))
            for parts in self._classes.parts
        )
        return ceil(max(per_channel) * sum(self._classes.counts))

    def dram_ps(self, _time_ps: int) -> None:
        """Return None: servers with a rate know no commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Classes:
    """Classes of channels that get identical shares of every segment.

    `counts` are the channels of each class; `costs[class][segment]` is what a byte of the segment
    costs a channel of the class, in `unit`-ths of a ps (the last segment stands for writes);
    `parts[class][segment]` is the part of the segment that one channel of the class holds;
    `edges[segment]` cuts the segment's bytes into the parts of the classes.
    """

    unit: int
    counts: tuple[int, ...]
    costs: tuple[tuple[int, ...], ...]
    parts: tuple[tuple[Fraction, ...], ...]
    edges: tuple[tuple[Fraction, ...], ...]

    def bytes_of(self, index: int, reads: Sequence[tuple[int, int]], write_bytes: int) -> int:
        """Return the bytes that a class moves; over all classes they sum to the whole."""
        return sum(
            int(size * self.edges[segment][index + 1]) - int(size * self.edges[segment][index])
            for segment, size in (*reads, (-1, write_bytes))
        )


@lru_cache(maxsize=256)
def _channel_classes(
    timing: ChannelTiming,
    shares: tuple[tuple[int, ...], ...],
    layouts: tuple[int, ...],
    symmetry: bool,
) -> _Classes:
    """Return the classes for `shares`: one row per segment and a last one for writes.

    A request splits over the channels in proportion to its row.
    """
    costs = (
        timing.read_ps_per_byte,
        timing.tile_ps_per_byte,
        timing.short_ps_per_byte,
        timing.write_ps_per_byte,
    )
    unit = lcm(*(cost.denominator for cost in costs))
    *reads, write = (cost.numerator * (unit // cost.denominator) for cost in costs)
    row_costs = [*(reads[layout] for layout in layouts), write]
    shares = tuple(tuple(share // gcd(*row) for share in row) for row in shares)
    totals = [sum(row) for row in shares]
    per = lcm(*totals)
    columns = list(zip(*shares, strict=True))
    groups = list(Counter(columns).items()) if symmetry else [(column, 1) for column in columns]
    scale = [per // total * cost for total, cost in zip(totals, row_costs, strict=True)]
    return _Classes(
        unit=per * unit,
        counts=tuple(count for _, count in groups),
        costs=tuple(
            tuple(weight * factor for weight, factor in zip(column, scale, strict=True))
            for column, _ in groups
        ),
        parts=tuple(
            tuple(Fraction(weight, total) for weight, total in zip(column, totals, strict=True))
            for column, _ in groups
        ),
        edges=tuple(
            tuple(accumulate((Fraction(c[row] * n, total) for c, n in groups), initial=Fraction(0)))
            for row, total in enumerate(totals)
        ),
    )
