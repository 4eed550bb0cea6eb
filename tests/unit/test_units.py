"""`sim.units`: text with units becomes integers, exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.units import (
    BYTES,
    BYTES_PER_S,
    FLOP_PER_S,
    HERTZ,
    PS_PER_S,
    TIME_PS,
    QuantityError,
    ceil_div,
    cycles_ps,
    format_bytes,
    format_flop_rate,
    format_frequency,
    format_rate,
    format_time,
    parse_quantity,
    transfer_ps,
    work_ps,
)


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("80 GB", BYTES, 80_000_000_000),
        ("50 MiB", BYTES, 52_428_800),
        ("256B", BYTES, 256),
        ("1_000 kB", BYTES, 1_000_000),
        ("3.35 TB/s", BYTES_PER_S, 3_350_000_000_000),
        ("1.3 us", TIME_PS, 1_300_000),
        ("-2 ns", TIME_PS, -2_000),
        ("1.755 GHz", HERTZ, 1_755_000_000),
        ("989.4 TFLOPS", FLOP_PER_S, 989_400_000_000_000),
        ("1e3 GFLOPS", FLOP_PER_S, 10**12),
    ],
)
def test_text_with_a_unit_is_an_exact_integer(text: str, units: dict[str, int], value: int) -> None:
    """SI is 1000, IEC 1024, and no binary fraction comes in between."""
    assert parse_quantity(text, units) == value


@pytest.mark.parametrize(
    ("text", "unit"),
    [("80", ""), ("GB", ""), ("80 gb", "gb"), ("80 GB/s", "GB/s"), ("8 G B", ""), ("1e999 B", "")],
)
def test_text_without_a_right_unit_is_refused(text: str, unit: str) -> None:
    """The message names what was expected, and the error the unit that was found."""
    with pytest.raises(QuantityError) as caught:
        parse_quantity(text, {"B": 1, "GB": 10**9})
    assert str(caught.value) == (f"{text!r} is not a quantity: expected a number and one of B, GB")
    assert caught.value.unit == unit


@given(size=st.integers(0, 10**12), rate=st.integers(1, 10**15))
def test_a_transfer_is_never_faster_than_its_rate(size: int, rate: int) -> None:
    """Time rounds up by less than a picosecond."""
    time_ps = transfer_ps(size, rate)
    assert (time_ps - 1) * rate < size * PS_PER_S <= time_ps * rate
    assert work_ps(size, rate) == time_ps


def test_cycles_round_up() -> None:
    """Three cycles at 2 GHz are 1.5 ns; a third of a nanosecond rounds up."""
    assert cycles_ps(3, 2 * 10**9) == 1500
    assert cycles_ps(1, 3 * 10**9) == 334
    assert ceil_div(-7, 2) == -3


def test_numbers_are_told_with_three_digits() -> None:
    """Each kind picks the largest unit that leaves a number of at least one."""
    assert format_time(0) == "0 ps"
    assert format_time(1_234_567) == "1.23 us"
    assert format_bytes(999) == "999 B"
    assert format_rate(3_350_000_000_000) == "3.35 TB/s"
    assert format_flop_rate(1_979_000_000_000_000) == "1.98 PFLOPS"
    assert format_frequency(1_980_000_000) == "1.98 GHz"
