"""A timeline of a few layers for ui.perfetto.dev: kernels, gaps, SM classes, L2 and channels.

The file is Chrome trace JSON (gzip): complete events ("X") with microseconds, one process per
contestant, one thread per server. It shows the embedding and the first layers of one step at one
point, simulated anew with a recording probe.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sim.hardware.residency import EMPTY_L2, L2State, forget
from sim.kernel.kernel import Kernel
from sim.kernel.lower.fusion import fuse
from sim.kernel.operators import Exchange
from sim.measure.probe import RecordingProbe
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.point import PointRunner, build_device
from sim.run.result import Result
from sim.run.step import alive_after, launch_gap_ps, live_out, run_exchange
from sim.run.write import write_whole
from sim.scenario.scenario import Scenario
from sim.units import PS_PER_US

FILE_NAME = "timeline.json.gz"
LAYERS = 3
# Perfetto names threads from 1; the first two are the kernels and the gaps between them.
_KERNELS, _GAPS, _FIRST_SERVER = 1, 2, 3

Event = dict[str, Any]


def write_timeline(scenario: Scenario, result: Result, out_dir: Path) -> Path:
    """Write the timeline of every contestant at its smallest point that fits."""
    memo = Memo(None)
    events: list[Event] = []
    for index, contestant in enumerate(scenario.contestants):
        point = next((p for p in result.points if p.contestant == contestant.name and p.fits), None)
        if point is None:
            continue
        device = build_device(scenario, memo, contestant.placement)
        runner = PointRunner(scenario=scenario, contestant=contestant, device=device)
        title = f"{contestant.name}, batch {point.batch}, context {point.context}"
        track = Track(pid=100 + index, title=title)
        for kernel, l2 in _kernels(runner, point.batch, point.context):
            if isinstance(kernel, Exchange):
                track.add_exchange(kernel, device)
            else:
                track.add(kernel, l2, device)
        events.extend(track.events)
    trace = {"displayTimeUnit": "ns", "traceEvents": events}
    data = gzip.compress(json.dumps(trace, sort_keys=True).encode(), mtime=0)
    return write_whole(out_dir / FILE_NAME, data)


class Track:
    """The events of one contestant, kernel after kernel."""

    def __init__(self, pid: int, title: str) -> None:
        self.pid = pid
        self.now_ps = 0
        self.threads: dict[str, int] = {}
        self.events: list[Event] = [_named("process_name", pid, 0, title)]
        for tid, name in ((_KERNELS, "kernels"), (_GAPS, "launch gaps")):
            self.events.append(_named("thread_name", pid, tid, name))

    def add(self, kernel: Kernel, l2: L2State, device: Device) -> None:
        """Run a kernel with a probe and append its gap, itself and what its servers did."""
        self._gap(device)
        probe = RecordingProbe()
        run = device.gpu.run(kernel, l2, probe)
        arguments = {
            "operator": kernel.operator,
            "CTAs": kernel.n_ctas,
            "FLOP": kernel.flop,
            "L2 bytes": sum(run.asked_bytes),
            "HBM bytes": sum(run.missed_bytes),
        }
        self._span(_KERNELS, kernel.name, self.now_ps, run.time_ps, arguments)
        for service in probe.services:
            start_ps = self.now_ps + service.start_ps
            length_ps = service.end_ps - service.start_ps
            arguments = {"amount": service.amount}
            self._span(
                self._thread(service.server), kernel.operator, start_ps, length_ps, arguments
            )
        self.now_ps += run.time_ps

    def add_exchange(self, op: Exchange, device: Device) -> None:
        """Append the gap before a collective and the collective."""
        self._gap(device)
        run = device.exchange(op.what)
        arguments = {"operator": op.name, "ranks": op.what.ranks, "bytes": op.what.size_bytes}
        self._span(_KERNELS, f"{op.what.op} {run.name}", self.now_ps, run.time_ps, arguments)
        self.now_ps += run.time_ps

    def _gap(self, device: Device) -> None:
        gap_ps = launch_gap_ps(device)
        self._span(_GAPS, "launch", self.now_ps, gap_ps, {})
        self.now_ps += gap_ps

    def _thread(self, server: str) -> int:
        if server not in self.threads:
            self.threads[server] = _FIRST_SERVER + len(self.threads)
            self.events.append(_named("thread_name", self.pid, self.threads[server], server))
        return self.threads[server]

    def _span(self, tid: int, name: str, start_ps: int, length_ps: int, args: Event) -> None:
        self.events.append(
            {
                "ph": "X",
                "pid": self.pid,
                "tid": tid,
                "name": name,
                "ts": start_ps / PS_PER_US,
                "dur": length_ps / PS_PER_US,
                "args": args,
            }
        )


def _named(kind: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "pid": pid, "tid": tid, "name": kind, "args": {"name": name}}


def _kernels(
    runner: PointRunner, batch: int, context: int
) -> Iterator[tuple[Kernel | Exchange, L2State]]:
    """Yield the first kernels and collectives of a step, each with the L2 state that it finds."""
    graph, device = runner.graph(batch, context), runner.device
    outlives = live_out(graph)
    l2 = EMPTY_L2
    for block in graph.blocks[: LAYERS + 1]:
        operators = fuse(block.operators, device.engine.fusions, outlives)
        for op, alive in zip(operators, alive_after(operators), strict=True):
            if isinstance(op, Exchange):
                yield op, l2
                l2 = run_exchange(op, device, l2)[1]
            for kernel in device.tune(op):
                yield kernel, l2
                l2 = device.run(kernel, l2).l2
            l2 = forget(l2, alive)
