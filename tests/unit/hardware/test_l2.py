"""`sim.hardware.l2`: arbitration by instant, hits and misses, and writes that nobody waits for."""

from dataclasses import dataclass, field, replace

import pytest

from sim.hardware.address_map import EvenMap
from sim.hardware.clock import Clock
from sim.hardware.hbm import Hbm
from sim.hardware.l2 import L2, Arrival
from sim.hardware.l2_law import HitLaw
from sim.hardware.residency import EMPTY_L2, L2State, Residency, Resident, Sweep
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import Load, Segment
from sim.kernel.operators import Traffic
from sim.measure.probe import RecordingProbe, Service
from tests.unit.hardware.chips import (
    HIT_PS,
    MISS_PS,
    load,
    segment,
    store,
    toy_chip,
)

WEIGHTS = segment("w", 50_000)


def warm(*segments: Segment) -> L2State:
    return tuple(
        Resident(name=s.name, traffic=s.traffic, resident_bytes=s.size_bytes, dirty_bytes=0)
        for s in segments
    )


@dataclass
class Bench:
    """An L2 with HBM behind it, and a log of (label, time of arrival)."""

    env: Clock
    l2: L2
    log: list[tuple[str, int]] = field(default_factory=list)

    def ask(
        self, label: str, loads: tuple[Load, ...], *, at: int, phase: int = 0, multiplicity: int = 1
    ) -> None:
        """Ask for all bytes of `loads` at a time, and log their arrival."""

        def send(_: object) -> None:
            sizes = [one.size_bytes for one in loads]
            arrival = self.l2.request(phase, loads, sizes, multiplicity)
            arrival.awaited().callbacks.append(lambda _: self.log.append((label, self.env.now)))

        self.env.timeout(at).callbacks.append(send)

    def write(self, size: int, index: int = 0, *, at: int, multiplicity: int = 1) -> None:
        """Store bytes at a time."""
        self.env.timeout(at).callbacks.append(
            lambda _: self.l2.store([store(size, index)], multiplicity)
        )

    def run(self) -> list[tuple[str, int]]:
        """Run to the end and return the log."""
        self.env.run()
        return self.log


def bench(
    *segments: Segment,
    state: L2State = EMPTY_L2,
    spec: ChipSpec | None = None,
    probe: RecordingProbe | None = None,
    one_sided: bool = False,
) -> Bench:
    chip, env = spec or toy_chip(), Clock()
    law = HitLaw(partitions=chip.l2_partitions)
    sweep = Sweep(bytes=tuple(s.size_bytes for s in segments), law=law, one_sided=one_sided)
    residency = Residency(chip.l2_bytes, segments, state, sweep=sweep)
    address_map = EvenMap(n_channels=chip.pseudo_channels)
    hbm = Hbm(chip, probe, address_map=address_map, segments=segments, symmetry=True)
    return Bench(env, L2(env, chip, probe, hbm, residency))


SPLIT = {
    "l2_partitions": 2,
    "l2_near_latency_ps": HIT_PS - 50_000,
    "l2_far_latency_ps": HIT_PS + 50_000,
    "l2_far_bytes_per_s": 10**12,
}
MOST = segment("w", 80_000)


def test_one_sm_sees_on_which_side_its_data_are() -> None:
    """50 kB of 100 fit its own half with luck, 30 surely; 80 are all on the far side."""
    for size, latency in ((30_000, HIT_PS - 50_000), (80_000, HIT_PS + 50_000)):
        data = segment("w", size)
        alone = tuple(replace(entry, one_sided=True) for entry in warm(data))
        chip = bench(data, state=alone, spec=toy_chip(**SPLIT), one_sided=True)
        chip.ask("hit", (load(400),), at=0)
        # Far bytes cross the bridge at 1 B/ps, near ones leave L2 at 4.
        assert chip.run() == [("hit", (100 if size == 30_000 else 400) + latency)]
        assert chip.l2.missed_bytes == [0]


def test_what_others_have_used_is_near_or_far_by_chance() -> None:
    """One SM that reads what SMs on both sides wrote waits the mean, and so do two SMs."""
    data = segment("w", 30_000)
    both = warm(data)
    alone = tuple(replace(entry, one_sided=True) for entry in both)
    for state, one_sided in ((both, True), (alone, False), (both, False)):
        chip = bench(data, state=state, spec=toy_chip(**SPLIT), one_sided=one_sided)
        chip.ask("hit", (load(400),), at=0)
        assert chip.run() == [("hit", 100 + HIT_PS)]
        assert [entry.one_sided for entry in chip.l2.residency.state()] == [one_sided]


def test_hits_on_the_far_side_cross_a_bridge_that_later_ones_wait_for() -> None:
    """Of 4000 B at 80 % of L2, .349 are near and .283 far: 1132 ps on the bridge, L2 needs 1000."""
    chip = bench(MOST, state=warm(MOST), spec=toy_chip(**SPLIT, hbm_bytes_per_s=10**14))
    chip.ask("first", (load(4000),), at=0)
    chip.ask("second", (load(4000),), at=0, phase=1)
    chip.ask("third", (load(4000),), at=2000)
    arrived = dict(chip.run())
    far = chip.l2.far_bytes
    assert far == pytest.approx(12_000 * 0.283, rel=0.01)
    assert arrived["first"] == arrived["second"]
    assert arrived["third"] == pytest.approx(far + MISS_PS, rel=0.001)


def test_a_hit_is_ready_after_its_transfer_and_the_l2_latency() -> None:
    """4000 B at 4 B/ps are 1000 ps, then 200 ns."""
    chip = bench(WEIGHTS, state=warm(WEIGHTS))
    chip.ask("hit", (load(4000),), at=100)
    assert chip.run() == [("hit", 100 + 1000 + HIT_PS)]


def test_a_miss_is_ready_after_its_channels_and_the_hbm_latency() -> None:
    """4000 B at 1 B/ps are 4000 ps, then 500 ns; L2's 1000 ps pass meanwhile."""
    chip = bench(WEIGHTS)
    chip.ask("miss", (load(4000),), at=100)
    assert chip.run() == [("miss", 100 + 4000 + MISS_PS)]


def test_a_partial_miss_waits_for_the_slower_of_l2_and_hbm() -> None:
    """Of 4000 B, 400 miss: HBM needs 400 ps, L2 1000; then HBM's latency counts."""
    half = Resident(name="w", traffic=Traffic.WEIGHTS, resident_bytes=45_000, dirty_bytes=0)
    chip = bench(WEIGHTS, state=(half,))
    chip.ask("partial", (load(4000),), at=0)
    assert chip.run() == [("partial", 1000 + MISS_PS)]
    assert chip.l2.missed_bytes == [400]


def test_requests_of_one_phase_and_instant_share_one_arrival() -> None:
    """Two SMs that ask together wait for the sum of what they asked for."""
    chip = bench(WEIGHTS, state=warm(WEIGHTS))
    chip.ask("first", (load(4000),), at=100)
    chip.ask("second", (load(4000),), at=100)
    assert chip.run() == [("first", 2100 + HIT_PS), ("second", 2100 + HIT_PS)]


def test_a_class_of_sms_asks_as_often_as_it_has_members() -> None:
    """One request of multiplicity 3 is three requests."""
    chip = bench(WEIGHTS, state=warm(WEIGHTS))
    chip.ask("class", (load(4000),), at=0, multiplicity=3)
    assert chip.run() == [("class", 3000 + HIT_PS)]
    assert chip.l2.asked_bytes == [12_000]


def test_phases_of_one_instant_share_the_transfer_but_not_the_misses() -> None:
    """A hit and a miss that ask together finish L2's 2000 ps together and differ in latency."""
    other = segment("x", 50_000)
    chip = bench(WEIGHTS, other, state=warm(WEIGHTS))
    chip.ask("hit", (load(4000),), at=0, phase=1)
    chip.ask("miss", (load(4000, 1),), at=0, phase=2)
    assert chip.run() == [("hit", 2000 + HIT_PS), ("miss", 4000 + MISS_PS)]


def test_the_order_of_requests_within_an_instant_does_not_matter() -> None:
    """Arbitration comes after everything else of the instant, whoever was first."""
    logs = []
    for order in ((0, 1), (1, 0)):
        chip = bench(WEIGHTS, segment("x", 50_000))
        for phase in order:
            chip.ask(str(phase), (load(1000 * (phase + 1), phase),), at=5, phase=phase)
        logs.append(sorted(chip.run()))
    assert logs[0] == logs[1] == [("0", 3005 + MISS_PS), ("1", 3005 + MISS_PS)]


@pytest.mark.parametrize(("at", "done"), [(999, 1001), (1000, 1001), (1001, 1002)])
def test_a_later_request_queues_behind_an_earlier_one(at: int, done: int) -> None:
    """L2 is busy until 1000: an arrival at 999 waits 1 ps, one at 1000 or later none."""
    chip = bench(WEIGHTS, state=warm(WEIGHTS))
    chip.ask("first", (load(4000),), at=0)
    chip.ask("second", (load(4),), at=at)
    assert chip.run() == [("first", 1000 + HIT_PS), ("second", done + HIT_PS)]


def test_a_queue_at_l2_holds_misses_back_from_hbm() -> None:
    """A miss that waits 1000 ps for L2 starts at its channels only then."""
    cold = segment("x", 50_000)
    chip = bench(WEIGHTS, cold, state=warm(WEIGHTS))
    chip.ask("hit", (load(4000),), at=0)
    chip.ask("miss", (load(100, 1),), at=10)
    assert chip.run() == [("hit", 1000 + HIT_PS), ("miss", 1000 + 100 + MISS_PS)]


def test_concurrent_sharers_fetch_their_bytes_once() -> None:
    """Four requests for the same 4000 B take 4000 ps of L2 and 4000 ps of HBM, not 16000."""
    chip = bench(WEIGHTS)
    for label in "abcd":
        chip.ask(label, (load(4000, sharers=4),), at=0)
    assert {done for _, done in chip.run()} == {4000 + MISS_PS}
    assert (chip.l2.asked_bytes, chip.l2.missed_bytes) == ([16_000], [4000])
    assert chip.l2.hbm.read_bytes == [4000]


def test_stores_follow_the_reads_of_their_instant_and_delay_later_ones() -> None:
    """4000 B written take L2 for 1000 ps after the read, which does not wait for them."""
    chip = bench(WEIGHTS, state=warm(WEIGHTS))
    chip.ask("with", (load(4000),), at=0)
    chip.write(4000, at=0)
    chip.ask("after", (load(4),), at=1500)
    assert chip.run() == [("with", 1000 + HIT_PS), ("after", 2001 + HIT_PS)]
    assert chip.l2.stored_bytes == [4000]


def test_stores_are_drained_half_a_round_trip_after_their_transfer() -> None:
    """2 x 400 B from 50 on: transferred at 250, drained 100 ns later."""
    chip = bench(WEIGHTS)
    chip.write(400, at=50, multiplicity=2)
    chip.run()
    assert chip.l2.drained_ps == 250 + HIT_PS // 2
    assert chip.l2.residency.state()[0].dirty_bytes == 800


def test_without_stores_nothing_is_drained() -> None:
    """The end of a kernel that only reads is the end of its SMs."""
    chip = bench(WEIGHTS)
    chip.ask("read", (load(4),), at=0)
    chip.run()
    assert chip.l2.drained_ps == 0


def test_dirty_bytes_that_are_evicted_go_to_hbm() -> None:
    """A read that displaces 1000 dirty bytes keeps its channels 1500 ps longer for the next."""
    dirty = Resident(name="kv", traffic=Traffic.KV, resident_bytes=100_000, dirty_bytes=100_000)
    chip = bench(WEIGHTS, state=(dirty,))
    chip.ask("first", (load(1000),), at=0)
    chip.ask("second", (load(10),), at=2000)
    assert chip.run() == [("first", 1000 + MISS_PS), ("second", 2510 + MISS_PS)]
    assert chip.l2.residency.written_back == {Traffic.KV: 1010}
    assert chip.l2.hbm.channels[0].free_ps == 2510 + 15


def causes_of(chip: Bench, size: int, index: int = 0) -> tuple[Arrival, tuple[str, str]]:
    arrival = chip.l2.request(0, (load(size, index),), (size,), 1)
    chip.env.run()
    return arrival, arrival.causes


def test_a_wait_is_named_after_the_server_that_was_last() -> None:
    """A hit waits for L2, a miss for its channels, or for L2 where that takes longer."""
    hit = bench(WEIGHTS, state=warm(WEIGHTS))
    arrival, causes = causes_of(hit, 4000)
    assert causes == ("l2_bandwidth", "l2_latency")
    assert arrival.busy is hit.l2.busy

    miss = bench(WEIGHTS)
    arrival, causes = causes_of(miss, 4000)
    assert causes == ("hbm_bandwidth", "hbm_latency")
    assert arrival.busy is miss.l2.hbm.channels[0].busy

    slow_l2 = bench(WEIGHTS, spec=toy_chip(l2_bytes_per_s=10**12 // 2))
    arrival, causes = causes_of(slow_l2, 4000)
    assert causes == ("l2_bandwidth", "hbm_latency")
    assert arrival.busy is slow_l2.l2.busy


def test_a_probe_sees_l2_and_hbm_busy() -> None:
    """Reads and writes of one instant are one service of L2."""
    probe = RecordingProbe()
    chip = bench(WEIGHTS, probe=probe)
    chip.ask("miss", (load(4000),), at=0)
    chip.write(400, at=0)
    chip.run()
    assert probe.services == [Service("l2", 0, 1100, 4400), Service("hbm0", 0, 4000, 4000)]
