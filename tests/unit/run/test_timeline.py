"""`sim.run.timeline`: a Chrome trace whose spans add up."""

import gzip
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sim.run import execute
from sim.run.timeline import write_timeline
from sim.scenario.load import load_scenario


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the events of a small run."""
    overrides = ["grid.batch=[2]", "grid.context=[64]", "hardware=a100-sxm-80gb"]
    scenario = load_scenario("moe_vs_dense", overrides)
    result = execute(scenario, memo=False)
    path = write_timeline(scenario, result, tmp_path_factory.mktemp("timeline"))
    trace: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    listed: list[dict[str, Any]] = trace["traceEvents"]
    return listed


def spans(events: list[dict[str, Any]], pid: int, thread: str) -> list[dict[str, Any]]:
    """Return the spans of a thread by its name."""
    (tid,) = [
        e["tid"]
        for e in events
        if e["ph"] == "M" and e["pid"] == pid and e["args"]["name"] == thread
    ]
    return [e for e in events if e["ph"] == "X" and e["pid"] == pid and e["tid"] == tid]


def test_kernels_and_gaps_take_turns_without_holes(events: list[dict[str, Any]]) -> None:
    """Each kernel starts when its launch gap ends, and the next gap when the kernel ends."""
    track = sorted(
        spans(events, 100, "kernels") + spans(events, 100, "launch gaps"), key=lambda e: e["ts"]
    )
    assert [e["name"] == "launch" for e in track] == [True, False] * (len(track) // 2)
    for before, after in itertools.pairwise(track):
        assert before["ts"] + before["dur"] == pytest.approx(after["ts"], abs=1e-6)


def test_servers_are_busy_within_kernels_and_never_twice_at_once(
    events: list[dict[str, Any]],
) -> None:
    """The services of the first channel class do not overlap."""
    services = sorted(spans(events, 100, "hbm0"), key=lambda e: e["ts"])
    assert len(services) > 100
    for before, after in itertools.pairwise(services):
        assert before["ts"] + before["dur"] <= after["ts"] + 1e-6


def test_no_thread_has_the_number_of_its_process(events: list[dict[str, Any]]) -> None:
    """Perfetto calls such a thread "main thread"."""
    assert all(e["tid"] != e["pid"] for e in events)


def test_a_contestant_without_a_point_has_no_track(tmp_path: Path) -> None:
    """What fits nowhere is left out of the timeline; it is not an error."""
    overrides = ["grid.batch=[1]", "grid.context=[64]"]
    scenario = load_scenario("moe_vs_dense", overrides)
    result = execute(scenario, memo=False)
    unfit = tuple(p for p in result.points if p.contestant == "MoE 30B-A3B")
    path = write_timeline(scenario, replace(result, points=unfit), tmp_path)
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert {e["pid"] for e in events} == {100}


def test_collectives_stand_among_the_kernels(tmp_path: Path) -> None:
    """Of two GPUs: the embedding, then two sums a layer for three layers."""
    overrides = ["grid.batch=[2]", "grid.context=[64]", "hardware=a100-sxm-80gb"]
    scenario = load_scenario("moe_vs_dense", overrides)
    two = replace(scenario.contestants[0], tensor_parallel=2)
    scenario = replace(scenario, contestants=(two,))
    path = write_timeline(scenario, execute(scenario, memo=False), tmp_path)
    listed = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    sums = [e for e in listed if e["ph"] == "X" and e["name"].startswith("all_reduce")]
    assert len(sums) == 1 + 3 * 2
    assert {e["args"]["ranks"] for e in sums} == {2}


def test_a_contestant_runs_on_its_own_address_map(tmp_path: Path) -> None:
    """An even map makes all channels one server; a plain one has several, and they sum up."""
    overrides = ["grid.batch=[1]", "grid.context=[64]", "contestants.1.address_map=interleaved"]
    scenario = load_scenario("moe_vs_dense", overrides)
    path = write_timeline(scenario, execute(scenario, memo=False), tmp_path)
    found = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    threads = {(e["pid"], e["args"]["name"]) for e in found if e["name"] == "thread_name"}
    assert {(100, "hbm0"), (101, "hbm0"), (101, "hbm1")} <= threads
    assert (100, "hbm1") not in threads
