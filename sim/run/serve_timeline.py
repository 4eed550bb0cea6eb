"""A timeline of a serving run for ui.perfetto.dev: steps, counters, and requests with phases.

The file is Chrome trace JSON (gzip) with microseconds. Each replica is a process: a thread of its
steps and counters of what it holds; its requests are nested async spans. Big runs are thinned to
a window of time and a number of requests, which the process of the run names.
"""

import gzip
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from sim.run.serve_result import Served
from sim.serving.record import ReplicaLog, RequestRecord
from sim.units import PS_PER_S, PS_PER_US

FILE_NAME: Final = "timeline.json.gz"
# Perfetto calls a thread with the number of its process, or number 0, by another name.
_FIRST_PID: Final = 100
_STEPS: Final = 1

Event = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What of a run is shown: from `start_ps` on for `length_ps`, of it at most so many."""

    start_ps: int = 0
    length_ps: int = 60 * PS_PER_S
    requests: int = 2_000
    steps: int = 20_000

    @property
    def end_ps(self) -> int:
        """Return the end of the window."""
        return self.start_ps + self.length_ps


def timeline_gz(one: Served, window: Window | None = None) -> bytes:
    """Return the timeline of `one` within `window`; the same bytes for the same run.

    Steps and requests that overlap the window are shown whole.
    """
    window = window or Window()
    events: list[Event] = []
    for index, log in enumerate(one.run.replicas):
        pid = _FIRST_PID + index
        events.append(_named("process_name", pid, 0, _title(one, index, window)))
        events.append(_named("thread_name", pid, _STEPS, "steps"))
        events += _steps(log, pid, window)
    shown = [r for r in one.run.requests if _overlaps(r, window)][: window.requests]
    for record in shown:
        events += _request(record, one.run.replicas[record.replica])
    trace = {"displayTimeUnit": "ns", "traceEvents": events}
    return gzip.compress(json.dumps(trace, sort_keys=True).encode(), compresslevel=6, mtime=0)


def _title(one: Served, index: int, window: Window) -> str:
    role = one.run.replicas[index].role
    name = f"{one.info.contestant}, replica {index}" + (f" ({role})" if role else "")
    start, end = window.start_ps / PS_PER_S, window.end_ps / PS_PER_S
    return f"{name}, {start:g} to {end:g} s, at most {window.requests} requests"


def _steps(log: ReplicaLog, pid: int, window: Window) -> Iterator[Event]:
    first = bisect_right(log.end_ps, window.start_ps)
    last = min(bisect_left(log.start_ps, window.end_ps), first + window.steps)
    for step in range(first, last):
        start_ps, end_ps = log.start_ps[step], log.end_ps[step]
        decodes, prompt = log.decodes[step], log.prefill_tokens[step]
        kind = "mixed" if decodes and prompt else "prefill" if prompt else "decode"
        yield {
            "ph": "X", "pid": pid, "tid": _STEPS, "name": kind, "ts": start_ps / PS_PER_US,
            "dur": (end_ps - start_ps) / PS_PER_US,
            "args": {"step": step, "decodes": decodes, "prefill tokens": prompt},
        }  # fmt: skip
        at = (pid, start_ps)
        yield _counter(at, "requests", {
            "running": log.running[step], "waiting": log.waiting[step],
        })  # fmt: skip
        kv = 100 * log.kv_blocks[step] / max(1, log.kv_blocks_total)
        yield _counter(at, "KV cache (%)", {"used": round(kv, 2)})
        rate = log.generated[step] * PS_PER_S / max(1, end_ps - start_ps)
        yield _counter(at, "tokens/s", {"generated": round(rate, 1)})


def _overlaps(record: RequestRecord, window: Window) -> bool:
    end_ps = record.finished_ps
    return end_ps is not None and record.sent_ps < window.end_ps and end_ps > window.start_ps


def phases(record: RequestRecord, log: ReplicaLog) -> list[tuple[str, int, int]]:
    """Return what a finished request went through as (phase, start, end) in ps, in order.

    The phases are queue, prefill, decode and preempted. A request that was thrown out n times
    was so in its n longest pauses between two tokens; one lasts to the next token.
    """
    if record.finished_ps is None or record.scheduled_ps is None:
        return []
    first_ps = record.finished_ps if record.first_token_ps is None else record.first_token_ps
    found = [
        ("queue", record.sent_ps, record.scheduled_ps),
        ("prefill", record.scheduled_ps, first_ps),
    ]
    at_ps = first_ps
    for start_ps, end_ps in _pauses(record, log):
        found += [("decode", at_ps, start_ps), ("preempted", start_ps, end_ps)]
        at_ps = end_ps
    found.append(("decode", at_ps, record.finished_ps))
    return [phase for phase in found if phase[2] > phase[1]]


def _pauses(record: RequestRecord, log: ReplicaLog) -> list[tuple[int, int]]:
    ends = [(log.end_ps[b], log.end_ps[c]) for (_, b), (c, _) in pairwise(record.emitted)]
    by_length = sorted(ends, key=lambda pause: pause[0] - pause[1])
    return sorted(by_length[: record.preemptions])


def _request(record: RequestRecord, log: ReplicaLog) -> Iterator[Event]:
    assert record.finished_ps is not None
    arguments = {
        "index": record.index,
        "input tokens": record.input_tokens,
        "output tokens": record.output_tokens,
        "prefix hit tokens": record.prefix_hit_tokens,
        "preemptions": record.preemptions,
    }
    # Perfetto stacks spans of one name under one heading, and makes a track for every other.
    name = "request"
    yield _async("b", record, (name, record.sent_ps), arguments)
    for phase, start_ps, end_ps in phases(record, log):
        yield _async("b", record, (phase, start_ps), {})
        yield _async("e", record, (phase, end_ps), {})
    yield _async("e", record, (name, record.finished_ps), {})


def _async(kind: str, record: RequestRecord, place: tuple[str, int], args: Event) -> Event:
    name, at_ps = place
    return {
        "ph": kind, "cat": "request", "id": record.index, "pid": _FIRST_PID + record.replica,
        "tid": _STEPS, "name": name, "ts": at_ps / PS_PER_US, "args": args,
    }  # fmt: skip


def _counter(place: tuple[int, int], name: str, values: dict[str, float]) -> Event:
    pid, at_ps = place
    return {"ph": "C", "pid": pid, "name": name, "ts": at_ps / PS_PER_US, "args": values}


def _named(kind: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "pid": pid, "tid": tid, "name": kind, "args": {"name": name}}
