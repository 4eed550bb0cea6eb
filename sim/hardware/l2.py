"""L2: the crossroads of all requests, a bandwidth server with residency behind it.

Requests of one instant are arbitrated together: those of one phase complete together, later
instants queue behind. A hit is ready after the L2 latency, a miss after its channels have served
it and the longer latency of HBM.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import simpy
from simpy.events import NORMAL

from sim.hardware.bank_hbm import BankHbm
from sim.hardware.clock import Clock, Recurring
from sim.hardware.hbm import Hbm
from sim.hardware.l2_law import MILLION
from sim.hardware.pending import Pending
from sim.hardware.residency import Residency
from sim.hardware.slices import Slices
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import Load, Store
from sim.measure.busy import BusyLog
from sim.measure.probe import Probe
from sim.units import PS_PER_S


class Arrival:
    """Data of one phase's requests of one instant; `busy` and `causes` say what it waited for.

    `ready_ps` is set when the requests were arbitrated, at the end of their instant.
    """

    __slots__ = ("_event", "busy", "causes", "env", "ready_ps")
    busy: BusyLog
    causes: tuple[str, str]

    def __init__(self, env: Clock) -> None:
        self.env = env
        self.ready_ps: int | None = None
        self._event: simpy.Event | None = None

    def is_there(self) -> bool:
        """Return whether the data have arrived."""
        return self.ready_ps is not None and self.ready_ps <= self.env.time_ps

    def awaited(self) -> simpy.Event:
        """Return the event of the arrival, which must be yet to come: all who wait share it."""
        event = self._event
        if event is None:
            event = self._event = simpy.Event(self.env)
            if self.ready_ps is not None:
                self._schedule(event, self.ready_ps)
        return event

    def be_ready_at(self, ready_ps: int) -> None:
        """Arrive at a time that is yet to come."""
        self.ready_ps = ready_ps
        if self._event is not None:
            self._schedule(self._event, ready_ps)

    def _schedule(self, event: simpy.Event, ready_ps: int) -> None:
        event._ok, event._value = True, None
        self.env.schedule(event, NORMAL, ready_ps - self.env.time_ps)


class _Group:
    __slots__ = ("arrival", "hit_ps", "loads", "missed", "sizes")

    def __init__(self, arrival: Arrival, loads: tuple[Load, ...]) -> None:
        self.arrival = arrival
        self.loads = loads
        self.sizes = [0] * len(loads)
        self.missed = False
        self.hit_ps = 0


class L2:
    """The L2 of one GPU during one kernel.

    Invariants: bytes asked = hits + misses; misses = bytes read from HBM. It must not serve two
    requests of one phase and instant at different times, or symmetry breaks.
    """

    __slots__ = (
        "_arbitration", "_bridge_free_ps", "_called", "_far_ps", "_far_rate", "_hbm_ps",
        "_hit_ps", "_near_ps", "_pending", "_slices", "_stores", "_written_back", "asked_bytes",
        "busy", "drained_ps", "env", "far_bytes", "free_ps", "hbm", "missed_bytes", "probe", "rate",
        "residency", "stored_bytes",
    )  # fmt: skip

    def __init__(
        self,
        env: Clock,
        spec: ChipSpec,
        probe: Probe | None,
        hbm: Hbm | BankHbm,
        residency: Residency,
        *,
        slices: Slices | None = None,
    ) -> None:
        self.env = env
        self.probe = probe
        self.hbm = hbm
        self.residency = residency
        self.rate = spec.l2_bytes_per_s
        self.free_ps = 0
        self.busy = BusyLog()
        self.drained_ps = 0
        n_segments = len(hbm.read_bytes)
        self.asked_bytes = [0] * n_segments
        self.missed_bytes = [0] * n_segments
        self.stored_bytes = [0] * n_segments
        # What SMs on both sides have used is near or far by chance: the mean. What one SM alone has
        # used before is on its side, or where its victims go.
        self._hit_ps = spec.l2_latency_ps
        self._near_ps = spec.l2_near_latency_ps or spec.l2_latency_ps
        self._far_ps = spec.l2_far_latency_ps or spec.l2_latency_ps
        self._far_rate = spec.l2_far_bytes_per_s
        self._bridge_free_ps = 0
        self._slices = slices
        self.far_bytes = 0
        self._hbm_ps = spec.hbm_latency_ps - hbm.access_ps
        self._pending: dict[int, _Group] = {}
        self._stores: dict[tuple[int, bool], int] = {}
        # At the end of an instant, so that all its requests are seen together.
        self._arbitration = Recurring(env, self._arbitrate)
        self._called = False
        self._written_back = 0

    def request(
        self, phase: int, loads: tuple[Load, ...], sizes: Sequence[int], multiplicity: int
    ) -> Arrival:
        """Ask for `sizes` bytes of `loads` for `multiplicity` SMs; return their common arrival.

        `phase` identifies the phase of the kernel; its requests of one instant are one.
        """
        group = self._pending.get(phase)
        if group is None:
            if not self._called:
                self._called = True
                self._arbitration.call()
            group = self._pending[phase] = _Group(Arrival(self.env), loads)
        totals = group.sizes
        for i, size in enumerate(sizes):
            totals[i] += size * multiplicity
        return group.arrival

    def store(self, stores: Sequence[Store], multiplicity: int) -> None:
        """Post writes: they use L2 bandwidth after the reads of this instant; nobody waits."""
        if not self._called:
            self._called = True
            self._arbitration.call()
        for store in stores:
            size = store.size_bytes * multiplicity
            key = (store.segment, store.in_place)
            self._stores[key] = self._stores.get(key, 0) + size

    def _arbitrate(self, _event: simpy.Event) -> None:
        groups, self._pending, self._called = self._pending, {}, False
        stores, self._stores = self._stores, {}
        misses: list[tuple[int, int]] = []
        asked, crossed = 0, self.far_bytes
        for _, group in sorted(groups.items()) if len(groups) > 1 else groups.items():
            asked += self._look_up(group, misses)
        written = self._write(stores) if stores else 0
        start, finish = self._serve(asked, written, groups, stores)
        write_back = self.residency.written_back_bytes - self._written_back
        if self.far_bytes > crossed and self._far_rate:
            finish = self._cross(start, finish, self.far_bytes - crossed)
        fetched, channel = 0, self.busy
        if misses or write_back:
            self._written_back += write_back
            served = self.hbm.serve(start, misses, write_back)
            if isinstance(served, Pending):
                late = [group for group in groups.values() if group.missed]
                groups = {key: group for key, group in groups.items() if not group.missed}
                served.then(partial(self._answer_all, late, finish))
            else:
                fetched, channel = served
        self._answer_all(groups.values(), finish, fetched, channel)

    def _serve(
        self,
        asked: int,
        written: int,
        groups: dict[int, _Group],
        stores: dict[tuple[int, bool], int],
    ) -> tuple[int, int]:
        """Be busy for reads, then for writes; return when it began and when the reads are done."""
        now = self.env.time_ps
        start = now if now > self.free_ps else self.free_ps
        reads, writes = (asked, written) if self._slices is None else self._uneven(groups, stores)
        finish = start - (-reads * PS_PER_S // self.rate)
        self.free_ps = finish - (-writes * PS_PER_S // self.rate)
        if self.free_ps > start:
            self.busy.add(start, self.free_ps)
            if self.probe is not None:
                self.probe.served("l2", start, self.free_ps, asked + written)
        if stores:
            self.drained_ps = max(self.drained_ps, self.free_ps + self._hit_ps // 2)
        return start, finish

    def _answer_all(
        self, groups: Iterable[_Group], finish: int, fetched: int, channel: BusyLog
    ) -> None:
        for group in groups:
            self._answer(group, finish, fetched, channel)

    def _look_up(self, group: _Group, misses: list[tuple[int, int]]) -> int:
        """Look a group's bytes up; note its misses and return what it asked for."""
        asked = 0
        read = self.residency.read
        for load, size in zip(group.loads, group.sizes, strict=True):
            asked += size
            segment = load.segment
            self.asked_bytes[segment] += size
            missed = read(load, size)
            entry = self.residency.entries[segment]
            far = (size - missed) * entry.far // MILLION
            self.far_bytes += far
            hit_ps = self._hit_ps
            if entry.alone:
                hit_ps = self._far_ps if far else self._near_ps
            group.hit_ps = max(group.hit_ps, hit_ps)
            if missed:
                group.missed = True
                self.missed_bytes[segment] += missed
                misses.append((segment, missed))
        return asked

    def _uneven(
        self, groups: dict[int, _Group], stores: dict[tuple[int, bool], int]
    ) -> tuple[int, int]:
        """Return how many evenly spread bytes take as long as these reads and writes."""
        if self._slices is None:
            return 0, 0
        pairs = (zip(group.loads, group.sizes, strict=True) for group in groups.values())
        reads = ((load.segment, size) for pair in pairs for load, size in pair)
        writes = ((segment, size) for (segment, _), size in stores.items())
        return self._slices.equivalent(reads), self._slices.equivalent(writes)

    def _cross(self, start: int, finish: int, size_bytes: int) -> int:
        """Return when hits on the far side are over the bridge between the partitions."""
        began = max(start, self._bridge_free_ps)
        self._bridge_free_ps = began - (-size_bytes * PS_PER_S // (self._far_rate or self.rate))
        return max(finish, self._bridge_free_ps)

    def _write(self, stores: dict[tuple[int, bool], int]) -> int:
        for (segment, in_place), size in sorted(stores.items()):
            self.residency.write(segment, size, in_place=in_place)
            self.stored_bytes[segment] += size
        return sum(stores.values())

    def _answer(self, group: _Group, finish: int, fetched: int, channel: BusyLog) -> None:
        """Let a group's data arrive, and say which server it will have waited for."""
        arrival = group.arrival
        if not group.missed:
            arrival.busy, arrival.causes = self.busy, ("l2_bandwidth", "l2_latency")
            ready = finish + group.hit_ps
        elif fetched >= finish:
            arrival.busy, arrival.causes = channel, ("hbm_bandwidth", "hbm_latency")
            ready = fetched + self._hbm_ps
        else:
            arrival.busy, arrival.causes = self.busy, ("l2_bandwidth", "hbm_latency")
            ready = finish + self._hbm_ps
        arrival.be_ready_at(ready)
