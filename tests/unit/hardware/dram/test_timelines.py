"""Whole command timelines of short streams: blocked at t-1, ready at t."""

from dataclasses import replace

import numpy as np
import pytest

from sim.hardware.dram.address import MAPS
from sim.hardware.dram.channel import Command, simulate
from sim.hardware.dram.checker import check_log
from sim.hardware.dram.controller import RAMULATOR, Controller
from sim.hardware.dram.patterns import Stream
from sim.hardware.dram.timing import DramSpec, load_dram

QUIET = replace(RAMULATOR, refresh="none")
HBM2, HBM3 = load_dram("hbm2-2000"), load_dram("hbm3-6400")
ROW = 32 * 1024  # bytes of one row index over all banks of HBM2


def stream(
    addresses: list[int],
    write: list[bool] | None = None,
    arrive_ps: list[int] | None = None,
    chunk: int = 32,
) -> Stream:
    count = len(addresses)
    return Stream(
        address=np.array(addresses, dtype=np.int64),
        write=np.array(write or [False] * count),
        arrive_ps=np.array(arrive_ps or [0] * count, dtype=np.int64),
        chunk_bytes=chunk,
    )


def log(
    requests: Stream, controller: Controller = QUIET, spec: DramSpec = HBM2
) -> list[tuple[int, str, int]]:
    result = simulate(spec, controller, MAPS["colow"], requests, log_size=1000, compiled=False)
    return [(c.edge, c.name, c.bank) for c in result.log]


def test_a_read_waits_for_its_activation() -> None:
    assert log(stream([0])) == [(0, "ACT", 0), (15, "RD", 0)]


def test_a_write_waits_for_its_own_shorter_activation() -> None:
    assert log(stream([0], write=[True])) == [(0, "ACT", 0), (13, "WR", 0)]


def test_a_row_hit_follows_after_the_long_column_distance() -> None:
    assert log(stream([0, 32])) == [(0, "ACT", 0), (15, "RD", 0), (19, "RD", 0)]


def test_another_row_of_the_bank_waits_for_tras_trp_and_trc() -> None:
    assert log(stream([0, ROW])) == [
        (0, "ACT", 0),
        (15, "RD", 0),
        (35, "PRE", 0),
        (48, "ACT", 0),
        (63, "RD", 0),
    ]


def test_pseudo_channels_share_only_the_command_buses() -> None:
    assert log(stream([0, 1024])) == [
        (0, "ACT", 0),
        (2, "ACT", 16),
        (15, "RD", 0),
        (17, "RD", 16),
    ]


def test_the_fifth_activation_waits_for_the_window_of_four() -> None:
    acts = [edge for edge, name, _ in log(stream([2048 * i for i in range(6)])) if name == "ACT"]
    assert acts == [0, 4, 8, 12, 16, 20]  # tRRD_S binds here: 4 x 4 > tFAW = 15
    spec = load_dram("dramsim3-hbm2")
    maps = [2048 * i for i in range(6)]
    result = simulate(
        spec, QUIET, MAPS["colow"], stream(maps, chunk=64), log_size=99, compiled=False
    )
    assert [c.edge for c in result.log if c.name == "ACT"] == [0, 4, 8, 12, 30, 34]


def test_a_read_after_a_write_waits_for_the_turnaround() -> None:
    requests = stream([0, 2048], write=[True, False])
    assert log(requests, replace(QUIET, write_high=1, write_low=1)) == [
        (0, "ACT", 0),
        (4, "ACT", 4),
        (13, "WR", 0),
        (26, "RD", 4),  # CWL 5 + burst 2 + tWTR_S 6
    ]


def test_hbm3_activates_on_rising_edges_and_counts_from_the_end_of_commands() -> None:
    assert log(stream([0, 0 + 64 * 1024]), spec=HBM3) == [
        (0, "ACT", 0),
        (64, "RD", 0),  # 62 + 2 - 1 = 63 edges, on the next rising one
        (92, "PRE", 0),
        (144, "ACT", 0),
        (208, "RD", 0),
    ]


def test_an_all_bank_refresh_is_issued_when_due_and_holds_the_bank() -> None:
    timeline = log(stream([0, 0], arrive_ps=[1, 3_901_000]), RAMULATOR)
    assert timeline == [
        (1, "ACT", 0),
        (16, "RD", 0),
        (3900, "PREab", 0),
        (3914, "REFab", 0),
        (3915, "REFab", 16),
        (3914 + 259, "ACT", 0),
        (3914 + 259 + 15, "RD", 0),
    ]


def test_the_closed_policy_precharges_with_the_last_hit() -> None:
    assert log(stream([0, 32]), replace(QUIET, row_policy="closed")) == [
        (0, "ACT", 0),
        (15, "RD", 0),
        (19, "RDA", 0),
    ]


def test_the_adaptive_policy_closes_an_unused_row_after_its_timeout() -> None:
    controller = replace(QUIET, row_policy="adaptive", row_timeout_ps=50_000)
    timeline = log(stream([0, 1024], arrive_ps=[1, 500_000]), controller)
    assert timeline == [
        (1, "ACT", 0),
        (16, "RD", 0),
        (66, "PRE", 0),
        (500, "ACT", 16),
        (515, "RD", 16),
    ]


def test_an_older_hit_holds_the_row_and_a_younger_one_does_not() -> None:
    held = [name for _, name, _ in log(stream([0, 32, ROW, 64]))]
    assert held == ["ACT", "RD", "RD", "RD", "PRE", "ACT", "RD"]


@pytest.mark.parametrize("index", range(1, 5))
def test_the_checker_objects_to_a_command_one_edge_early(index: int) -> None:
    result = simulate(HBM2, QUIET, MAPS["colow"], stream([0, ROW]), log_size=99, compiled=False)
    assert check_log(HBM2, result.log) == []
    early = list(result.log)
    moved = early[index]
    early[index] = Command(edge=moved.edge - 1, name=moved.name, bank=moved.bank, row=moved.row)
    assert check_log(HBM2, early)


def test_the_checker_objects_to_five_activations_in_the_window() -> None:
    spec = load_dram("dramsim3-hbm2")
    acts = [Command(edge=7 * i, name="ACT", bank=4 * (i % 4) + i // 4, row=0) for i in range(5)]
    assert [v.rule for v in check_log(spec, acts)] == ["tFAW"]
