"""The checker by itself: each rule is silent at its distance and objects one edge before."""

from dataclasses import replace

import pytest

from sim.hardware.dram.channel import Command
from sim.hardware.dram.checker import check_log
from sim.hardware.dram.timing import DramSpec, load_dram

_HBM2 = load_dram("dramsim3-hbm2")
# An invented table, ps at 1 ns a clock, in which no rule hides behind another one.
_TIMES = {
    "burst": 2,
    "cl": 14,
    "cwl": 4,
    "rcd_rd": 13,
    "rcd_wr": 9,
    "rp": 14,
    "ras": 34,
    "rc": 51,
    "wr": 16,
    "rtp": 5,
    "ccd_s": 3,
    "ccd_l": 5,
    "ccd_r": 4,
    "ccd_l_wr": 6,
    "rrd_s": 4,
    "rrd_l": 7,
    "faw": 30,
    "wtr_s": 6,
    "wtr_l": 8,
    "rtw": 15,
    "rfc": 260,
    "rfc_pb": 80,
    "rrefd": 20,
}
SPEC = replace(
    _HBM2,
    organisation=replace(_HBM2.organisation, stack_ids=2),
    timing=replace(_HBM2.timing, **{name: 1000 * clocks for name, clocks in _TIMES.items()}),
)

Step = tuple[int, str, int]  # edge, command, bank; four banks a group, 16 a stack id
OPEN = [(0, "ACT", 0), (7, "ACT", 1), (14, "ACT", 4), (21, "ACT", 16)]
FOUR = [(0, "ACT", 0), (7, "ACT", 4), (14, "ACT", 8), (21, "ACT", 12)]
GATES: dict[str, tuple[str, list[Step], Step]] = {
    "tRCD of a read": ("tRCD", [(0, "ACT", 0)], (13, "RD", 0)),
    "tRCD of a write": ("tRCD", [(0, "ACT", 0)], (9, "WR", 0)),
    "tRAS": ("tRAS", [(0, "ACT", 0)], (34, "PRE", 0)),
    "tRAS of all": ("tRAS", [(0, "ACT", 0)], (34, "PREab", 8)),
    "tRTP": ("tRTP", [(0, "ACT", 0), (40, "RD", 0)], (45, "PRE", 0)),
    "tWR after the data": ("tWR", [(0, "ACT", 0), (40, "WR", 0)], (40 + 4 + 2 + 16, "PRE", 0)),
    "tRP": ("tRP", [(0, "ACT", 0), (40, "PRE", 0)], (54, "ACT", 0)),
    "tRP after RDA": ("tRP", [(0, "ACT", 0), (40, "RDA", 0)], (40 + 5 + 14, "ACT", 0)),
    "tRC": ("tRC", [(0, "ACT", 0), (34, "PRE", 0)], (51, "ACT", 0)),
    "tRRD_S": ("tRRD", [(0, "ACT", 0)], (4, "ACT", 4)),
    "tRRD_L": ("tRRD", [(0, "ACT", 0)], (7, "ACT", 1)),
    "tFAW": ("tFAW", FOUR, (30, "ACT", 1)),
    "tCCD_S": ("tCCD_S", [*OPEN, (40, "RD", 0)], (43, "RD", 4)),
    "tCCD_L": ("tCCD_L", [*OPEN, (40, "RD", 0)], (45, "RD", 1)),
    "tCCD_L of writes": ("tCCD_L", [*OPEN, (40, "WR", 0)], (46, "WR", 1)),
    "tCCD_R": ("tCCD_R", [*OPEN, (40, "RD", 0)], (44, "RD", 16)),
    "tWTR_S after the data": ("tWTR", [*OPEN, (40, "WR", 0)], (40 + 4 + 2 + 6, "RD", 4)),
    "tWTR_L after the data": ("tWTR", [*OPEN, (40, "WR", 0)], (40 + 4 + 2 + 8, "RD", 1)),
    "tRTW": ("tRTW", [*OPEN, (40, "RD", 0)], (55, "WR", 1)),
    "tRFC": ("rfc", [(0, "REFab", 0)], (260, "ACT", 9)),
    "tRFC of a bank": ("rfc_pb", [(0, "REFpb", 0)], (80, "ACT", 0)),
    "tRREFD to another bank": ("tRREFD", [(0, "REFpb", 0)], (20, "ACT", 4)),
    "tRREFD to a refresh": ("refresh spacing", [(0, "REFpb", 0)], (20, "REFpb", 4)),
    "tRFC to a refresh": ("refresh spacing", [(0, "REFab", 0)], (260, "REFab", 0)),
    "tRP to a refresh": ("tRP to refresh", [(0, "ACT", 0), (40, "PRE", 0)], (54, "REFpb", 0)),
    "tRC to a refresh": ("tRC to refresh", [(0, "ACT", 0), (34, "PRE", 0)], (51, "REFab", 0)),
}


def broken(steps: list[Step], spec: DramSpec = SPEC) -> set[str]:
    log = [Command(edge=edge, name=name, bank=bank, row=0) for edge, name, bank in steps]
    return {violation.rule for violation in check_log(spec, log)}


@pytest.mark.parametrize("gate", GATES)
def test_a_rule_is_silent_at_its_distance_and_objects_one_edge_before(gate: str) -> None:
    rule, before, (edge, name, bank) = GATES[gate]
    assert broken([*before, (edge, name, bank)]) == set()
    assert broken([*before, (edge - 1, name, bank)]) == {rule}


@pytest.mark.parametrize(("second", "bank"), [("RD", 4), ("RD", 16)])
def test_two_bursts_may_not_be_on_one_data_bus_at_once(second: str, bank: int) -> None:
    long = replace(SPEC, timing=replace(SPEC.timing, burst=8000))
    assert broken([*OPEN, (40, "RD", 0), (48, second, bank)], long) == set()
    assert broken([*OPEN, (40, "RD", 0), (47, second, bank)], long) == {"data bus"}


def test_a_bus_carries_one_command_at_a_time_and_two_buses_one_each() -> None:
    assert broken([*OPEN, (60, "RD", 0), (60, "PRE", 1)]) == set()
    assert "command bus" in broken([*OPEN, (60, "PRE", 0), (60, "PRE", 1)])
    one = replace(SPEC, bus=replace(SPEC.bus, one_bus=True))
    assert broken([*OPEN, (60, "RD", 0), (60, "PRE", 1)], one) == {"command bus"}


def test_a_write_may_not_meet_the_data_of_a_read() -> None:
    """Without any turnaround only the data bus keeps them apart: data come after CL and CWL."""
    spec = replace(SPEC, timing=replace(SPEC.timing, rtw=1000))
    together = 40 + 14 - 4
    for apart in (-1, 0, 1):
        assert broken([*OPEN, (40, "RD", 0), (together + apart, "WR", 1)], spec) == {"data bus"}
    assert broken([*OPEN, (40, "RD", 0), (together + 2, "WR", 1)], spec) == set()


def test_only_a_precharge_may_come_on_a_falling_edge() -> None:
    """HBM3 has two edges a clock."""
    hbm3 = load_dram("hbm3-6400")
    assert broken([(0, "ACT", 0), (401, "PRE", 0)], hbm3) == set()
    assert broken([(0, "ACT", 0), (401, "RD", 0)], hbm3) == {"clock edge"}


def test_a_row_is_opened_once_and_used_and_refreshed_in_the_right_state() -> None:
    assert broken([(0, "ACT", 0), (60, "ACT", 0)]) == {"open twice"}
    assert broken([(0, "RD", 0)]) == {"access to a closed bank"}
    assert broken([(0, "ACT", 0), (60, "REFpb", 0)]) == {"refresh of an open bank"}


def test_the_scheduler_s_distances_are_those_of_the_table_for_commands_of_one_edge() -> None:
    edges = SPEC.edges()
    assert (edges.rcd_rd, edges.rcd_wr, edges.ras, edges.rp, edges.rc) == (13, 9, 34, 14, 51)
    assert (edges.rd_pre, edges.wr_pre) == (5, 4 + 2 + 16)
    assert (edges.ccd_s, edges.ccd_l, edges.ccd_r, edges.ccd_l_wr) == (3, 5, 4, 6)
    assert (edges.rrd_s, edges.rrd_l, edges.faw) == (4, 7, 30)
    assert (edges.rd_wr, edges.wr_rd_s, edges.wr_rd_l) == (15, 12, 14)
    assert (edges.rfc_act, edges.rfc_pb_act, edges.rrefd_act) == (260, 80, 20)
