"""`sim.hardware.dram.address`: maps place every burst once, hashed or not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.dram.address import MAPS, DramMap, Hash, check_order
from sim.hardware.dram.gpu_like import gpu_map
from sim.hardware.dram.timing import Organisation, dram_files, load_dram

DEVICES = sorted(dram_files())
HASHES: tuple[Hash, ...] = ("none", "xor", "ipoly")


@st.composite
def organisations(draw: st.DrawFn) -> Organisation:
    """Draw a channel of some thousand bursts, whatever its shape."""
    power = {name: 1 << draw(st.integers(0, 2)) for name in ("pc", "stack", "group", "bank")}
    return Organisation(
        clock_ps=1000,
        pseudo_channels=power["pc"],
        stack_ids=power["stack"],
        bank_groups=power["group"],
        banks_per_group=power["bank"],
        rows=1 << draw(st.integers(0, 4)),
        row_bytes=32 << draw(st.integers(0, 3)),
        access_bytes=32,
    )


@given(
    organisations(),
    st.permutations(["pc", "group", "bank", "stack", "row", "column"]),
    st.sampled_from(HASHES),
)
def test_any_order_and_hash_places_every_burst_once(
    organisation: Organisation, order: list[str], kind: Hash
) -> None:
    """All bursts of the channel go to distinct places within it, and further ones wrap around."""
    o = organisation
    count = o.capacity_bytes // o.access_bytes
    dram_map = DramMap(order=tuple(order), hash=kind)
    places = dram_map.places(np.arange(count, dtype=np.int64), o)
    flat = (places.bank * o.rows + places.row) * o.columns + places.column
    assert sorted(flat.tolist()) == list(range(count))
    again = dram_map.places(np.arange(count, 2 * count, dtype=np.int64), o)
    assert all((a == b).all() for a, b in zip(places, again, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [*MAPS, "gpu"])
def test_the_maps_of_every_device_are_one_to_one(device: str, name: str) -> None:
    """Checked on the bursts of the first and the last megabyte and on a thousand scattered ones."""
    o = load_dram(device).organisation
    dram_map = gpu_map(o) if name == "gpu" else MAPS[name]
    count = o.capacity_bytes // o.access_bytes
    block = min(count // 2, (1 << 20) // o.access_bytes)
    scattered = np.random.default_rng(0).integers(0, count, 1000)
    bursts = np.unique(
        np.concatenate([np.arange(block), np.arange(count - block, count), scattered])
    )
    places = dram_map.places(bursts, o)
    flat = (places.bank * o.rows + places.row) * o.columns + places.column
    assert len(np.unique(flat)) == len(bursts)
    assert places.bank.max() < o.banks
    assert places.row.max() < o.rows
    assert places.column.max() < o.columns


def test_fields_are_taken_from_the_least_significant_bit_on() -> None:
    """A column bit, the pseudo-channel, the group, what is left of the column, bank and row."""
    o = load_dram("hbm2-2000").organisation
    bits = np.array([0b1, 0b10, 0b100, 0b10000, 1 << 8, 1 << 10], dtype=np.int64)
    places = MAPS["bglow"].places(bits, o)
    assert places.column.tolist() == [1, 0, 0, 2, 0, 0]
    assert places.bank.tolist() == [0, 16, 4, 0, 1, 0]
    assert places.row.tolist() == [0, 0, 0, 0, 0, 1]


def test_the_xor_hash_is_that_of_the_reference() -> None:
    """h = r ^ r>>4 ^ r>>8 ^ r>>12: bank ^= h, group ^= h>>2, pseudo-channel ^= r ^ r>>5 ^ r>>9."""
    o = load_dram("hbm2-2000").organisation
    row = 0b1011
    burst = np.array([row << 10], dtype=np.int64)
    [bank] = MAPS["bglow_x"].places(burst, o).bank.tolist()
    assert bank == 16 * (row & 1) + 4 * (row >> 2 & 3) + (row & 3)


@pytest.mark.parametrize("hashed", ["xor", "ipoly"])
@pytest.mark.parametrize("stride_rows", [1, 2, 4, 8, 16, 32])
def test_a_hash_spreads_strides_of_rows_over_banks(hashed: Hash, stride_rows: int) -> None:
    """Without one, a stride of whole rows over all banks stays in one bank."""
    o = load_dram("hbm2-2000").organisation
    bursts = np.arange(32, dtype=np.int64) * stride_rows * o.banks * o.columns
    order = MAPS["bglow"].order
    plain = DramMap(order=order).places(bursts, o).bank
    spread = DramMap(order=order, hash=hashed).places(bursts, o).bank
    assert len(set(plain.tolist())) == 1
    assert len(set(spread.tolist())) >= 8


def test_an_order_that_lacks_or_invents_fields_is_told() -> None:
    assert check_order(MAPS["colow"].order) is None
    assert check_order(("column", "pc", "rank")) == (
        "unknown field 'rank': expected one of pc, group, bank, stack, row, column"
    )
    assert check_order(("column", "pc", "group", "bank")) == "lacks stack, row"
