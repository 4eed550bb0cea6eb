"""What a chip's spec says of its memory against what the bank-level channel says.

A kernel uses a channel in one of three ways, each a point of the device's efficiency table. Where
table and spec agree within `TOLERANCE`, the spec's number is a check; where they do not, their
ratio is a residual that the mechanism does not explain, and it stays with the chip.
"""

from dataclasses import dataclass
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


def channel_checks(spec: ChipSpec) -> tuple[ChannelCheck, ...]:
    """Return the checks of a chip: read, copy, tile; empty if its memory has no table."""
    device = nearest_device(spec.hbm_type, spec.hbm_bytes_per_s // spec.pseudo_channels)
    table = efficiency_tables().get(device.name) if device else None
    if table is None:
        return ()
    stated = {
        "read": (STREAM, spec.read_efficiency),
        "copy": (COPY, spec.copy_efficiency),
        "tile": (TILE, spec.tile_efficiency),
    }
    return tuple(
        ChannelCheck(
            chip=spec.name,
            device=table.device,
            what=what,
            stated=float(value),
            table=table.at(access),
        )
        for what, (access, value) in stated.items()
    )
