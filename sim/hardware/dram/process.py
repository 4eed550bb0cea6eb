"""A bank-level channel in a SimPy environment.

Between requests it sleeps until the first instant at which one may be complete: bursts that were
not issued by edge t cannot have been transferred before t plus the rest of their transfer plus the
read latency. So it is always run to the present, never beyond, and no completion is found late.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.errors import InvariantError
from sim.hardware.clock import Clock
from sim.hardware.dram.address import DramMap
from sim.hardware.dram.controller import Controller
from sim.hardware.dram.resumable import ResumableChannel
from sim.hardware.dram.scaled import ScaledDram
from sim.hardware.dram.state import Q_ACCEPT, Q_ARRIVE, Q_BANK, Q_FIELDS, Q_ISSUE, Q_ROW, Q_WRITE
from sim.measure.busy import BusyLog
from sim.measure.probe import Probe

Array = NDArray[np.int64]
Done = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BankDevice:
    """What a channel is made of; `compiled` as in `simulate`."""

    dram: ScaledDram
    controller: Controller
    address_map: DramMap
    compiled: bool | None = None


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """Reads `first` to `last` (excluded) of one request; not done before `bound` (edges)."""

    first: int
    last: int
    arrival_ps: int
    done: Done
    bound: int


class BankChannel:
    """A class of `multiplicity` channels that are alike, one of which is simulated.

    `busy` has the times at which a read waited or was transferred. `free_ps` and
    `cause_edges` are final after `finish`.
    """

    __slots__ = (
        "_channel", "_dram", "_edges", "_env", "_map", "_owed_bytes", "_probe", "_until_ps",
        "_waiting", "_wake_edge", "busy", "free_ps", "multiplicity", "name",
    )  # fmt: skip

    def __init__(
        self,
        env: Clock,
        device: BankDevice,
        probe: Probe | None = None,
        *,
        name: str = "hbm0",
        multiplicity: int = 1,
    ) -> None:
        self._env = env
        dram = self._dram = device.dram
        self._edges = dram.spec.edges()
        self._map = device.address_map
        self._probe = probe
        self._channel = ResumableChannel(dram.spec, device.controller, compiled=device.compiled)
        self._waiting: list[_Waiting] = []
        self._wake_edge = -1
        self._until_ps = 0
        self._owed_bytes = 0
        self.name = name
        self.multiplicity = multiplicity
        self.busy = BusyLog()
        self.free_ps = 0

    @property
    def events(self) -> int:
        """Return how many edges were looked at."""
        return self._channel.events

    @property
    def bursts(self) -> int:
        """Return how many bursts were asked for."""
        return self._channel.bursts

    def request(
        self, arrival_ps: int, reads: Array, writes: Array, done: Done | None = None
    ) -> None:
        """Ask for bursts, numbered in the channel, that arrive together, reads first.

        `arrival_ps` is not before now nor before an earlier request's. `done` is called once, when
        it is known at which ps the last read is transferred, which is then not yet over.
        """
        edge = self._dram.edge(arrival_ps)
        self._channel.run(self._dram.edge(self._env.time_ps))
        first = self._channel.bursts
        self._channel.append(self._table(np.concatenate([reads, writes]), len(reads), edge))
        size = self._dram.spec.organisation.access_bytes
        self._owed_bytes += (len(reads) + len(writes)) * size * self.multiplicity
        if done is not None and len(reads):
            waiting = _Waiting(
                first=first, last=first + len(reads), arrival_ps=arrival_ps, done=done,
                bound=self._bound(edge, len(reads)),
            )  # fmt: skip
            self._waiting.append(waiting)
            self._sleep()

    def finish(self) -> None:
        """Serve the writes that are left. Raises InvariantError if somebody still waits."""
        if self._waiting:
            raise InvariantError(f"{self.name}: {len(self._waiting)} requests were never served")
        self._channel.finish()
        _, span = self._channel.cause_edges()
        if self._channel.bursts:
            tail = self._edges.read_latency - self._edges.burst
            self.free_ps = max(self.free_ps, self._dram.time_ps(span + tail))
        if self._owed_bytes and self._probe is not None:
            self._probe.served(self.name, self._until_ps, self.free_ps, self._owed_bytes)

    def cause_ps(self) -> dict[str, int]:
        """Return the ps of all pseudo-channels of the class by cause, `idle` left out."""
        causes, _ = self._channel.cause_edges()
        edge_ps = self._dram.edge_ps * self.multiplicity
        return {name: int(n * edge_ps) for name, n in causes.items() if name != "idle"}

    def _table(self, bursts: Array, reads: int, edge: int) -> Array:
        places = self._map.places(bursts, self._dram.spec.organisation)
        table = np.zeros((len(bursts), Q_FIELDS), dtype=np.int64)
        table[:, Q_BANK], table[:, Q_ROW] = places.bank, places.row
        table[reads:, Q_WRITE] = 1
        table[:, Q_ARRIVE] = edge
        table[:, Q_ACCEPT] = table[:, Q_ISSUE] = -1
        return table.ravel()

    def _bound(self, edge: int, left: int) -> int:
        """Return before which edge `left` bursts, none issued before `edge`, cannot be there."""
        rounds = -(-left // self._dram.spec.organisation.pseudo_channels)
        return edge + (rounds - 1) * self._edges.burst + self._edges.read_latency

    def _sleep(self) -> None:
        """Wake at the first instant at which a request may be complete."""
        first = min(waiting.bound for waiting in self._waiting)
        if 0 <= self._wake_edge <= first:
            return
        self._wake_edge = first
        delay = self._dram.time_ps(first) - self._env.time_ps
        event = simpy.Timeout(self._env, delay, value=first)
        event.callbacks.append(self._awake)

    def _awake(self, event: simpy.Event) -> None:
        if event.value != self._wake_edge:
            return  # a request that may be complete before has come since
        self._wake_edge = -1
        edge = self._dram.edge(self._env.time_ps)
        self._channel.run(edge)
        still: list[_Waiting] = []
        complete: list[tuple[int, _Waiting]] = []
        for waiting in self._waiting:
            if waiting.bound > edge:
                still.append(waiting)
                continue
            issued = self._channel.issues(waiting.first, waiting.last)
            left = int((issued < 0).sum())
            if left:
                waiting.bound = self._bound(max(edge, self._dram.edge(waiting.arrival_ps)), left)
                still.append(waiting)
            else:
                last = int(issued.max()) + self._edges.read_latency
                complete.append((self._dram.time_ps(last), waiting))
        self._waiting = still
        for done_ps, waiting in sorted(complete, key=lambda found: found[0]):
            self._note(waiting.arrival_ps, done_ps)
            waiting.done(done_ps)
        if self._waiting:
            self._sleep()

    def _note(self, arrival_ps: int, done_ps: int) -> None:
        """Log that the channel was busy with a request."""
        if done_ps < self._env.time_ps:
            raise InvariantError(f"{self.name}: a completion at {done_ps} ps was found too late")
        start = max(arrival_ps, self._until_ps)
        if done_ps <= start:
            return
        self.busy.add(start, done_ps)
        if self._probe is not None:
            self._probe.served(self.name, start, done_ps, self._owed_bytes)
            self._owed_bytes = 0
        self._until_ps = self.free_ps = done_ps
