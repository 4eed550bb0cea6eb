"""Tables of what a channel delivers, the devices of chips, and the controller behind them."""

from pathlib import Path

import numpy as np
import pytest

from analysis.channel_tables import measure
from sim.errors import InputError
from sim.hardware.dram.devices import nearest_device
from sim.hardware.dram.efficiency import Access, efficiency_tables, table_of
from sim.hardware.dram.gpu_like import gpu_controller, gpu_map
from sim.hardware.dram.timing import load_dram

TOY = table_of(
    "toy",
    {
        Access(granule, streams, share): value
        for (granule, streams, share), value in {
            (64, 4, 0.0): 0.1, (64, 4, 1.0): 0.3, (64, 16, 0.0): 0.2, (64, 16, 1.0): 0.4,
            (256, 4, 0.0): 0.5, (256, 4, 1.0): 0.7, (256, 16, 0.0): 0.6, (256, 16, 1.0): 0.8,
        }.items()
    },
)  # fmt: skip


def test_a_point_of_the_table_is_its_value() -> None:
    assert TOY.at(Access(256, 4, 1.0)) == 0.7


def test_between_points_it_is_linear_in_logarithms_and_share() -> None:
    assert TOY.at(Access(128, 4, 0.0)) == pytest.approx(0.3)
    assert TOY.at(Access(64, 8, 0.0)) == pytest.approx(0.15)
    assert TOY.at(Access(64, 4, 0.25)) == pytest.approx(0.15)
    assert TOY.at(Access(128, 8, 0.5)) == pytest.approx(0.45)


def test_beyond_the_table_the_edge_holds() -> None:
    assert TOY.at(Access(8192, 1000, 1.0)) == 0.8
    assert TOY.at(Access(8, 1, 0.0)) == 0.1


def test_the_shipped_table_is_what_its_recipe_gives() -> None:
    access = Access(4096, 16, 0.5)
    efficiency, _ = measure("gddr6-14000", access)
    assert efficiency_tables()["gddr6-14000"].values[access] == round(efficiency, 4)


def test_a_broken_table_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hardware_specs" / "dram"
    folder.mkdir(parents=True)
    head = "device,granule_bytes,streams,read_share,efficiency,row_hit_rate\n"
    (folder / "efficiency.csv").write_text(head + "x,64,4,1.0,0.5,0.5\nx,64,four,1.0,0.5,0.5\n")
    monkeypatch.chdir(tmp_path)
    efficiency_tables.cache_clear()
    try:
        with pytest.raises(InputError, match=r"efficiency.csv:3.*is not a row"):
            efficiency_tables()
    finally:
        efficiency_tables.cache_clear()


@pytest.mark.parametrize(
    ("memory", "gb_per_s", "name"),
    [
        ("HBM3", 20.9, "hbm3-5200"),
        ("HBM3e", 25.0, "hbm3-6400"),
        ("HBM3e", 33.3, "hbm3e-9200"),
        ("HBM2", 19.4, "hbm2-2400"),
        ("GDDR6", 36.0, "gddr6x-19000"),
        ("LPDDR5X", 8.5, "lpddr5-6400"),
    ],
)
def test_a_chip_s_device_is_the_nearest_in_rate(memory: str, gb_per_s: float, name: str) -> None:
    device = nearest_device(memory, int(gb_per_s * 1e9))
    assert device is not None
    assert device.name == name


def test_a_memory_of_which_nothing_is_known_has_no_device() -> None:
    assert nearest_device("GDDR7", 28_000_000_000) is None


def test_the_window_is_the_same_time_on_every_memory() -> None:
    for name in ("hbm2-2400", "hbm3e-9200", "gddr6x-19000"):
        spec = load_dram(name)
        bytes_seen = gpu_controller(spec).read_queue * spec.organisation.access_bytes
        assert bytes_seen / spec.peak_bytes_per_s * 1e9 == pytest.approx(62, rel=0.02)


@pytest.mark.parametrize(("name", "piece_bytes"), [("hbm3-5200", 128), ("gddr6-14000", 256)])
def test_an_eighth_of_a_row_lies_in_one_piece(name: str, piece_bytes: int) -> None:
    o = load_dram(name).organisation
    bursts = np.arange(2 * piece_bytes // o.access_bytes)
    places = gpu_map(o).places(bursts, o)
    half = len(bursts) // 2
    assert len(set(places.bank[:half].tolist())) == 1
    assert places.bank[half] != places.bank[0]
