"""Which device of `hardware_specs/dram` stands for a chip's memory."""

from functools import lru_cache
from typing import Final

from sim.hardware.dram.timing import DramSpec, dram_files, load_dram

# What chips call their memory, by how the names of its devices begin. HBM3e below 9.2 Gbit/s
# behaves as HBM3 of its rate; LPDDR5X has no table of its own; GDDR7 has none, nor one close to it.
_FAMILIES: Final = {
    "HBM2": "hbm2",
    "HBM2e": "hbm2",
    "HBM3": "hbm3",
    "HBM3e": "hbm3",
    "HBM4": "hbm4",
    "GDDR6": "gddr6",
    "GDDR6X": "gddr6",
    "LPDDR5": "lpddr5",
    "LPDDR5X": "lpddr5",
    "DDR5": "ddr5",
}


@lru_cache(maxsize=64)
def nearest_device(memory: str, pseudo_channel_bytes_per_s: int) -> DramSpec | None:
    """Return the device of a memory type nearest in rate to a pseudo-channel, None without one."""
    family = _FAMILIES.get(memory)
    if family is None:
        return None
    specs = [load_dram(name) for name in dram_files() if name.startswith(family)]
    return min(specs, key=lambda spec: (_distance(spec, pseudo_channel_bytes_per_s), spec.name))


def _distance(spec: DramSpec, bytes_per_s: int) -> int:
    return abs(spec.peak_bytes_per_s // spec.organisation.pseudo_channels - bytes_per_s)
