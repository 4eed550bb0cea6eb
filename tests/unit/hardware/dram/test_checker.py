"""`sim.hardware.dram.checker`: each rule alone, kept to the edge and broken by one."""

from dataclasses import replace

import pytest

from sim.hardware.dram.channel import Command
from sim.hardware.dram.checker import Checker, check_log
from sim.hardware.dram.timing import DramSpec, load_dram

HBM2, HBM3, DDR5 = load_dram("hbm2-2000"), load_dram("hbm3-6400"), load_dram("ddr5-4800")
# Banks of HBM2 by place: the first, its neighbour, one of another group, of another pseudo-channel.
FIRST, NEIGHBOUR, OTHER_GROUP, OTHER_PC = 0, 1, 4, 16

Log = tuple[tuple[int, str, int], ...]


def commands(log: Log) -> list[Command]:
    """Return commands of (edge, name, bank), all of row 0."""
    return [Command(edge=edge, name=name, bank=bank, row=0) for edge, name, bank in log]


def rules(log: Log, spec: DramSpec = HBM2) -> set[str]:
    return {violation.rule for violation in check_log(spec, commands(log))}


def edges(name: str, spec: DramSpec = HBM2) -> int:
    """Return a time of the table in edges."""
    return Checker(spec).t[name]


def length(name: str, spec: DramSpec = HBM2) -> int:
    """Return how many edges a command takes on its bus."""
    bus = spec.bus
    return {"A": bus.act, "P": bus.pre}.get(name[0], bus.column if name[0] in "RW" else bus.pre)


WRITE = edges("cwl") + edges("burst")
FAR = 200

PAIRS: tuple[tuple[str, Log, str, int, int], ...] = (
    ("tRCD", ((0, "ACT", FIRST),), "RD", FIRST, edges("rcd_rd")),
    ("tRCD", ((0, "ACT", FIRST),), "WR", FIRST, edges("rcd_wr")),
    ("tRAS", ((0, "ACT", FIRST),), "PRE", FIRST, edges("ras")),
    ("tRP", ((0, "ACT", FIRST), (FAR, "PRE", FIRST)), "ACT", FIRST, edges("rp")),
    ("tRTP", ((0, "ACT", FIRST), (FAR, "RD", FIRST)), "PRE", FIRST, edges("rtp")),
    ("tWR", ((0, "ACT", FIRST), (FAR, "WR", FIRST)), "PRE", FIRST, WRITE + edges("wr")),
    ("tRRD", ((0, "ACT", FIRST),), "ACT", NEIGHBOUR, edges("rrd_l")),
    ("tRRD", ((0, "ACT", FIRST),), "ACT", OTHER_GROUP, edges("rrd_s")),
    ("tCCD_L", ((0, "ACT", FIRST), (FAR, "RD", FIRST)), "RD", FIRST, edges("ccd_l")),
    ("tCCD_L", ((0, "ACT", FIRST), (FAR, "WR", FIRST)), "WR", FIRST, edges("ccd_l_wr")),
    (
        "tCCD_S",
        ((0, "ACT", FIRST), (9, "ACT", OTHER_GROUP), (FAR, "RD", FIRST)),
        "RD", OTHER_GROUP, edges("ccd_s"),
    ),
    ("tWTR", ((0, "ACT", FIRST), (FAR, "WR", FIRST)), "RD", FIRST, WRITE + edges("wtr_l")),
    (
        "tWTR",
        ((0, "ACT", FIRST), (9, "ACT", OTHER_GROUP), (FAR, "WR", FIRST)),
        "RD", OTHER_GROUP, WRITE + edges("wtr_s"),
    ),
    ("tRTW", ((0, "ACT", FIRST), (FAR, "RD", FIRST)), "WR", FIRST, edges("rtw")),
    ("rfc", ((0, "REFab", FIRST),), "ACT", FIRST, edges("rfc")),
    ("rfc_pb", ((0, "REFpb", FIRST),), "ACT", FIRST, edges("rfc_pb")),
    ("tRREFD", ((0, "REFpb", FIRST),), "ACT", NEIGHBOUR, edges("rrefd")),
    ("refresh spacing", ((0, "REFab", FIRST),), "REFab", FIRST, edges("rfc")),
    ("refresh spacing", ((0, "REFpb", FIRST),), "REFpb", NEIGHBOUR, edges("rrefd")),
    ("tRP to refresh", ((0, "ACT", FIRST), (FAR, "PRE", FIRST)), "REFab", FIRST, edges("rp")),
)  # fmt: skip


@pytest.mark.parametrize(("rule", "log", "name", "bank", "least"), PAIRS)
def test_a_pair_may_be_as_close_as_the_table_says_and_no_closer(
    rule: str, log: Log, name: str, bank: int, least: int
) -> None:
    """Distances run from the end of one command to the end of the next."""
    edge, before, _ = log[-1]
    earliest = edge + least + length(before) - length(name)
    assert rules((*log, (earliest, name, bank))) == set()
    assert rule in rules((*log, (earliest - 1, name, bank)))


def test_a_row_cycle_is_kept_even_if_precharge_and_activation_are() -> None:
    """tRC alone, where it is longer than tRAS and tRP together."""
    timing = replace(HBM2.timing, rc=HBM2.timing.rc + 10 * HBM2.organisation.clock_ps)
    spec = replace(HBM2, timing=timing)
    log: Log = ((0, "ACT", FIRST), (edges("ras") + 1, "PRE", FIRST))
    earliest = edges("rc", spec)
    assert rules((*log, (earliest, "ACT", FIRST)), spec) == set()
    assert rules((*log, (earliest - 1, "ACT", FIRST)), spec) == {"tRC"}


def test_two_bursts_never_share_the_data_bus() -> None:
    """With no turnaround at all a write's data would come while a read's are on the bus."""
    clock = HBM2.organisation.clock_ps
    spec = replace(HBM2, timing=replace(HBM2.timing, rtw=clock))
    log: Log = ((0, "ACT", FIRST), (FAR, "RD", FIRST))
    together = FAR + edges("cl") - edges("cwl")
    for apart in range(1 - edges("burst"), edges("burst")):
        if together + apart > FAR:
            assert rules((*log, (together + apart, "WR", FIRST)), spec) == {"data bus"}
    assert rules((*log, (together + edges("burst"), "WR", FIRST)), spec) == set()


def test_a_bus_carries_one_command_at_a_time() -> None:
    """HBM has a bus for rows and one for columns; DDR5 has one for both."""
    log: Log = ((0, "ACT", FIRST), (FAR, "ACT", OTHER_PC))
    taken = FAR + length("ACT")
    assert rules((*log, (taken - 1, "PRE", FIRST))) == {"command bus"}
    assert rules((*log, (taken, "PRE", FIRST))) == set()
    assert rules((*log, (taken - 1, "RD", FIRST))) == set()
    ddr5: Log = ((0, "ACT", FIRST), (FAR, "ACT", DDR5.organisation.banks_per_group))
    taken = FAR + length("ACT", DDR5)
    assert "command bus" in rules((*ddr5, (taken - 1, "RD", FIRST)), DDR5)


def test_only_a_precharge_may_come_on_a_falling_edge() -> None:
    """HBM3: half a clock after an activation's time is over."""
    late = 2 * FAR + 1
    log: Log = ((0, "ACT", FIRST),)
    assert rules((*log, (late, "PRE", FIRST)), HBM3) == set()
    assert rules((*log, (late, "RD", FIRST)), HBM3) == {"clock edge"}


@pytest.mark.parametrize(
    ("rule", "log"),
    [
        ("open twice", ((0, "ACT", FIRST), (FAR, "ACT", FIRST))),
        ("access to a closed bank", ((0, "RD", FIRST),)),
        (
            "access to a closed bank",
            ((0, "ACT", FIRST), (FAR, "RDA", FIRST), (2 * FAR, "RD", FIRST)),
        ),
        ("refresh of an open bank", ((0, "ACT", FIRST), (FAR, "REFab", NEIGHBOUR))),
        ("refresh of an open bank", ((0, "ACT", FIRST), (FAR, "REFpb", FIRST))),
    ],
)
def test_rows_are_opened_used_and_closed_in_that_order(rule: str, log: Log) -> None:
    """An automatic precharge closes, and a refresh of one bank leaves the others alone."""
    assert rules(log) == {rule}
    assert rules(((0, "ACT", FIRST), (FAR, "REFpb", NEIGHBOUR))) == set()
