"""A channel that is fed in pieces: run to an edge, append bursts, go on.

Feeding in pieces gives what feeding at once gives, command by command: no edge from the last
`until` on has been looked at, so what is appended later, but arrives there or after, comes in time.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvariantError
from sim.hardware.dram.channel import fast_run
from sim.hardware.dram.compiled import available
from sim.hardware.dram.controller import Controller
from sim.hardware.dram.loop import run
from sim.hardware.dram.memory import causes_of, fresh_memory
from sim.hardware.dram.state import (
    FAR,
    LOG_FIELDS,
    Q_ARRIVE,
    Q_FIELDS,
    Q_ISSUE,
    Q_WRITE,
    S_BURSTS,
    S_EDGE,
    S_EVENTS,
    S_GENERATED,
    S_OPEN,
)
from sim.hardware.dram.timing import DramSpec

Array = NDArray[np.int64]
_ROOM = 1024  # numbers that a compiled channel's arrays have room for at first


class _Growing:
    """A sequence of integers to which more are added: a list, or an array with room to spare."""

    __slots__ = ("used", "values")

    def __init__(self, *, compiled: bool) -> None:
        self.values: Any = np.zeros(_ROOM, dtype=np.int64) if compiled else []
        self.used = 0

    def extend(self, more: Array) -> None:
        """Add numbers at the end."""
        if isinstance(self.values, list):
            self.values.extend(more.tolist())
        else:
            need = self.used + len(more)
            if need > len(self.values):
                room = np.zeros(2 * need, dtype=np.int64)
                room[: self.used] = self.values[: self.used]
                self.values = room
            self.values[self.used : need] = more
        self.used += len(more)


class ResumableChannel:
    """One channel at command level whose bursts are appended while it runs. Times are edges."""

    __slots__ = ("_compiled", "_q", "_reads", "_spec", "_until", "_writes", "log", "m")

    def __init__(
        self,
        spec: DramSpec,
        controller: Controller,
        *,
        log_size: int = 0,
        compiled: bool | None = None,
    ) -> None:
        self._spec = spec
        self._compiled = available() if compiled is None else compiled
        options = controller.options(spec.organisation.clock_ps / spec.bus.edges_per_clock)
        memory = fresh_memory(spec, options, 0, log_size)
        memory[S_OPEN] = 1
        log = np.zeros(max(1, log_size) * LOG_FIELDS, dtype=np.int64)
        self.m: Any = memory if self._compiled else memory.tolist()
        self.log: Any = log if self._compiled else log.tolist()
        self._q = _Growing(compiled=self._compiled)
        self._reads = _Growing(compiled=self._compiled)
        self._writes = _Growing(compiled=self._compiled)
        self._until = 0

    @property
    def bursts(self) -> int:
        """Return how many bursts were appended so far."""
        return int(self.m[S_BURSTS])

    @property
    def events(self) -> int:
        """Return how many edges were looked at."""
        return int(self.m[S_EVENTS])

    def append(self, table: Array) -> None:
        """Append bursts, a table as `request_table` makes it, in the order of their arrival.

        Raises InvariantError if one arrives at an edge that was run already.
        """
        if not len(table):
            return
        first, arrive = self.bursts, int(table[Q_ARRIVE])
        if arrive < self._until:
            raise InvariantError(f"a burst arrives at edge {arrive}, run until {self._until}")
        write = table[Q_WRITE::Q_FIELDS]
        self._reads.extend(np.flatnonzero(write == 0) + first)
        self._writes.extend(np.flatnonzero(write) + first)
        self._q.extend(table)
        if self.m[S_GENERATED] == first:  # nothing else was to arrive: look when this does
            self.m[S_EDGE] = min(int(self.m[S_EDGE]), arrive)
        self.m[S_BURSTS] = first + len(write)

    def run(self, until: int) -> None:
        """Do everything that starts before edge `until`."""
        self._until = max(self._until, until)
        self._go(until)

    def finish(self) -> None:
        """Serve all that was appended, the last writes too; nothing may be appended afterwards."""
        self.m[S_OPEN] = 0
        self._until = FAR
        self._go(FAR)

    def issues(self, first: int, last: int) -> Array:
        """Return when RD or WR of bursts `first` to `last` (excluded) started, or -1."""
        values = self._q.values[first * Q_FIELDS + Q_ISSUE : last * Q_FIELDS : Q_FIELDS]
        return np.asarray(values, dtype=np.int64)

    def cause_edges(self) -> tuple[dict[str, int], int]:
        """Return the time of all data buses by cause, and the edges from 0 to the last data."""
        return causes_of(np.asarray(self.m, dtype=np.int64), self._spec)

    def table(self) -> Array:
        """Return the table of all bursts, `Q_FIELDS` numbers each."""
        return np.asarray(self._q.values[: self._q.used], dtype=np.int64)

    def _go(self, until: int) -> None:
        inner = fast_run() if self._compiled else run
        if not inner(
            self.m, self._q.values, self._reads.values, self._writes.values, self.log, until
        ):
            raise InvariantError(f"DRAM scheduler stuck on {self._spec.name}")
