"""`sim.hardware.sm`: loaders, buffers and the compute pipe, as timelines worked out by hand.

Times in the comments count from the start of the CTAs, 1 us into the kernel. A cold request of
1000 B that finds the channels idle is there after 501,000 ps: 1000 of transfer, 500,000 of latency.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sim.hardware.address_map import EvenMap
from sim.hardware.clock import Clock
from sim.hardware.dispatch import SmClass
from sim.hardware.hbm import Hbm
from sim.hardware.l2 import L2
from sim.hardware.plan import CtaPlan, Granule, PhasePlan
from sim.hardware.residency import EMPTY_L2, Residency
from sim.hardware.sm import Sm, SmJob, SmLedger
from sim.measure.busy import BusyLog
from sim.measure.causes import CAUSES
from sim.measure.probe import RecordingProbe
from tests.unit.hardware.chips import START_PS, load, segment, store, toy_chip

T = START_PS


def granule(size: int = 0, *, work: int = 0, port: int | None = None, chain: int = 0) -> Granule:
    """Return a request of `size` bytes with vector work; the port moves a byte a ps."""
    return Granule(
        sizes=(size,) if size else (),
        total_bytes=size,
        port_ps=size if port is None else port,
        pipes_ps=(("vector", work),) if work else (),
        work_ps=work,
        chain_ps=chain,
    )


def phase(*granules: Granule, key: int = 0, round_trips_ps: int = 0, stored: int = 0) -> PhasePlan:
    total = sum(one.total_bytes for one in granules)
    return PhasePlan(
        key=key,
        loads=(load(total),) if total else (),
        stores=(store(stored),) if stored else (),
        round_trips_ps=round_trips_ps,
        granules=granules,
    )


def plan(*phases: PhasePlan, buffer_bytes: int = 10**6) -> CtaPlan:
    return CtaPlan(phases=phases, buffer_bytes=buffer_bytes)


class Bench:
    """SMs on a cold chip of round numbers, and what a probe saw of them."""

    def __init__(self) -> None:
        self.env, self.probe, chip = Clock(), RecordingProbe(), toy_chip()
        self.chip = chip
        segments = (segment("w", 10**6),)
        residency = Residency(chip.l2_bytes, segments, EMPTY_L2)
        address_map = EvenMap(n_channels=4)
        hbm = Hbm(chip, None, address_map=address_map, segments=segments, symmetry=True)
        self.l2 = L2(self.env, chip, None, hbm, residency)

    def sm(
        self,
        *plans: CtaPlan,
        slots: Sequence[tuple[int, ...]] = ((0,),),
        multiplicity: int = 1,
        setup_ps: int = 0,
        name: str = "sm",
    ) -> Sm:
        """Place a class of SMs."""
        sm_class = SmClass(multiplicity=multiplicity, slots=tuple(slots))
        job = SmJob(name=name, plans=plans, sm_class=sm_class, setup_ps=setup_ps)
        return Sm(self.env, self.chip, self.probe, l2=self.l2, job=job)

    def spans(self, server: str) -> list[tuple[int, int]]:
        """Return when a server was busy, in ps from the start of the CTAs."""
        return [(s.start_ps - T, s.end_ps - T) for s in self.probe.services if s.server == server]

    def end(self) -> int:
        """Run to the end and return it, in ps from the start of the CTAs."""
        self.env.run()
        return self.env.now - T


def spent(sm: Sm) -> dict[str, int]:
    """Return where an SM's time went, without the causes that took none."""
    return {cause: ps for cause, ps in sm.ledger.ps.items() if ps}


def test_one_granule_is_loaded_then_computed() -> None:
    """Launch, transfer, latency, work: each is charged to its cause."""
    bench = Bench()
    sm = bench.sm(plan(phase(granule(1000, work=3000))))
    assert bench.end() == 504_000
    assert bench.spans("sm.port") == [(500_000, 501_000)]
    assert bench.spans("sm.pipe") == [(501_000, 504_000)]
    assert spent(sm) == {
        "launch": T,
        "hbm_bandwidth": 1000,
        "hbm_latency": 500_000,
        "vector": 3000,
    }
    assert sm.ledger.until_ps == sm.pipe_ps == T + 504_000


@pytest.mark.parametrize("buffer_bytes", [1000, 1999])
def test_a_buffer_of_one_granule_pays_the_latency_for_each(buffer_bytes: int) -> None:
    """The second request leaves when the first is consumed, at 504,000."""
    bench = Bench()
    sm = bench.sm(plan(phase(*[granule(1000, work=3000)] * 2), buffer_bytes=buffer_bytes))
    assert bench.end() == 1_008_000
    assert bench.spans("sm.pipe") == [(501_000, 504_000), (1_005_000, 1_008_000)]
    assert spent(sm) == {
        "launch": T,
        "hbm_bandwidth": 2000,
        "hbm_latency": 1_000_000,
        "vector": 6000,
    }


def test_a_buffer_of_two_granules_hides_the_second_latency() -> None:
    """The second request leaves when the port is free, at 1000, and is there at 502,000."""
    bench = Bench()
    sm = bench.sm(plan(phase(*[granule(1000, work=3000)] * 2), buffer_bytes=2000))
    assert bench.end() == 507_000
    assert bench.spans("sm.pipe") == [(501_000, 504_000), (504_000, 507_000)]
    assert spent(sm) == {
        "launch": T,
        "hbm_bandwidth": 2000,
        "hbm_latency": 499_000,
        "vector": 6000,
    }


def test_bytes_in_flight_over_latency_is_the_bandwidth_of_one_cta() -> None:
    """Little's law: 4 x 1000 B in flight return every 501,000 ps, pass after pass."""
    bench = Bench()
    bench.sm(plan(phase(*[granule(1000)] * 40), buffer_bytes=4000))
    assert bench.end() == 10 * 501_000 + 3 * 1000


def test_the_port_spaces_requests() -> None:
    """At 10,000 ps a granule the second leaves 10,000 ps after the first."""
    bench = Bench()
    bench.sm(plan(phase(*[granule(1000, port=10_000)] * 3)))
    assert bench.end() == 521_000
    assert bench.spans("sm.port") == [
        (491_000, 501_000),
        (501_000, 511_000),
        (511_000, 521_000),
    ]


def test_granules_that_arrive_together_pass_the_port_one_by_one() -> None:
    """Channels busy until 50,000 bunch arrivals at 551,000 and 552,000; the port spreads them."""
    bench = Bench()
    bench.l2.hbm.serve(T, [(0, 50_000)], 0)
    sm = bench.sm(plan(phase(*[granule(1000, port=10_000)] * 2)))
    assert bench.end() == 561_000
    assert bench.spans("sm.port") == [(541_000, 551_000), (551_000, 561_000)]
    assert spent(sm) == {
        "launch": T,
        "hbm_bandwidth": 52_000,
        "hbm_latency": 500_000,
        "l2_bandwidth": 9000,
    }


def test_a_compute_bound_cta_waits_for_its_first_granule_only() -> None:
    """Data arrive every 1000 ps and take 10,000 to use."""
    bench = Bench()
    sm = bench.sm(plan(phase(*[granule(1000, work=10_000)] * 4)))
    assert bench.end() == 501_000 + 4 * 10_000
    assert spent(sm)["vector"] == 40_000
    assert spent(sm)["hbm_latency"] + spent(sm)["hbm_bandwidth"] == 501_000


def test_dependent_instructions_hold_the_next_granule_back() -> None:
    """A chain of 50,000 with 3000 of work leaves the pipe idle for 47,000: sync."""
    bench = Bench()
    sm = bench.sm(plan(phase(*[granule(1000, work=3000, chain=50_000)] * 2)))
    assert bench.end() == 601_000
    assert bench.spans("sm.pipe") == [(501_000, 504_000), (551_000, 554_000)]
    assert spent(sm)["sync"] == 2 * 47_000


def test_a_chain_shorter_than_the_work_costs_nothing() -> None:
    """Latency hides behind throughput."""
    bench = Bench()
    sm = bench.sm(plan(phase(granule(work=3000, chain=2999))))
    assert bench.end() == 3000
    assert spent(sm) == {"launch": T, "vector": 3000}


def test_setup_is_paid_once_a_slot_and_round_trips_once_a_phase() -> None:
    """400,000 of setup, then two CTAs of two phases with 200,000 each before their work."""
    bench = Bench()
    step = phase(granule(work=10), round_trips_ps=200_000)
    sm = bench.sm(plan(step, step), slots=[(0, 0)], setup_ps=400_000)
    assert bench.end() == 400_000 + 4 * 200_010
    assert spent(sm) == {"launch": T, "l2_latency": 1_200_000, "vector": 40}


def test_two_ctas_on_one_sm_take_turns_on_the_pipe() -> None:
    """Both are ready at 0; the second gets the pipe at 3000, its chain ends at 8000."""
    bench = Bench()
    sm = bench.sm(plan(phase(granule(work=3000, chain=5000))), slots=[(0,), (0,)])
    assert bench.end() == 8000
    assert bench.spans("sm.pipe") == [(0, 3000), (3000, 6000)]
    assert spent(sm) == {"launch": T, "vector": 6000, "sync": 2000}


def test_two_ctas_on_one_sm_share_its_port() -> None:
    """The second CTA's request leaves when the port has taken the first's."""
    bench = Bench()
    bench.sm(plan(phase(granule(1000, port=10_000))), slots=[(0,), (0,)])
    assert bench.end() == 511_000
    assert bench.spans("sm.port") == [(491_000, 501_000), (501_000, 511_000)]


def test_one_cta_computes_while_the_other_waits() -> None:
    """Two CTAs of one granule each overlap memory and compute though neither does alone."""
    bench = Bench()
    sm = bench.sm(plan(phase(granule(1000, work=400_000)), buffer_bytes=1000), slots=[(0, 0), (0,)])
    # Slot 0: data at 501,000, work to 901,000; slot 1: data at 502,000, work to 1,301,000; slot 0
    # again: asks at 901,000, data at 1,402,000, work to 1,802,000.
    assert bench.end() == 1_802_000
    assert bench.spans("sm.pipe") == [
        (501_000, 901_000),
        (901_000, 1_301_000),
        (1_402_000, 1_802_000),
    ]
    assert spent(sm)["vector"] == 1_200_000
    assert sum(spent(sm).values()) == T + 1_802_000


def test_a_slot_runs_its_ctas_back_to_back() -> None:
    """Kinds run in the order of the slot, each from its own plan."""
    bench = Bench()
    short, long = plan(phase(granule(work=10))), plan(phase(granule(work=500), key=1))
    bench.sm(short, long, slots=[(1, 0, 1)])
    assert bench.end() == 1010
    assert bench.spans("sm.pipe") == [(0, 500), (500, 510), (510, 1010)]


def test_nobody_waits_for_stores() -> None:
    """The next phase starts when the store is posted; L2 drains it 100 + 100,000 ps later."""
    bench = Bench()
    bench.sm(plan(phase(granule(work=10), stored=400), phase(granule(work=20), key=1)))
    assert bench.end() == 30
    assert bench.l2.drained_ps == T + 10 + 100 + 100_000


def test_a_class_moves_the_bytes_of_all_its_sms() -> None:
    """Three SMs at once wait 3000 ps for the channels; one SM is simulated."""
    bench = Bench()
    sm = bench.sm(plan(phase(granule(1000), stored=8)), multiplicity=3)
    assert bench.end() == 503_000
    assert bench.spans("sm.port") == [(502_000, 503_000)]
    assert bench.l2.hbm.read_bytes == [3000]
    assert bench.l2.stored_bytes == [24]
    assert sm.multiplicity == 3


def test_two_classes_that_ask_at_once_are_served_together() -> None:
    """Two SMs as two classes are as fast as one class of two."""
    bench = Bench()
    work = plan(phase(granule(1000, work=7)))
    first, second = bench.sm(work, name="a"), bench.sm(work, name="b")
    assert bench.end() == 502_007
    assert bench.spans("a.pipe") == bench.spans("b.pipe") == [(502_000, 502_007)]
    assert first.ledger.ps == second.ledger.ps


def test_time_is_charged_once() -> None:
    """A charge up to a time that is accounted for already changes nothing."""
    ledger = SmLedger()
    ledger.charge("launch", 100)
    ledger.charge("tail", 100)
    ledger.charge("tail", 99)
    assert ledger.until_ps == 100
    assert ledger.ps == {**dict.fromkeys(CAUSES, 0), "launch": 100}


def test_a_wait_is_split_by_how_long_the_server_was_busy() -> None:
    """From 10 to 50, busy during [0, 20) and [30, 35): 15 bandwidth, 25 latency."""
    busy, ledger = BusyLog(), SmLedger()
    busy.add(0, 20)
    busy.add(30, 35)
    ledger.charge("launch", 10)
    ledger.charge_wait(50, busy, ("hbm_bandwidth", "hbm_latency"))
    assert ledger.until_ps == 50
    assert (ledger.ps["hbm_bandwidth"], ledger.ps["hbm_latency"]) == (15, 25)


def test_pipes_are_charged_one_by_one() -> None:
    """Pipes that take turns add up to the granule's work."""
    bench = Bench()
    work = replace(granule(1000, work=7), pipes_ps=(("tensor", 5), ("sfu", 2)))
    sm = bench.sm(plan(phase(work, work)))
    bench.end()
    assert sm.ledger.until_ps == sm.pipe_ps
    assert (sm.ledger.ps["tensor"], sm.ledger.ps["sfu"], sm.ledger.ps["vector"]) == (10, 4, 0)
