"""The chip that a row was measured on, for what engines decide by architecture."""

from functools import cache
from typing import Final

from analysis.validate.case import Row, UnpredictableError
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


def chip_of(row: Row) -> ChipSpec:
    """Return the chip of a row's GPU. Raises UnpredictableError if there is none."""
    chip = chip_named(row["gpu"])
    if chip is None:
        raise UnpredictableError(f"no chip {row['gpu']}")
    return chip


def is_before_hopper(row: Row) -> bool:
    """Return whether a row's GPU is older than Hopper."""
    return chip_of(row).generation in _BEFORE_HOPPER
