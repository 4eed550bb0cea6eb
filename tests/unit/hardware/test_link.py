"""`sim.hardware.link`: ranks that send, wait and charge every picosecond."""

from fractions import Fraction

import pytest

from sim.errors import InputError
from sim.hardware.link import CollectiveRun, LinkServer, Pace, Route, run_collective
from sim.kernel.collective import (
    Collective,
    Op,
    Schedule,
    Step,
    Wait,
    direct,
    multicast,
    one_shot,
    ring,
)
from sim.measure.probe import RecordingProbe, Service
from tests.unit.hardware.chips import toy_chip
from tests.unit.hardware.links import HOP_PS, ISSUE_PS, linked_chip

LAUNCH_PS = 3_000_000


def asked(op: Op, size_bytes: int, ranks: int = 4, per_node: int | None = None) -> Collective:
    return Collective(op=op, ranks=ranks, per_node=per_node or ranks, size_bytes=size_bytes)


def charged(run: CollectiveRun) -> dict[str, int]:
    return {cause: ps for cause, ps in run.rank_ps.items() if ps}


def test_a_server_is_first_come_first_served() -> None:
    """The second message queues behind the first, the third finds the link idle."""
    server = LinkServer("link", Fraction(10**12), None)
    assert [server.serve(100, 1000), server.serve(500, 200), server.serve(9000, 10)] == [
        1100,
        1300,
        9010,
    ]
    assert server.sent_bytes == 1210
    assert server.serve(10**6, 0) == 10**6


def test_service_is_rounded_up_so_that_no_link_beats_its_rate() -> None:
    """One byte at 3 bytes a ps takes one whole picosecond."""
    assert LinkServer("link", Fraction(3 * 10**12), None).serve(0, 1) == 1


def test_a_ring_takes_its_steps_one_after_the_other() -> None:
    """Launch, 2 x 3 steps of a quarter and a hop, and a copy of the whole."""
    run = run_collective(
        linked_chip(), ring(asked(Op.ALL_REDUCE, 4000)), pace=Pace(), launch_ps=LAUNCH_PS
    )
    assert run.time_ps == LAUNCH_PS + 6 * (1000 + HOP_PS) + 10_000
    assert charged(run) == {
        "launch": 4 * LAUNCH_PS,
        "link": 4 * 6 * 1000,
        "link_latency": 4 * 6 * HOP_PS,
        "hbm_bandwidth": 4 * 10_000,
    }
    assert run.link_bytes == 6 * 4000


def test_a_step_to_all_peers_issues_to_one_after_the_other() -> None:
    """One-shot among 4: three times the vector out, two hops to three peers each."""
    plan = one_shot(asked(Op.ALL_REDUCE, 1000), hops=2)
    run = run_collective(linked_chip(), plan, pace=Pace(), launch_ps=0)
    assert run.time_ps == 3000 + 2 * (HOP_PS + 2 * ISSUE_PS) + 2500


def test_a_pace_slows_the_link_and_its_hops_and_starts_late() -> None:
    """Half the rate, hops of 1.5 latencies, 2.5 latencies before the first byte."""
    pace = Pace(rate=Fraction(1, 2), hop=Fraction(3, 2), start_hops=Fraction(5, 2))
    run = run_collective(linked_chip(), ring(asked(Op.ALL_GATHER, 2000, 2)), pace=pace, launch_ps=0)
    assert run.time_ps == 2_500_000 + 2000 + 1_500_000 + 5000


@pytest.mark.parametrize(("most", "ps"), [(10**12, 1000), (10**11, 10_000)])
def test_a_pace_may_limit_the_rate_itself(most: int, ps: int) -> None:
    """A limit above the link's rate changes nothing."""
    pace = Pace(most_bytes_per_s=most)
    run = run_collective(linked_chip(), ring(asked(Op.ALL_GATHER, 2000, 2)), pace=pace, launch_ps=0)
    assert run.time_ps == ps + HOP_PS + 5000


def test_ranks_beyond_the_link_share_the_way_behind_it() -> None:
    """Among 8, a byte takes 8 x 4 ps and a hop 2 us; half a pace does not halve that."""
    plan = ring(asked(Op.ALL_GATHER, 8000, 8))
    run = run_collective(linked_chip(), plan, pace=Pace(rate=Fraction(1, 2)), launch_ps=0)
    assert run.time_ps == 7 * (32_000 + 2 * HOP_PS) + 20_000


def test_what_leaves_the_node_leaves_by_the_network_at_the_same_time() -> None:
    """Of 4 parts one stays, one goes by link and two by network, 10 ps a byte and 7 us."""
    plan = direct(asked(Op.ALL_TO_ALL, 4000, 4, 2), hops=1)
    run = run_collective(linked_chip(), plan, pace=Pace(), launch_ps=0)
    assert run.time_ps == 20_000 + HOP_PS + 7 * HOP_PS + 10_000
    assert (run.link_bytes, run.network_bytes) == (4 * 1000, 4 * 2000)


def test_a_rank_waits_for_the_one_that_sends_more() -> None:
    """A step to all ends with the slowest; the others wait while no byte of theirs moves."""
    step = Step(link_bytes=(1000, 5000), network_bytes=(0, 0), waits=Wait.ALL, hops=0)
    plan = Schedule(name="uneven", ranks=2, per_node=2, steps=(step,), local_bytes=0)
    run = run_collective(linked_chip(), plan, pace=Pace(), launch_ps=0)
    assert run.time_ps == 5000
    assert charged(run) == {"link": 6000, "link_latency": 4000}


def test_a_ring_waits_for_its_predecessor_alone() -> None:
    """The rank behind the slow one ends late, the other one early and is without work."""
    step = Step(link_bytes=(1000, 1000, 5000), network_bytes=(0, 0, 0), waits=Wait.PREVIOUS, hops=0)
    plan = Schedule(name="uneven", ranks=3, per_node=3, steps=(step,), local_bytes=0)
    run = run_collective(linked_chip(), plan, pace=Pace(), launch_ps=0)
    assert charged(run) == {"link": 7000, "link_latency": 4000, "tail": 4000}


def test_a_probe_sees_every_service() -> None:
    """Two ranks, one step: two services of the link."""
    probe = RecordingProbe()
    plan = direct(asked(Op.SEND_RECV, 700, 2), hops=1)
    run_collective(linked_chip(), plan, pace=Pace(), launch_ps=5, probe=probe)
    assert probe.services == [Service("link0", 5, 705, 700), Service("link1", 5, 705, 700)]


def test_a_chip_without_a_link_is_refused() -> None:
    """The message names the file and the missing table."""
    with pytest.raises(InputError, match=r"toy\.toml: link: this chip has no \[link\]"):
        run_collective(toy_chip(), ring(asked(Op.ALL_REDUCE, 8)), pace=Pace(), launch_ps=0)


def test_a_switch_that_does_not_multicast_is_refused() -> None:
    """NVLS needs what the link says it does not have."""
    plan = multicast(asked(Op.ALL_REDUCE, 8), hops=1)
    with pytest.raises(InputError, match=r"multicast: multicast needs a switch that multicasts"):
        run_collective(linked_chip(), plan, pace=Pace(), launch_ps=0)
    assert run_collective(linked_chip(multicast=True), plan, pace=Pace(), launch_ps=0).time_ps > 0


def test_more_ranks_than_any_way_joins_are_refused() -> None:
    """Nine GPUs of a node, or two nodes without a network."""
    with pytest.raises(InputError, match=r"link\.ranks: no way joins 9 GPUs of a node"):
        Route.of(linked_chip(), 9, 9)
    with pytest.raises(InputError, match=r"link\.network: no network joins 2 nodes"):
        Route.of(linked_chip(network=None), 4, 2)
