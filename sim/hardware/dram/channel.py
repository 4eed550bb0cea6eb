"""Run a stream of requests through one DRAM channel and say what happened."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvariantError
from sim.hardware.dram.address import DramMap
from sim.hardware.dram.compiled import available, compile_function
from sim.hardware.dram.controller import Controller
from sim.hardware.dram.loop import run
from sim.hardware.dram.memory import bank_utilisation, causes_of, fresh_memory, request_table
from sim.hardware.dram.patterns import Stream
from sim.hardware.dram.state import (
    COMMANDS,
    FAR,
    LOG_FIELDS,
    Q_ACCEPT,
    Q_FIELDS,
    Q_ISSUE,
    Q_WRITE,
    S_ACTS,
    S_EVENTS,
    S_LOGGED,
    S_MAX_DEBT,
    S_REFRESHES,
)
from sim.hardware.dram.timing import DramSpec

Array = NDArray[np.int64]
_MARGIN: Final = 10  # the first and last tenth of the granules are not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of a log: when it started (edges), what, in which flat bank.

    `row` is the row of ACT and the burst of RD and WR, else -1.
    """

    edge: int
    name: str
    bank: int
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelResult:
    """What one channel did with a stream.

    `start_ps` and `done_ps` are per granule: when its first burst was accepted or, if it came
    later than it could be accepted, arrived; and when its last data had been transferred.
    `cause_edges` is the time of all data buses by cause; it sums to `span_edges` x pseudo-channels.
    """

    start_ps: Array
    done_ps: Array
    accept_edge: Array
    issue_edge: Array
    write: NDArray[np.bool_]
    chunk_bytes: int
    peak_bytes_per_s: int
    cause_edges: dict[str, int]
    span_edges: int
    activations: int
    refreshes: int
    max_refresh_debt: int
    bank_utilisation: float
    events: int
    log: tuple[Command, ...]

    @property
    def row_hit_rate(self) -> float:
        """Return the share of bursts that needed no activation of their own."""
        return 1 - self.activations / len(self.issue_edge)

    @property
    def bandwidth_fraction(self) -> float:
        """Return the bandwidth as a share of the peak, from 10 % to 90 % of the granules."""
        done = np.sort(self.done_ps)
        first, last = self._middle()
        moved = (last - first) * self.chunk_bytes
        return float(moved * 1e12 / int(done[last] - done[first]) / self.peak_bytes_per_s)

    def read_latency_ns(self) -> NDArray[np.float64]:
        """Return the latencies of the reads among the middle 80 % of the granules."""
        first, last = self._middle()
        middle = np.argsort(self.done_ps, kind="stable")[first:last]
        reads = middle[~self.write[middle]]
        return np.asarray((self.done_ps[reads] - self.start_ps[reads]) / 1000.0)

    def _middle(self) -> tuple[int, int]:
        count = len(self.done_ps)
        return count // _MARGIN, max(count // _MARGIN + 1, count - count // _MARGIN - 1)


def simulate(
    spec: DramSpec,
    controller: Controller,
    address_map: DramMap,
    stream: Stream,
    *,
    log_size: int = 0,
    compiled: bool | None = None,
) -> ChannelResult:
    """Run `stream` through a channel; log up to `log_size` commands.

    `compiled` picks the numba path (default: if the extra `fast` is there); results do not depend
    on it. Raises InvariantError if the scheduler gets stuck, which is a bug.
    """
    per_edge = spec.organisation.clock_ps / spec.bus.edges_per_clock
    options = controller.options(per_edge)
    q = request_table(spec, address_map, stream)
    write = q[Q_WRITE::Q_FIELDS]
    arrays = [
        fresh_memory(spec, options, len(write), log_size),
        q,
        np.flatnonzero(write == 0),
        np.flatnonzero(write),
        np.zeros(max(1, log_size) * LOG_FIELDS, dtype=np.int64),
    ]
    if available() if compiled is None else compiled:
        finished = fast_run()(*arrays, FAR)
    else:
        lists = [array.tolist() for array in arrays]
        finished = run(lists[0], lists[1], lists[2], lists[3], lists[4], FAR)
        arrays = [np.array(values, dtype=np.int64) for values in lists]
    if not finished:
        raise InvariantError(f"DRAM scheduler stuck on {spec.name} with {controller}")
    return _result(spec, stream, arrays[0], arrays[1], arrays[4])


@lru_cache(maxsize=1)
def fast_run() -> Any:  # noqa: ANN401
    """Return the inner loop, compiled."""
    return compile_function(run)


def _result(spec: DramSpec, stream: Stream, m: Array, q: Array, log: Array) -> ChannelResult:
    e, count = spec.edges(), len(stream.address)
    accept, issue = q[Q_ACCEPT::Q_FIELDS], q[Q_ISSUE::Q_FIELDS]
    after = e.read_latency
    done = (issue + after).reshape(count, -1).max(axis=1)
    causes, span = causes_of(m, spec)
    accepted = spec.edge_ps(accept.reshape(count, -1)[:, 0])
    return ChannelResult(
        start_ps=stream.arrive_ps if stream.arrive_ps.any() else accepted,
        done_ps=spec.edge_ps(done),
        accept_edge=accept,
        issue_edge=issue,
        write=stream.write,
        chunk_bytes=stream.chunk_bytes,
        peak_bytes_per_s=spec.peak_bytes_per_s,
        cause_edges=causes,
        span_edges=span,
        activations=int(m[S_ACTS]),
        refreshes=int(m[S_REFRESHES]),
        max_refresh_debt=int(m[S_MAX_DEBT]),
        bank_utilisation=bank_utilisation(m, spec, span),
        events=int(m[S_EVENTS]),
        log=_commands(log, int(m[S_LOGGED])),
    )


def _commands(log: Array, count: int) -> tuple[Command, ...]:
    rows = log[: count * LOG_FIELDS].reshape(-1, LOG_FIELDS).tolist()
    return tuple(
        Command(edge=edge, name=COMMANDS[command], bank=bank, row=row)
        for edge, command, bank, row in rows
    )
