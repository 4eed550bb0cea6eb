"""A DRAM device for a chip: the one of its memory type, its clock scaled to the chip's peak."""

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import lru_cache

from sim.errors import InputError, Problem
from sim.hardware.dram.devices import nearest_device
from sim.hardware.dram.timing import DramSpec, DramTiming
from sim.units import PS_PER_S

# What a standard defines in clocks; everything else is a time of the arrays or the circuits.
_IN_CLOCKS = frozenset({"burst", "ccd_s", "ccd_l", "ccd_r", "ccd_l_wr"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledDram:
    """A device whose edges last `edge_ps`, so that a pseudo-channel's peak is exactly the chip's.

    Times of `spec` are in its nominal clocks; only the counts matter.
    """

    spec: DramSpec
    edge_ps: Fraction

    def time_ps(self, edge: int) -> int:
        """Return the first picosecond not before an edge."""
        return -(-edge * self.edge_ps.numerator // self.edge_ps.denominator)

    def edge(self, time_ps: int) -> int:
        """Return the first edge not before a time."""
        return -(-time_ps * self.edge_ps.denominator // self.edge_ps.numerator)

    @property
    def access_ps(self) -> int:
        """Return how long a read of an idle, closed bank takes: tRCD, CL and the burst."""
        e = self.spec.edges()
        return self.time_ps(e.rcd_rd + e.read_latency)


@lru_cache(maxsize=64)
def dram_for(memory_type: str, pseudo_channels: int, peak_bytes_per_s: int) -> ScaledDram:
    """Return the device of that type whose pseudo-channel is nearest to the chip's, scaled to it.

    Counts in nanoseconds are kept in ns and rounded up to clocks; those that a standard gives in
    clocks are kept in clocks. Raises InputError if there is no device of the type.
    """
    rate = Fraction(peak_bytes_per_s, pseudo_channels)
    spec = nearest_device(memory_type, int(rate))
    if spec is None:
        problem = Problem(
            file="hardware_specs/dram",
            key="hbm.type",
            message=f'holds no device of type {memory_type!r}, which channel = "bank" needs',
        )
        raise InputError([problem])
    o, t = spec.organisation, spec.timing
    clock = PS_PER_S * o.access_bytes / rate / (t.burst // o.clock_ps)
    ratio = Fraction(o.clock_ps) / clock
    counts = {f.name: getattr(t, f.name) // o.clock_ps for f in fields(DramTiming)}
    scaled = {
        name: o.clock_ps * (count if name in _IN_CLOCKS else -int(-count * ratio // 1))
        for name, count in counts.items()
    }
    return ScaledDram(
        spec=replace(spec, timing=DramTiming(**scaled)),
        edge_ps=clock / spec.bus.edges_per_clock,
    )
