"""Microscope runs: laws of their results, streams of kernels, files."""

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.errors import InvariantError
from sim.hardware.dram.timing import load_dram
from sim.hardware.walk import Interleave
from sim.run.microscope import check_point, execute_microscope
from sim.run.microscope_result import MicroResults
from sim.run.microscope_streams import stream_of
from sim.run.microscope_write import write_microscope
from sim.scenario.load import load_any
from sim.scenario.microscope_scenario import MicroScenario, PatternSpec, table_of
from sim.scenario.microscope_schema import KINDS

TEXT = """
title = "Toy"
bytes = "16 KiB"
[channel]
device = "hbm3-5200"
[[contestants]]
name = "hidden"
refresh = "hidden"
[[contestants]]
name = "no hash"
map = "bglow"
[[patterns]]
kind = "random"
chunk = ["64 B", "256 B"]
read_share = 0.5
[[patterns]]
kind = "paged_kv"
block = [1, 16]
[report]
timeline = true
"""


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> MicroScenario:
    file = tmp_path_factory.mktemp("toy") / "toy.toml"
    file.write_text(TEXT)
    loaded = load_any(str(file))
    assert isinstance(loaded, MicroScenario)
    return loaded


@pytest.fixture(scope="module")
def results(scenario: MicroScenario) -> MicroResults:
    return execute_microscope(scenario)


def test_time_by_cause_sums_to_the_run_and_bytes_to_what_was_asked(results: MicroResults) -> None:
    for point in results.points:
        assert sum(point.cause_edges.values()) == point.span_edges * point.pseudo_channels
        assert sum(point.bank_bytes) == point.moved_bytes == 16 * 1024
        assert point.latency is not None
        assert sum(point.latency.counts) == point.latency.reads
        assert 0 < point.bandwidth_fraction <= 1


def test_a_broken_law_is_a_bug(results: MicroResults) -> None:
    point = results.points[0]
    with pytest.raises(InvariantError, match="time by cause"):
        check_point(replace(point, span_edges=point.span_edges + 1))
    with pytest.raises(InvariantError, match="bytes asked of the banks"):
        check_point(replace(point, moved_bytes=point.moved_bytes + 1))


def test_points_come_in_the_order_of_the_file_for_any_number_of_processes(
    scenario: MicroScenario, results: MicroResults
) -> None:
    assert [(p.contestant, p.pattern, p.where) for p in results.points] == [
        (name, *place)
        for name in ("hidden", "no hash")
        for place in (
            ("random", "chunk 64 B"), ("random", "chunk 256 B"),
            ("paged_kv", "block 1"), ("paged_kv", "block 16"),
        )
    ]  # fmt: skip
    assert execute_microscope(scenario, jobs=2) == results


def test_a_channel_gets_its_share_and_no_byte_twice() -> None:
    address = np.arange(0, 5 * 512 * 64, 64)
    for hashed in (False, True):
        interleave = Interleave(channels=5, chunk_bytes=512, hashed=hashed)
        mine = interleave.local(address[interleave.channel_of(address) == 2])
        assert len(mine) == len(address) / 5
        assert len(set(mine.tolist())) == len(mine)


def _spec(kind: str, **said: object) -> PatternSpec:
    values = {key: listed[0] for key, listed in table_of(KINDS[kind](kind=kind)).items()}
    return PatternSpec(kind=kind, name=kind, values={**values, **said})  # type: ignore[dict-item]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_asks_for_as_many_bytes_as_it_should(kind: str) -> None:
    stream = stream_of(_spec(kind), load_dram("hbm3-5200"), 8192, np.random.default_rng(1))
    assert len(stream.address) * stream.chunk_bytes == 8192


def test_a_gemm_reads_every_byte_of_its_matrix_once() -> None:
    spec = _spec("gemm_tiles", rows=256, cols=256, channels=1, ctas=2, stages=1, tile_n=128)
    size = 256 * 256 * 2
    stream = stream_of(spec, load_dram("hbm3-5200"), size, np.random.default_rng(1))
    assert sorted(stream.address.tolist()) == list(range(0, size, stream.chunk_bytes))


def test_a_stride_that_meets_one_channel_only_is_seen_by_that_channel() -> None:
    said = {"rows": 8, "cols": 16384, "channels": 64, "channel_hash": False, "tile_n": 8}
    spec = _spec("gemm_tiles", ctas=1, stages=1, interleave=512, **said)
    stream = stream_of(spec, load_dram("hbm3-5200"), 8192, np.random.default_rng(1))
    assert len(stream.address) * stream.chunk_bytes == 8192


def test_experts_are_contiguous_and_as_many_as_touched() -> None:
    spec = _spec("moe_experts", rows=128, cols=128, experts=16, touched=3, channels=1, stages=1)
    size = 128 * 128 * 2
    stream = stream_of(spec, load_dram("hbm3-5200"), 3 * size, np.random.default_rng(1))
    assert len(set((stream.address // size).tolist())) == 3


@pytest.mark.parametrize("layout", ["nhd", "hnd"])
def test_a_layer_of_a_paged_cache_is_read_once_whatever_its_layout(layout: str) -> None:
    said = {"sequences": 2, "context": 64, "kv_heads": 2, "channels": 1, "fill": 1.0}
    spec = _spec("paged_kv", layout=layout, **said)
    size = 2 * 2 * 64 * 2 * 128 * 2
    stream = stream_of(spec, load_dram("hbm3-5200"), size, np.random.default_rng(1))
    assert sorted(stream.address.tolist()) == list(range(0, size, stream.chunk_bytes))


def test_the_files_hold_every_point_and_the_same_bytes_each_time(
    results: MicroResults, tmp_path: Path
) -> None:
    paths = write_microscope(results, tmp_path / "a")
    again = write_microscope(results, tmp_path / "b")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    rows = list(csv.DictReader((tmp_path / "a" / "microscope.csv").read_text().splitlines()))
    assert len(rows) == len(results.points)
    assert (rows[1]["axis_1"], rows[1]["value_1"]) == ("chunk", "256")
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert [point["contestant"] for point in summary["points"]][-1] == "no hash"


def test_the_timeline_shows_every_burst_as_a_command_and_as_data(
    results: MicroResults, tmp_path: Path
) -> None:
    write_microscope(results, tmp_path)
    events = json.loads(gzip.decompress((tmp_path / "timeline.json.gz").read_bytes()))
    names = [event["name"] for event in events["traceEvents"] if event["ph"] == "X"]
    bursts = results.points[0].moved_bytes // 32
    assert names.count("RD") + names.count("WR") == bursts
    assert names.count("read") + names.count("write") == bursts
    assert "ACT" in names
