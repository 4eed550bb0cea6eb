"""`sim.hardware.channel_check`: the table where it explains a chip's number, else the number."""

from dataclasses import replace
from fractions import Fraction

import pytest

from sim.hardware.channel_check import (
    SHORT_OF_TILE,
    TOLERANCE,
    channel_checks,
    efficiencies,
    stated_efficiencies,
)
from sim.hardware.hbm import ChannelTiming
from sim.hardware.spec import ChipSpec, available_chips, load_chip
from sim.resources import chip_dirs
from sim.units import PS_PER_S
from tests.unit.hardware.chips import toy_chip

CHIPS = available_chips(chip_dirs())


def chip(name: str = "h100-sxm", **changes: object) -> ChipSpec:
    return replace(load_chip(name, chip_dirs()), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CHIPS)
def test_every_chip_uses_the_table_where_it_explains_the_spec(name: str) -> None:
    """Within 4 % the table's number to three digits, beyond it or without a table the spec's."""
    spec = chip(name)
    used, stated = efficiencies(spec), stated_efficiencies(spec)
    table = {check.what: check for check in channel_checks(spec)}
    if table and not table["read"].explained:
        assert used == stated
        return
    for what in ("read", "copy", "tile"):
        value = getattr(used, what)
        if what in table and abs(table[what].table / float(getattr(stated, what)) - 1) <= TOLERANCE:
            assert float(value) == pytest.approx(table[what].table, abs=0.00051)
        else:
            assert value == getattr(stated, what)


@pytest.mark.parametrize("name", CHIPS)
def test_no_use_is_better_than_a_simpler_one(name: str) -> None:
    """Copies are at most as good as reads, so a write costs a read at least; then tiles."""
    used, timing = efficiencies(chip(name)), ChannelTiming.of(chip(name))
    assert used.copy <= used.read
    assert used.short == used.tile * SHORT_OF_TILE
    assert used.short < used.tile <= used.read
    assert timing.write_ps_per_byte >= timing.read_ps_per_byte


@pytest.mark.parametrize("name", CHIPS)
def test_the_device_takes_what_is_used(name: str) -> None:
    """Reads, tiles and short rows at their shares of the peak; a copy of each byte at its own."""
    spec = chip(name)
    used, timing = efficiencies(spec), ChannelTiming.of(spec)
    peak = Fraction(PS_PER_S * spec.pseudo_channels, spec.hbm_bytes_per_s)
    assert timing.read_ps_per_byte * used.read == peak
    assert timing.tile_ps_per_byte * used.tile == peak
    assert timing.short_ps_per_byte * used.short == peak
    assert (timing.read_ps_per_byte + timing.write_ps_per_byte) * used.copy == 2 * peak
    assert timing.write_ps_per_byte > 0


def test_h100_is_explained() -> None:
    """HBM3 at 5.2 Gbit/s: .957, .876 and .879 instead of the measured .949, .866 and .89."""
    used = efficiencies(chip())
    assert (used.read, used.copy, used.tile) == (
        Fraction(957, 1000),
        Fraction(876, 1000),
        Fraction(879, 1000),
    )


def test_a_number_just_outside_the_tolerance_stays() -> None:
    """The table says .876 of copies: .843 is explained by it, .842 is not."""
    inside = chip(copy_efficiency=Fraction(843, 1000))
    outside = chip(copy_efficiency=Fraction(842, 1000))
    assert efficiencies(inside).copy == Fraction(876, 1000)
    assert efficiencies(outside).copy == Fraction(842, 1000)
    assert efficiencies(outside).read == Fraction(957, 1000)


def test_a_chip_whose_reads_are_not_explained_keeps_all_it_states() -> None:
    """A100 80 GB reads at .858 where its channels could do .942; the table's tiles are near."""
    a100 = chip("a100-sxm-80gb")
    explained = {check.what: check.explained for check in channel_checks(a100)}
    assert (explained["read"], explained["tile"]) == (False, True)
    assert efficiencies(a100) == stated_efficiencies(a100)


def test_copies_never_pass_reads() -> None:
    """A copy of .96 is stated of a chip whose reads the table sees at .957."""
    odd = chip(read_efficiency=Fraction(97, 100), copy_efficiency=Fraction(96, 100))
    assert (efficiencies(odd).read, efficiencies(odd).copy) == (
        odd.read_efficiency,
        odd.copy_efficiency,
    )


@pytest.mark.parametrize("memory", ["HBM", "GDDR7", "HBM9"])
def test_a_memory_without_a_table_keeps_what_is_stated(memory: str) -> None:
    toy = toy_chip(hbm_type=memory)
    assert channel_checks(toy) == ()
    assert efficiencies(toy) == stated_efficiencies(toy)
