"""A streaming multiprocessor: CTAs whose loaders and compute pipe are joined by a bounded buffer.

The loader keeps requests in flight while the buffer has room; the compute pipe takes granules in
order as they arrive. Little's law, pipeline fill and the overlap of memory and compute emerge.
Every instant is charged to one cause: a busy pipe, what the next granule waited for, launch, or
tail.
"""

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass

import simpy
from simpy.events import Timeout

from sim.hardware.clock import Clock
from sim.hardware.dispatch import SmClass
from sim.hardware.l2 import L2, Arrival
from sim.hardware.plan import CtaPlan, Granule, PhasePlan
from sim.hardware.spec import ChipSpec
from sim.measure.busy import BusyLog
from sim.measure.causes import CAUSES
from sim.measure.probe import Probe

Process = Generator[simpy.Event, object, None]


class SmLedger:
    """Where an SM's time went. `until_ps` is how far it is accounted for."""

    __slots__ = ("ps", "until_ps")

    def __init__(self) -> None:
        self.ps = dict.fromkeys(CAUSES, 0)
        self.until_ps = 0

    def charge(self, cause: str, until_ps: int) -> None:
        """Charge the time up to `until_ps`, as far as it is not accounted for yet, to `cause`."""
        if until_ps > self.until_ps:
            self.ps[cause] += until_ps - self.until_ps
            self.until_ps = until_ps

    def charge_wait(self, until_ps: int, busy: BusyLog, causes: tuple[str, str]) -> None:
        """Charge a wait: while the server is busy to the first cause, else to the second."""
        if until_ps > self.until_ps:
            saturated = busy.between(self.until_ps, until_ps)
            self.ps[causes[0]] += saturated
            self.ps[causes[1]] += until_ps - self.until_ps - saturated
            self.until_ps = until_ps


@dataclass(slots=True, eq=False)
class _Loader:
    """The loading half of one phase of one CTA: what is left to issue, and room in the buffer."""

    phase: PhasePlan
    credit_bytes: int
    arrivals: deque[Arrival]
    next_granule: int = 0
    starved: simpy.Event | None = None

    def issued(self, granule: Granule, arrival: Arrival) -> bool:
        """Note that the next granule is on its way; return whether any is left."""
        self.credit_bytes -= granule.total_bytes
        self.next_granule += 1
        self.arrivals.append(arrival)
        if self.starved is not None:
            self.starved.succeed()
            self.starved = None
        return self.next_granule < len(self.phase.granules)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmJob:
    """What a class of SMs does in a kernel: its CTAs, their plans, each slot's cold start."""

    name: str
    plans: tuple[CtaPlan, ...]
    sm_class: SmClass
    setup_ps: int


class Sm:
    """A class of `multiplicity` identical SMs during one kernel."""

    __slots__ = (
        "_loaders",
        "_return_ps",
        "_sleeps",
        "env",
        "job",
        "kernel_start_ps",
        "l2",
        "ledger",
        "multiplicity",
        "pipe_ps",
        "port_ps",
        "probe",
    )

    def __init__(
        self, env: Clock, spec: ChipSpec, probe: Probe | None, *, l2: L2, job: SmJob
    ) -> None:
        self.env = env
        self.probe = probe
        self.l2 = l2
        self.job = job
        self.multiplicity = job.sm_class.multiplicity
        self.ledger = SmLedger()
        self.port_ps = 0
        self._loaders: list[_Loader] = []
        self._sleeps = False
        self.pipe_ps = 0
        self._return_ps = 0
        self.kernel_start_ps = spec.kernel_start_ps
        for slot in job.sm_class.slots:
            env.process(self._run_slot(slot))

    def _run_slot(self, kinds: tuple[int, ...]) -> Process:
        yield Timeout(self.env, self.kernel_start_ps)
        self.ledger.charge("launch", self.env.time_ps)
        if self.job.setup_ps:
            yield Timeout(self.env, self.job.setup_ps)
            self.ledger.charge("l2_latency", self.env.time_ps)
        for kind in kinds:
            plan = self.job.plans[kind]
            for phase in plan.phases:
                yield from self._run_phase(phase, plan.buffer_bytes)

    def _run_phase(self, phase: PhasePlan, buffer_bytes: int) -> Process:
        if phase.round_trips_ps:
            yield Timeout(self.env, phase.round_trips_ps)
            self.ledger.charge("l2_latency", self.env.time_ps)
        if phase.loads:
            yield from self._stream(phase, buffer_bytes)
        else:
            for granule in phase.granules:
                wait = self._compute(self.env.time_ps, granule)
                if wait:
                    yield Timeout(self.env, wait)
                    self.ledger.charge("sync", self.env.time_ps)
        if phase.stores:
            self.l2.store(phase.stores, self.multiplicity)

    def _stream(self, phase: PhasePlan, buffer_bytes: int) -> Process:
        env = self.env
        arrivals: deque[Arrival] = deque()
        loader = _Loader(phase, buffer_bytes, arrivals)
        self._loaders.append(loader)
        self._issue()
        for granule in phase.granules:
            while not arrivals:
                loader.starved = env.event()
                yield loader.starved
            arrival = arrivals.popleft()
            if not arrival.is_there():
                yield arrival.awaited()
            wait = self._compute(self._returned(arrival, granule), granule)
            if wait:
                yield Timeout(env, wait)
                self.ledger.charge("sync", env.time_ps)
            loader.credit_bytes += granule.total_bytes
            if not self._sleeps:
                self._issue()

    def _issue(self, woken: simpy.Event | None = None) -> None:
        """Issue granules while the port is free: the oldest CTA with room goes first.

        Warp schedulers are greedy, then oldest: a CTA's loads leave before those of CTAs that
        started after it, which spreads the CTAs of an SM out in time.
        """
        if woken is not None:
            self._sleeps = False
        now = self.env.time_ps
        while not self._sleeps:
            for loader in self._loaders:
                granule = loader.phase.granules[loader.next_granule]
                if granule.total_bytes <= loader.credit_bytes:
                    break
            else:
                return
            if self.port_ps > now:
                self._sleeps = True
                timeout = Timeout(self.env, self.port_ps - now)
                timeout.callbacks.append(self._issue)
                return
            self.port_ps = now + granule.port_ps
            phase = loader.phase
            arrival = self.l2.request(phase.key, phase.loads, granule.sizes, self.multiplicity)
            if not loader.issued(granule, arrival):
                self._loaders.remove(loader)

    def _returned(self, arrival: Arrival, granule: Granule) -> int:
        """Return when the granule is through the SM's port; charge the wait up to now."""
        now = self.env.time_ps
        through = self._return_ps + granule.port_ps
        through = max(through, now)
        self._return_ps = through
        if self.probe is not None:
            start = through - granule.port_ps
            self.probe.served(f"{self.job.name}.port", start, through, granule.total_bytes)
        if now > self.ledger.until_ps:
            self.ledger.charge_wait(now, arrival.busy, arrival.causes)
        return through

    def _compute(self, ready_ps: int, granule: Granule) -> int:
        """Take the pipe for a granule, once its data are there; return how long the CTA waits."""
        start = ready_ps if ready_ps > self.pipe_ps else self.pipe_ps
        ledger = self.ledger
        if start > ledger.until_ps:
            ledger.charge("l2_bandwidth", start)
        work_ps = granule.work_ps
        self.pipe_ps = end = start + work_ps
        if work_ps:
            ps = ledger.ps
            for cause, pipe_ps in granule.pipes_ps:
                ps[cause] += pipe_ps
            ledger.until_ps = end
            if self.probe is not None:
                self.probe.served(f"{self.job.name}.pipe", start, end, work_ps)
        chain_ps = granule.chain_ps
        return start + (work_ps if work_ps > chain_ps else chain_ps) - self.env.time_ps
