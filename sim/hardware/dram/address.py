"""Address maps: which pseudo-channel, bank, row and column a burst lies in.

A map is an order of address bits, least significant first, and a hash. The orders are those with
which `reference_curves.csv` was made; `order` gives any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.hardware.dram.timing import Organisation

Hash = Literal["none", "xor", "ipoly"]
Array = NDArray[np.int64]

_FIELDS: Final = ("pc", "group", "bank", "stack", "row", "column")
# Irreducible polynomials over GF(2) by degree, without their leading term: B. R. Rau,
# "Pseudo-Randomly Interleaved Memory", ISCA 1991 (the IPOLY hash of GPGPU-Sim).
_IPOLY: Final = {1: 0b1, 2: 0b11, 3: 0b011, 4: 0b0011, 5: 0b00101, 6: 0b000011}


class Places(NamedTuple):
    """Where bursts lie: flat bank of the channel (pseudo-channel highest), row, column."""

    bank: Array
    row: Array
    column: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class DramMap:
    """An order of fields, least significant first, `("column:1", "pc", ...)`, and a hash.

    `field:n` takes the next n bits of a field, a bare name all that are left. `xor` is the
    `bglow_x` hash of the reference curves; `ipoly` adds to every field above the row's lowest bits
    the row modulo an irreducible polynomial.
    """

    order: tuple[str, ...]
    hash: Hash = "none"

    def places(self, bursts: Array, organisation: Organisation) -> Places:
        """Return where bursts lie, numbered from 0 in units of `access_bytes`; wraps around."""
        o = organisation
        width = _widths(o)
        found = {name: np.zeros_like(bursts) for name in _FIELDS}
        left = dict(width)
        rest = bursts % (o.capacity_bytes // o.access_bytes)
        for step in self.order:
            name, _, bits = step.partition(":")
            take = int(bits) if bits else left[name]
            done = width[name] - left[name]
            found[name] |= (rest & ((1 << take) - 1)) << done
            rest = rest >> take
            left[name] -= take
        _HASHES[self.hash](found, width)
        bank = found["pc"]
        for name, size in (
            ("stack", o.stack_ids),
            ("group", o.bank_groups),
            ("bank", o.banks_per_group),
        ):
            bank = bank * size + found[name]
        return Places(bank=bank, row=found["row"], column=found["column"])


def _widths(o: Organisation) -> dict[str, int]:
    sizes = (o.pseudo_channels, o.bank_groups, o.banks_per_group, o.stack_ids, o.rows, o.columns)
    return {name: size.bit_length() - 1 for name, size in zip(_FIELDS, sizes, strict=True)}


def _plain(found: dict[str, Array], width: dict[str, int]) -> None:
    """Leave the fields as they are."""


def _xor(found: dict[str, Array], width: dict[str, int]) -> None:
    r = found["row"]
    h = r ^ (r >> 4) ^ (r >> 8) ^ (r >> 12)
    folds = {
        "bank": h,
        "group": h >> 2,
        "pc": r ^ (r >> 5) ^ (r >> 9),
        "stack": (r >> 3) ^ (r >> 7),
    }
    for name, fold in folds.items():
        found[name] ^= fold & ((1 << width[name]) - 1)


def _ipoly(found: dict[str, Array], width: dict[str, int]) -> None:
    names = ("pc", "group", "bank", "stack")
    total = sum(width[name] for name in names)
    if not total:
        return
    remainder = _remainder(found["row"], min(total, max(_IPOLY)))
    for name in names:
        found[name] ^= remainder & ((1 << width[name]) - 1)
        remainder = remainder >> width[name]


def _remainder(value: Array, degree: int) -> Array:
    """Return `value` as a polynomial over GF(2), modulo the irreducible one of that degree."""
    polynomial = 1 << degree | _IPOLY[degree]
    rest = value.copy()
    for bit in range(40, degree - 1, -1):
        rest ^= np.where(rest >> bit & 1, polynomial << (bit - degree), 0)
    return rest


_HASHES: Final = {"none": _plain, "xor": _xor, "ipoly": _ipoly}

_BGLOW: Final = ("column:1", "pc", "group", "column", "bank", "stack", "row")
MAPS: Final = {
    "colow": DramMap(order=("column", "pc", "group", "bank", "stack", "row")),
    "bglow": DramMap(order=_BGLOW),
    "bglow_x": DramMap(order=_BGLOW, hash="xor"),
    "bglow_ipoly": DramMap(order=_BGLOW, hash="ipoly"),
}


def check_order(order: Sequence[str]) -> str | None:
    """Return what is wrong with an order of fields, or None."""
    names = [step.partition(":")[0] for step in order]
    for name in names:
        if name not in _FIELDS:
            return f"unknown field {name!r}: expected one of {', '.join(_FIELDS)}"
    missing = [name for name in _FIELDS if name not in names]
    return f"lacks {', '.join(missing)}" if missing else None
