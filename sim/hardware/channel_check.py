"""How well a chip's HBM is used: what its spec says, what the bank-level channel says, what holds.

A kernel uses a channel in one of four ways, each a point of the device's efficiency table. Where
table and spec agree within `TOLERANCE`, the table's number is used and the spec's is a check;
where they do not, their ratio is a residual that the mechanism does not explain: it stays with the
chip, and the spec's number is used.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

from sim.hardware.dram.devices import nearest_device
from sim.hardware.dram.efficiency import Access, efficiency_tables
from sim.hardware.spec import ChipSpec

TOLERANCE: Final = 0.04

# Long runs: CTAs far apart sweep runs of some kilobytes; a copy is two such sweeps. Weight tiles:
# rows of 128 bytes whose neighbour follows a stage later, so 256 bytes (the interleave) arrive as
# one, from more rows at once than there are banks.
STREAM: Final = Access(4096, 16, 1.0)
COPY: Final = Access(4096, 16, 0.5)
TILE: Final = Access(256, 256, 1.0)
# Rows of 64 bytes: nothing follows soon enough to be read with them.
SHORT: Final = Access(64, 256, 1.0)
# What no spec states, as a share of `tile_efficiency`: weights read 64 bytes of a row at a time
# (Triton's default MoE tile, 32 values of K) come at 1.18 TB/s on A100 and 2.28 on H100, with 128
# bytes at 1.73 and 2.95 (aiconfigurator-core 0.12.0, Mixtral 8x7B in SGLang, read 2026-11-23).
SHORT_OF_TILE: Final = Fraction(18, 25)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelCheck:
    """One efficiency of a chip: what its spec states and what the table gives, shares of peak."""

    chip: str
    device: str
    what: str
    stated: float
    table: float

    @property
    def residual(self) -> float:
        """Return what is left for the chip when the table has explained its part."""
        return self.stated / self.table

    @property
    def explained(self) -> bool:
        """Return whether the table explains the stated number within the tolerance."""
        return abs(self.table / self.stated - 1) <= TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiencies:
    """Shares of a channel's peak: long runs, a copy, weight tiles, tiles of short rows."""

    read: Fraction
    copy: Fraction
    tile: Fraction
    short: Fraction


def stated_efficiencies(spec: ChipSpec) -> Efficiencies:
    """Return what the spec states, and for short rows what other chips show."""
    return Efficiencies(
        read=spec.read_efficiency,
        copy=spec.copy_efficiency,
        tile=spec.tile_efficiency,
        short=spec.tile_efficiency * SHORT_OF_TILE,
    )


@lru_cache(maxsize=64)
def efficiencies(spec: ChipSpec) -> Efficiencies:
    """Return the efficiencies that the device uses: the table's where it explains the spec's."""
    taken = from_table(spec)
    read = taken.get("read", spec.read_efficiency)
    tile = taken.get("tile", spec.tile_efficiency)
    copy = taken.get("copy", spec.copy_efficiency)
    return Efficiencies(read=read, copy=copy, tile=tile, short=tile * SHORT_OF_TILE)


def from_table(spec: ChipSpec) -> dict[str, Fraction]:
    """Return what of read, copy and tile is taken from the table.

    If not even long reads are explained, something outside the channels limits them, and the table
    is right about the rest by chance: then nothing is taken. Nor are read and copy where mixing
    table and spec would make a copy better than a read. The table's short rows explain no chip
    (docs/decisions/0027-channel-tables.md) and are only shown.
    """
    checks = (check for check in channel_checks(spec) if check.what != "short")
    found = {check.what: _exact(check.table) for check in checks if check.explained}
    if "read" not in found:
        return {}
    if found.get("copy", spec.copy_efficiency) > found["read"]:
        return {what: value for what, value in found.items() if what == "tile"}
    return found


def _exact(share: float) -> Fraction:
    """Return a share of three digits, as specs have them, so that sums of times stay cheap."""
    return Fraction(round(1000 * share), 1000)


def channel_checks(spec: ChipSpec) -> tuple[ChannelCheck, ...]:
    """Return the checks of a chip: read, copy, tile, short; empty if its memory has no table."""
    device = nearest_device(spec.hbm_type, spec.hbm_bytes_per_s // spec.pseudo_channels)
    table = efficiency_tables().get(device.name) if device else None
    if table is None:
        return ()
    stated = stated_efficiencies(spec)
    listed = (
        ("read", STREAM, stated.read),
        ("copy", COPY, stated.copy),
        ("tile", TILE, stated.tile),
        ("short", SHORT, stated.short),
    )
    return tuple(
        ChannelCheck(
            chip=spec.name,
            device=table.device,
            what=what,
            stated=float(value),
            table=table.at(access),
        )
        for what, access, value in listed
    )
