"""Runs the points of a microscope scenario, over processes."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvariantError
from sim.hardware.dram.channel import ChannelResult, simulate
from sim.hardware.dram.compiled import available
from sim.hardware.dram.patterns import Stream
from sim.hardware.dram.timing import DramSpec
from sim.run.microscope_result import PERCENTILES, Latency, MicroLog, MicroResult, MicroResults
from sim.run.microscope_streams import stream_of
from sim.scenario.microscope_scenario import MicroPoint, MicroScenario
from sim.version import version

LOG_SIZE: Final = 20_000
_BINS: Final = 8  # of a histogram in an octave
_SIMULATED: Final = 48 * 2**20
"""Bytes from which compiling, 12 to 20 s a process, takes less time than it saves."""
Task = tuple[MicroPoint, int, int, int, bool]
Ran = tuple[MicroResult, MicroLog | None]


def execute_microscope(
    scenario: MicroScenario,
    *,
    progress: Callable[[int, int], None] | None = None,
    jobs: int = 1,
) -> MicroResults:
    """Return what every point did; the same for any number of processes.

    Points of one pattern draw alike whatever else differs, so contestants see the same stream if
    their devices are alike. Raises InvariantError if time or bytes do not add up.
    """
    whole = scenario.total_bytes * len(scenario.points)
    compiled = available() and whole >= _SIMULATED
    tasks: list[Task] = [
        (
            point,
            scenario.total_bytes,
            scenario.seed,
            LOG_SIZE if scenario.timeline and not index else 0,
            compiled,
        )
        for index, point in enumerate(scenario.points)
    ]
    found: list[Ran] = []
    for ran in _map(tasks, jobs):
        found.append(ran)
        if progress:
            progress(len(found), len(tasks))
    return MicroResults(
        name=scenario.name,
        title=scenario.title,
        version=version(),
        seed=scenario.seed,
        total_bytes=scenario.total_bytes,
        points=tuple(result for result, _ in found),
        log=found[0][1],
    )


def _map(tasks: list[Task], jobs: int) -> Iterable[Ran]:
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(run_point, tasks)
        return
    # Ctrl-C is for the parent: it ends the pool.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    workers = min(jobs, len(tasks))
    with multiprocessing.Pool(workers, initializer=signal.signal, initargs=ignore) as pool:
        yield from pool.imap(run_point, tasks)


def run_point(task: Task) -> Ran:
    """Run one point: itself, bytes to move, seed, room for commands, whether compiled."""
    point, total_bytes, seed, log_size, compiled = task
    rng = np.random.default_rng([seed, *point.pattern.kind.encode()])
    stream = stream_of(point.pattern, point.spec, total_bytes, rng)
    ran = simulate(
        point.spec, point.controller, point.address_map, stream,
        log_size=log_size, compiled=compiled,
    )  # fmt: skip
    result = _result(point, stream, ran)
    check_point(result)
    return result, _log(point.spec, point, ran) if log_size else None


def check_point(result: MicroResult) -> None:
    """Raise InvariantError unless the time of all buses and the bytes of all banks add up."""
    where = f"{result.contestant}, {result.pattern}, {result.where}"
    if sum(result.cause_edges.values()) != result.span_edges * result.pseudo_channels:
        raise InvariantError(f"{where}: time by cause does not sum to the run")
    if sum(result.bank_bytes) != result.moved_bytes:
        raise InvariantError(f"{where}: bytes asked of the banks do not sum to those transferred")


def _result(point: MicroPoint, stream: Stream, ran: ChannelResult) -> MicroResult:
    spec = point.spec
    transferred = ran.cause_edges["data"] // spec.edges().burst
    return MicroResult(
        contestant=point.contestant,
        device=spec.name,
        map_label=point.map_label,
        refresh=point.controller.refresh,
        pattern=point.pattern.name,
        kind=point.pattern.kind,
        axes=point.axes,
        chunk_bytes=stream.chunk_bytes,
        moved_bytes=transferred * spec.organisation.access_bytes,
        peak_bytes_per_s=spec.peak_bytes_per_s,
        bandwidth_fraction=ran.bandwidth_fraction,
        latency=latency_of(ran.read_latency_ns()),
        row_hit_rate=ran.row_hit_rate,
        bank_utilisation=ran.bank_utilisation,
        cause_edges=ran.cause_edges,
        span_edges=ran.span_edges,
        span_ps=spec.edge_ps(ran.span_edges),
        pseudo_channels=spec.organisation.pseudo_channels,
        activations=ran.activations,
        refreshes=ran.refreshes,
        bank_bytes=_bank_bytes(point, stream),
    )


def latency_of(latency_ns: NDArray[np.float64]) -> Latency | None:
    """Return latencies summed up, None if there is none."""
    if not len(latency_ns):
        return None
    longest = float(latency_ns.max())
    octaves = np.arange(_BINS * (int(np.log2(max(longest, 1.0))) + 1) + 1) / _BINS
    edges = np.concatenate([[0.0], np.exp2(octaves)])
    counts, _ = np.histogram(latency_ns, edges)
    return Latency(
        reads=len(latency_ns),
        mean_ns=float(latency_ns.mean()),
        percentiles_ns=tuple(float(v) for v in np.percentile(latency_ns, PERCENTILES)),
        max_ns=longest,
        edges_ns=tuple(float(edge) for edge in edges),
        counts=tuple(int(count) for count in counts),
    )


def _bank_bytes(point: MicroPoint, stream: Stream) -> tuple[int, ...]:
    o = point.spec.organisation
    steps = np.arange(stream.chunk_bytes // o.access_bytes)
    bursts = (stream.address[:, None] // o.access_bytes + steps).ravel()
    bank = point.address_map.places(bursts, o).bank
    return tuple(int(n) * o.access_bytes for n in np.bincount(bank, minlength=o.banks))


def _log(spec: DramSpec, point: MicroPoint, ran: ChannelResult) -> MicroLog:
    o = spec.organisation
    groups = o.stack_ids * o.bank_groups
    names = []
    for bank in range(o.banks):
        pc, rest = divmod(bank, o.banks_per_pseudo_channel)
        stack, group = divmod(rest // o.banks_per_group % groups, o.bank_groups)
        names.append(f"pc {pc} stack {stack} group {group} bank {rest % o.banks_per_group}")
    where = ", ".join(f"{axis.key} {axis.label}" for axis in point.axes)
    return MicroLog(
        title=" · ".join(t for t in (point.contestant, point.pattern.name, where) if t),
        commands=ran.log,
        clock_ps=o.clock_ps,
        edges_per_clock=spec.bus.edges_per_clock,
        burst_ps=spec.timing.burst,
        read_delay_ps=spec.timing.cl,
        write_delay_ps=spec.timing.cwl,
        banks=tuple(names),
        bank_pc=tuple(bank // o.banks_per_pseudo_channel for bank in range(o.banks)),
    )
