"""Microscope scenarios: what they mean, and what is said of wrong ones."""

from pathlib import Path

import pytest

from sim.errors import ScenarioError
from sim.hardware.dram.address import MAPS
from sim.scenario.load import load_any, load_scenario
from sim.scenario.microscope_scenario import MicroScenario

GOOD = """
title = "t"
bytes = "4 KiB"
[channel]
device = "hbm3-5200"
[[patterns]]
kind = "random"
"""


def load(folder: Path, text: str, *overrides: str) -> MicroScenario:
    file = folder / "one.toml"
    file.write_text(text)
    scenario = load_any(str(file), overrides)
    assert isinstance(scenario, MicroScenario)
    return scenario


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        load(folder, text)
    return [f"{p.line} {p.key}: {p.message}" for p in caught.value.problems]


def test_a_file_with_patterns_is_for_the_microscope(tmp_path: Path) -> None:
    scenario = load(tmp_path, GOOD)
    assert scenario.contestants == ("hbm3-5200",)
    assert scenario.patterns == ("random",)
    (point,) = scenario.points
    assert point.address_map == MAPS["bglow_x"]
    assert point.pattern.integer("chunk") == 64
    assert point.axes == ()


def test_a_microscope_scenario_is_no_grid_of_points(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(GOOD)
    with pytest.raises(ScenarioError, match="makes a microscope scenario"):
        load_scenario(str(tmp_path / "one.toml"))


def test_lists_are_swept_in_the_order_of_the_file_the_channel_first(tmp_path: Path) -> None:
    text = GOOD.replace("[[patterns]]", 'map = ["bglow", "colow"]\n[[patterns]]')
    scenario = load(tmp_path, text + 'chunk = ["64 B", "512 B", "128 B"]\n')
    assert [tuple(axis.label for axis in point.axes) for point in scenario.points] == [
        ("bglow", "64 B"), ("bglow", "512 B"), ("bglow", "128 B"),
        ("colow", "64 B"), ("colow", "512 B"), ("colow", "128 B"),
    ]  # fmt: skip
    assert [axis.key for axis in scenario.points[0].axes] == ["map", "chunk"]
    assert scenario.points[1].axes[1].value == 512


def test_a_contestant_says_what_it_has_of_its_own(tmp_path: Path) -> None:
    text = (
        GOOD
        + """
[[contestants]]
name = "a"
order = ["column", "pc", "group", "bank", "stack", "row"]
hash = "ipoly"
preset = "dramsim3"
row_timeout = "2 us"
[[contestants]]
name = "b"
device = "h100-sxm"
refresh = "hidden"
"""
    )
    a, b = load(tmp_path, text).points
    assert (a.address_map.hash, a.controller.bank_queue) == ("ipoly", 8)
    assert a.controller.row_timeout_ps == 2_000_000
    assert (b.spec.name, b.controller.refresh) == ("hbm3-5200", "hidden")


def test_an_override_changes_a_key(tmp_path: Path) -> None:
    scenario = load(tmp_path, GOOD, "channel.refresh=hidden", "patterns.0.load=[0.1, 0.2]")
    assert [p.pattern.real("load") for p in scenario.points] == [0.1, 0.2]
    assert scenario.points[0].controller.refresh == "hidden"


def test_all_that_is_wrong_is_said_at_once_and_where_it_stands(tmp_path: Path) -> None:
    text = """title = "t"
[channel]
device = "hbm3-520"
refresh = "hiden"
[[patterns]]
kind = "gemm_tile"
[[patterns]]
kind = "random"
chunk = ["64 B", "100 QB"]
chnk = 3
"""
    assert problems(tmp_path, text) == [
        "3 channel.device: unknown DRAM device",
        "4 channel.refresh: unknown refresh",
        "6 patterns.0.kind: unknown kind of pattern",
        "9 patterns.1.chunk.1: unknown unit 'QB'",
        "10 patterns.1.chnk: unknown key",
    ]


def test_values_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    text = (
        GOOD
        + """chunk = "100 B"
[[patterns]]
kind = "moe_experts"
touched = 300
[[patterns]]
kind = "paged_kv"
block = [1, 2]
fill = [0.1, 0.2]
layout = ["nhd", "hnd"]
"""
    )
    assert problems(tmp_path, text) == [
        "8 patterns.0.chunk: is no whole number of accesses",
        "11 patterns.1.touched: is more than there are experts",
        "12 patterns.2: is swept along 3 axes: block, layout, fill",
    ]


def test_watermarks_and_orders_are_checked(tmp_path: Path) -> None:
    text = GOOD.replace("[[patterns]]", 'write_high = 99\norder = ["column", "pcc"]\n[[patterns]]')
    found = problems(tmp_path, text)
    assert [line.split(":")[0] for line in found] == ["6 channel.write_high", "7 channel.order"]


def test_names_may_not_be_used_twice(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD + '[[patterns]]\nkind = "random"\n') == [
        "9 patterns.1.kind: is used twice"
    ]


@pytest.mark.parametrize("name", ["kernels", "patterns", "refresh"])
def test_a_shipped_scenario_loads(name: str) -> None:
    scenario = load_any(f"microscope_{name}")
    assert isinstance(scenario, MicroScenario)
    assert len(scenario.contestants) >= 3


def test_a_point_needs_a_few_granules(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD + 'chunk = "1 KiB"\n') == ["8 patterns.0.chunk: is too large"]
    few = GOOD.replace("4 KiB", "64 B")
    assert problems(tmp_path, few)[0] == "3 bytes: is too small"
