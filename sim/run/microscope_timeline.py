"""The commands of a microscope run for ui.perfetto.dev: a track a bank, and the data buses.

The file is Chrome trace JSON (gzip); its times are microseconds.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sim.run.microscope_result import MicroLog
from sim.units import PS_PER_US

FILE_NAME: Final = "timeline.json.gz"
# Perfetto calls a thread with the number of its process, or number 0, by another name.
_BANKS, _BUSES = 100, 101
_ALL: Final = ("PREab", "REFab")
Event = dict[str, Any]


def timeline_gz(log: MicroLog) -> bytes:
    """Return the timeline of a log; the same bytes for the same run.

    A command lasts one clock; data is shown on the bus of its pseudo-channel when it passes there.
    PREab and REFab, which concern every bank, stand on a track of their own.
    """
    events = [_named("process_name", _BANKS, 0, f"banks: {log.title}")]
    events.append(_named("process_name", _BUSES, 0, "data buses, and commands to all banks"))
    events += [_named("thread_name", _BANKS, i + 1, name) for i, name in enumerate(log.banks)]
    for pc in sorted(set(log.bank_pc)):
        events.append(_named("thread_name", _BUSES, 2 * pc + 1, f"pc {pc}: data"))
        events.append(_named("thread_name", _BUSES, 2 * pc + 2, f"pc {pc}: all banks"))
    events += _commands(log)
    trace = {"displayTimeUnit": "ns", "traceEvents": events}
    return gzip.compress(json.dumps(trace, sort_keys=True).encode(), compresslevel=6, mtime=0)


def _commands(log: MicroLog) -> Iterator[Event]:
    for command in log.commands:
        at_ps = command.edge * log.clock_ps / log.edges_per_clock
        pc = log.bank_pc[command.bank]
        args = {"row": command.row} if command.name == "ACT" else {}
        track = (_BUSES, 2 * pc + 2) if command.name in _ALL else (_BANKS, command.bank + 1)
        yield _slice(track, command.name, (at_ps, log.clock_ps), args)
        if command.name[:2] in ("RD", "WR"):
            read = command.name.startswith("RD")
            delay = log.read_delay_ps if read else log.write_delay_ps
            label = "read" if read else "write"
            of = {"bank": log.banks[command.bank], "burst": command.row}
            yield _slice((_BUSES, 2 * pc + 1), label, (at_ps + delay, log.burst_ps), of)


def _slice(
    track: tuple[int, int], name: str, when: tuple[float, float], args: Mapping[str, object]
) -> Event:
    return {
        "ph": "X", "pid": track[0], "tid": track[1], "name": name, "ts": when[0] / PS_PER_US,
        "dur": when[1] / PS_PER_US, "args": args,
    }  # fmt: skip


def _named(kind: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "pid": pid, "tid": tid, "name": kind, "args": {"name": name}}
