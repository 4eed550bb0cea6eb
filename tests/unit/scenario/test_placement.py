"""`address_map` and `kv_pages` of a scenario: for all contestants, for one, or of no use."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sim.errors import ScenarioError
from sim.hardware.address_map import EVEN, Placement
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario

SCENARIO = """\
title = "Two"
hardware = "h100-sxm"
[grid]
batch = [1]
context = [512]
[[contestants]]
name = "a"
model = "llama-3.2-1b"
[[contestants]]
name = "b"
model = "llama-3.2-1b"
"""
Load = Callable[..., Scenario]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that loads SCENARIO with overrides."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SCENARIO)
    return lambda *overrides: load_scenario("s.toml", overrides)


def placements(scenario: Scenario) -> list[Placement]:
    return [contestant.placement for contestant in scenario.contestants]


def told(load: Load, *overrides: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        load(*overrides)
    return str(caught.value).split("\n")


def test_the_map_is_even_unless_the_scenario_says_otherwise(load: Load) -> None:
    assert placements(load()) == [EVEN, EVEN]


def test_a_contestant_may_have_a_map_of_its_own(load: Load) -> None:
    """What it does not say itself holds for all."""
    scenario = load(
        "simulation.address_map=hashed",
        "simulation.kv_pages=in_order",
        "contestants.1.address_map=interleaved",
    )
    assert placements(scenario) == [
        Placement(address_map="hashed", kv_pages="in_order"),
        Placement(address_map="interleaved", kv_pages="in_order"),
    ]


def test_misspelt_maps_and_pages_are_told_with_the_nearest(load: Load) -> None:
    assert told(load, "simulation.address_map=hash", "contestants.0.kv_pages=scatered") == [
        "--set contestants.0.kv_pages: contestants.0.kv_pages = scatered: unknown place of KV "
        "pages (expected one of scattered, in_order, contiguous; did you mean 'scattered'?)",
        "--set simulation.address_map: simulation.address_map = hash: unknown address map "
        "(expected one of even, interleaved, hashed; did you mean 'hashed'?)",
    ]


def test_pages_need_a_map_that_is_not_even(load: Load) -> None:
    """Those of all contestants, if one of them has such a map; its own, if it has."""
    (problem,) = told(load, "contestants.0.kv_pages=in_order", "contestants.1.address_map=hashed")
    assert "contestants.0.kv_pages = in_order: is of no use: an even address map" in problem
    (problem,) = told(load, "simulation.kv_pages=in_order")
    assert "simulation.kv_pages = in_order: is of no use" in problem
    load("simulation.kv_pages=in_order", "contestants.1.address_map=hashed")


def test_bank_level_channels_have_a_map_of_their_own(load: Load) -> None:
    """The map is refused where it is named, for all or for one."""
    for key in ("simulation.address_map", "contestants.1.address_map"):
        (problem,) = told(load, "simulation.channel=bank", f"{key}=hashed")
        assert f"{key} = hashed: is not simulated with bank-level channels" in problem
        assert '(expected "even", or channel = "coarse")' in problem
    load("simulation.channel=bank", "simulation.address_map=even")
