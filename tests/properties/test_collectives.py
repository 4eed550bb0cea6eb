"""Laws of collectives: bytes are conserved, causes sum to time, links do not beat their rate."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.collective_library import LIBRARIES, run_library
from sim.hardware.link import Pace, run_collective
from sim.hardware.link_spec import LinkSpec, NetworkTier
from sim.hardware.spec import ChipSpec
from sim.kernel.collective import (
    Collective,
    Op,
    Schedule,
    direct,
    multicast,
    one_shot,
    ring,
    two_shot,
)
from sim.measure.probe import RecordingProbe
from sim.units import PS_PER_S
from tests.unit.hardware.chips import toy_chip

RINGS = (Op.ALL_REDUCE, Op.ALL_GATHER, Op.REDUCE_SCATTER)
SHAPES = (one_shot, two_shot, multicast)
SIZES = st.integers(0, 10**9)


@st.composite
def links(draw: st.DrawFn) -> LinkSpec:
    """Return a link that joins 16 GPUs of a node, and a network."""
    return LinkSpec(
        type="any",
        bytes_per_s=draw(st.integers(10**9, 10**12)),
        efficiency=Fraction(draw(st.integers(1, 10)), 10),
        latency_ps=draw(st.integers(0, 10**7)),
        issue_ps=draw(st.integers(0, 10**5)),
        setup_ps=draw(st.integers(0, 10**7)),
        ranks=16,
        multicast=draw(st.booleans()),
        network=NetworkTier(
            bytes_per_s=draw(st.integers(10**9, 10**11)), latency_ps=draw(st.integers(0, 10**7))
        ),
    )


@st.composite
def collectives(draw: st.DrawFn, ops: tuple[Op, ...] = tuple(Op)) -> Collective:
    """Return a collective among 2 to 16 ranks in nodes of equal size."""
    ranks = draw(st.integers(2, 16))
    divisors = [n for n in range(1, ranks + 1) if ranks % n == 0]
    return Collective(
        op=draw(st.sampled_from(ops)),
        ranks=ranks,
        per_node=draw(st.sampled_from(divisors)),
        size_bytes=draw(SIZES),
    )


@st.composite
def paces(draw: st.DrawFn) -> Pace:
    """Return any protocol."""
    return Pace(
        rate=Fraction(draw(st.integers(1, 20)), 20),
        hop=Fraction(draw(st.integers(0, 30)), 10),
        start_hops=Fraction(draw(st.integers(0, 300)), 10),
    )


def chip_with(link: LinkSpec) -> ChipSpec:
    return toy_chip(link=link)


def schedule_of(what: Collective) -> Schedule:
    return ring(what) if what.op in RINGS else direct(what, hops=1)


@given(what=collectives(RINGS))
def test_a_ring_sends_the_volume_of_its_algorithm(what: Collective) -> None:
    """S(n-1) bytes of all ranks for each time round, whatever the size and the nodes."""
    rounds = 2 if what.op is Op.ALL_REDUCE else 1
    assert ring(what).sent_bytes == rounds * what.size_bytes * (what.ranks - 1)


@given(what=collectives((Op.ALL_REDUCE,)))
def test_every_all_reduce_in_a_node_sends_its_volume(what: Collective) -> None:
    """One-shot S(n-1)n, two-shot 2S(n-1), multicast S(n+1) bytes of all ranks."""
    what = replace(what, per_node=what.ranks)
    volume = [shape(what, hops=1).sent_bytes for shape in SHAPES]
    n, size = what.ranks, what.size_bytes
    assert volume == [size * (n - 1) * n, 2 * size * (n - 1), size * (n + 1)]


@given(link=links(), what=collectives(), pace=paces(), launch=st.integers(0, 10**7))
def test_causes_sum_to_time_and_bytes_to_what_is_sent(
    link: LinkSpec, what: Collective, pace: Pace, launch: int
) -> None:
    """Exactly, on every rank together; no service of a link beats its rate."""
    probe = RecordingProbe()
    plan = schedule_of(what)
    run = run_collective(chip_with(link), plan, pace=pace, launch_ps=launch, probe=probe)
    assert sum(run.rank_ps.values()) == run.time_ps * what.ranks
    assert min(run.rank_ps.values()) >= 0
    assert run.rank_ps["launch"] == launch * what.ranks
    assert run.link_bytes + run.network_bytes == plan.sent_bytes
    assert sum(service.amount for service in probe.services) == plan.sent_bytes
    rate = link.bytes_per_s * link.efficiency
    for service in probe.services:
        if service.server.startswith("link"):
            assert (service.end_ps - service.start_ps) * rate >= service.amount * PS_PER_S


@given(link=links(), what=collectives(), pace=paces())
def test_no_collective_beats_the_bytes_of_a_rank_over_its_rate(
    link: LinkSpec, what: Collective, pace: Pace
) -> None:
    """Whatever its protocol: bytes of the busiest rank by link, and by network."""
    plan = schedule_of(what)
    run = run_collective(chip_with(link), plan, pace=pace, launch_ps=0)
    for rank in range(what.ranks):
        by_link = sum(step.link_bytes[rank] for step in plan.steps)
        away = sum(step.network_bytes[rank] for step in plan.steps)
        assert run.time_ps * link.bytes_per_s * link.efficiency >= by_link * PS_PER_S
        assert link.network is not None
        assert run.time_ps * link.network.bytes_per_s >= away * PS_PER_S


@given(link=links(), what=collectives(), pace=paces(), more=st.integers(1, 10**6))
def test_more_bytes_are_never_faster(
    link: LinkSpec, what: Collective, pace: Pace, more: int
) -> None:
    """The same schedule with a larger vector takes as long or longer."""
    larger = replace(what, size_bytes=what.size_bytes + more)
    times = [
        run_collective(chip_with(link), schedule_of(asked), pace=pace, launch_ps=0).time_ps
        for asked in (what, larger)
    ]
    assert times[0] <= times[1]


@given(
    link=links(),
    what=collectives(RINGS),
    name=st.sampled_from(sorted(LIBRARIES)),
    times=st.integers(2, 8),
)
def test_a_faster_link_never_slows_a_library_down(
    link: LinkSpec, what: Collective, name: str, times: int
) -> None:
    """A link of more bandwidth, or of less latency, gives no longer time."""
    base = run_library(chip_with(link), what, LIBRARIES[name], launch_ps=0).time_ps
    wide = replace(link, bytes_per_s=link.bytes_per_s * times)
    near = replace(link, latency_ps=link.latency_ps // times)
    for better in (wide, near):
        assert run_library(chip_with(better), what, LIBRARIES[name], launch_ps=0).time_ps <= base
