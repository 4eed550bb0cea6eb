"""The chip that a row was measured on, for what engines decide by architecture."""

from functools import cache
from typing import Final

from analysis.validate.case import Row
from sim.errors import InputError
from sim.hardware.spec import ChipSpec, load_chip
from sim.resources import chip_dirs

# Chips whose kernels are written for `mma.sync`: no wgmma, no tensor memory.
_BEFORE_HOPPER: Final = frozenset({"ampere", "ada"})


@cache
def chip_named(name: str) -> ChipSpec | None:
    """Return the chip of this name or alias, or None if there is no spec of it."""
    try:
        return load_chip(name, chip_dirs())
    except InputError:
        return None


def generation_of(row: Row) -> str:
    """Return the architecture generation of a row's GPU; an empty text if it has no spec."""
    chip = chip_named(row["gpu"])
    return chip.generation if chip else ""


def is_before_hopper(row: Row) -> bool:
    """Return whether a row's GPU is older than Hopper."""
    return generation_of(row) in _BEFORE_HOPPER
