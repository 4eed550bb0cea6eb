"""Units: the only place where text with a unit becomes an integer, and back.

Time is an integer number of picoseconds, bytes and FLOP are integers, so sums are exact and runs
are bit-identical everywhere. SI prefixes are powers of 1000 (GB, TFLOPS), IEC prefixes powers of
1024 (MiB).
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Final

PS_PER_S: Final = 10**12
PS_PER_US: Final = 10**6
PS_PER_NS: Final = 10**3

_SI: Final = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_IEC: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

BYTES: Final = {f"{p}B": f for p, f in (_SI | _IEC).items()}
BYTES_PER_S: Final = {f"{unit}/s": factor for unit, factor in BYTES.items()}
TIME_PS: Final = {"ps": 1, "ns": 10**3, "us": 10**6, "ms": 10**9, "s": PS_PER_S}
HERTZ: Final = {f"{p}Hz": _SI[p] for p in ("", "k", "M", "G")}
FLOP_PER_S: Final = {f"{p}FLOPS": _SI[p] for p in ("", "M", "G", "T", "P")}

_QUANTITY: Final = re.compile(
    r"\s*([-+]?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,2})?)\s*(\S*)\s*"
)


class QuantityError(ValueError):
    """A text is no number with one of the units `expected`; `unit` is the unit it has, if any."""

    def __init__(self, text: str, unit: str, units: dict[str, int]) -> None:
        self.unit = unit
        self.expected = f"a number and one of {', '.join(units)}"
        super().__init__(f"{text!r} is not a quantity: expected {self.expected}")


def parse_quantity(text: str, units: dict[str, int]) -> int:
    """Return `text` ("3.35 TB/s") as an integer multiple of the base unit of `units`.

    Raises QuantityError that names the accepted units if the text is no number with one of them.

    >>> parse_quantity("3.35 TB/s", BYTES_PER_S)
    3350000000000
    >>> parse_quantity("1.3 us", TIME_PS)
    1300000
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        raise QuantityError(text, match[2] if match else "", units)
    try:
        number = Decimal(match[1].replace("_", ""))
        return int((number * units[match[2]]).to_integral_value())
    except (InvalidOperation, OverflowError) as error:
        raise QuantityError(text, match[2], units) from error


def ceil_div(numerator: int, denominator: int) -> int:
    """Return numerator / denominator rounded up, in exact integer arithmetic."""
    return -(-numerator // denominator)


def transfer_ps(size_bytes: int, bytes_per_s: int) -> int:
    """Return the time to move `size_bytes` at `bytes_per_s`, rounded up to a picosecond.

    Rounding up keeps every server at or below its capacity.

    >>> transfer_ps(3_350, 3_350_000_000_000)
    1000
    """
    return ceil_div(size_bytes * PS_PER_S, bytes_per_s)


def work_ps(work: int, per_s: int) -> int:
    """Return the time for `work` FLOP (or operations) at `per_s`, rounded up to a picosecond."""
    return ceil_div(work * PS_PER_S, per_s)


def cycles_ps(cycles: int, clock_hz: int) -> int:
    """Return the length of `cycles` clock cycles, rounded up to a picosecond."""
    return ceil_div(cycles * PS_PER_S, clock_hz)


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for factor, unit in steps:
        if abs(value) >= factor:
            return f"{value / factor:.3g} {unit}"
    factor, unit = steps[-1]
    return f"{value / factor:.3g} {unit}"


def format_time(time_ps: int) -> str:
    """Return a time for people, three digits.

    >>> format_time(9_530_000_000)
    '9.53 ms'
    """
    return _scaled(time_ps, ((1e12, "s"), (1e9, "ms"), (1e6, "us"), (1e3, "ns"), (1, "ps")))


def format_bytes(size_bytes: int) -> str:
    """Return a size for people in SI units.

    >>> format_bytes(65_524_246_528)
    '65.5 GB'
    """
    return _scaled(size_bytes, ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")))


def format_rate(bytes_per_s: int) -> str:
    """Return a bandwidth for people.

    >>> format_rate(3_350_000_000_000)
    '3.35 TB/s'
    """
    return f"{format_bytes(bytes_per_s)}/s"


def format_flop_rate(flop_per_s: int) -> str:
    """Return an arithmetic rate for people.

    >>> format_flop_rate(989_400_000_000_000)
    '989 TFLOPS'
    """
    return _scaled(
        flop_per_s, ((1e15, "PFLOPS"), (1e12, "TFLOPS"), (1e9, "GFLOPS"), (1e6, "MFLOPS"))
    )


def format_frequency(hertz: int) -> str:
    """Return a clock rate for people.

    >>> format_frequency(1_755_000_000)
    '1.75 GHz'
    """
    return _scaled(hertz, ((1e9, "GHz"), (1e6, "MHz"), (1e3, "kHz"), (1, "Hz")))
