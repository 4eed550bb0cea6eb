"""Traces from files: finds the format, reads the rows, sorts them by arrival.

A file may be compressed with gzip. Times are exact picoseconds.
"""

import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from sim.errors import InputError, Problem, nearest
from sim.resources import MEASURED_FILES, display, missing_file, trace_name
from sim.serving import trace_azure, trace_csv, trace_measured, trace_mooncake
from sim.serving.request import MeasuredSettings, MeasuredTimes, Request, Trace
from sim.serving.trace_cut import check_span
from sim.serving.trace_rows import Reading, Row, csv_cells, json_object

OnBadRow = Literal["stop", "skip"]

_SHOWN_PROBLEMS: Final = 20
_LOOKED_AT: Final = 100
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How one format is read.

    `fields` are the names by which it is known. `read` must leave out every row that it notes a
    Problem about, and must not sort.
    """

    about: str
    fields: tuple[str, ...]
    read: Callable[[list[str], Reading], list[Row]]


READERS: Final = MappingProxyType(
    {
        "mooncake": Reader(
            about="JSON lines of timestamp, input_length, output_length, hash_ids",
            fields=trace_mooncake.FIELDS,
            read=trace_mooncake.read_mooncake,
        ),
        "azure": Reader(
            about="CSV of TIMESTAMP, ContextTokens, GeneratedTokens",
            fields=trace_azure.FIELDS,
            read=trace_azure.read_azure,
        ),
        "vllm": Reader(
            about="measured run: JSON lines of input_toks, output_toks, arrival_time, ...",
            fields=trace_measured.FIELDS,
            read=trace_measured.read_measured,
        ),
        "csv": Reader(
            about="CSV of arrival_s, input_tokens, output_tokens and maybe prefix",
            fields=trace_csv.FIELDS,
            read=trace_csv.read_csv,
        ),
    }
)


_LEAST_SHARED: Final = 2


def read_trace(
    path: str | Path, *, format: str | None = None, on_bad_row: OnBadRow = "stop"
) -> Trace:
    """Return the trace in a file, or in the folder of a measured run.

    `format` is a name in `READERS`; None finds it out from the content. Bad rows stop it with an
    InputError of all of them, or with on_bad_row="skip" are left out and told of in `skipped`, one
    Problem each. A file without rows is a trace without requests. Raises InputError too if the file
    cannot be read or is of no known format, and for bad settings of a measured run.
    """
    if format is not None and format not in READERS:
        raise InputError([_unknown_format(str(path), format)])
    requests_file, is_run = _requests_file(Path(path).expanduser(), shown=str(path))
    file = display(requests_file)
    lines = _lines(requests_file, file)
    reading = Reading(file)
    name = format or ("vllm" if is_run else _format_of(lines, file))
    rows = READERS[name].read(lines, reading) if name else []
    if reading.problems and on_bad_row == "stop":
        raise InputError(_first(reading.problems))
    return _trace(
        trace_name(requests_file),
        rows,
        reading,
        trace_measured.read_settings(requests_file) if name == "vllm" else None,
    )


def _trace(
    name: str, rows: Iterable[Row], reading: Reading, settings: MeasuredSettings | None
) -> Trace:
    ordered = sorted(rows, key=lambda row: row.arrival_ps)
    if ordered:
        check_span(ordered[-1].arrival_ps, reading.file)
    served = [row.served_ps for row in ordered if row.served_ps is not None]
    return Trace(
        name=name,
        requests=tuple(
            Request(
                index=index,
                arrival_ps=row.arrival_ps,
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                prefix=row.prefix,
            )
            for index, row in enumerate(ordered)
        ),
        prefix_block_tokens=reading.prefix_block_tokens,
        skipped=_one_a_line(reading.problems),
        settings=settings,
        measured=_measured(served) if served else None,
    )


def _measured(served: Sequence[tuple[int, int, int, int]]) -> MeasuredTimes:
    queued, scheduled, first, last = zip(*served, strict=True)
    return MeasuredTimes(
        first_token_ps=first, last_token_ps=last, queued_ps=queued, scheduled_ps=scheduled
    )


def _one_a_line(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the first Problem of each line, so that their number is that of rows left out."""
    first: dict[int | None, Problem] = {}
    for problem in problems:
        first.setdefault(problem.line, problem)
    return tuple(first.values())


def _first(problems: Sequence[Problem]) -> list[Problem]:
    """Return as many problems as a person wants to read, and how many more there are."""
    shown, more = list(problems[:_SHOWN_PROBLEMS]), len(problems) - _SHOWN_PROBLEMS
    if more > 0:
        shown.append(Problem(file=problems[0].file, message=f"and {more:,} more problems"))
    return shown


def _requests_file(path: Path, *, shown: str) -> tuple[Path, bool]:
    """Return the file with the requests that `path` means, and whether it is of a measured run."""
    folder = path.parent if path.name == "meta.json" else path
    if folder == path and not os.path.isdir(path):  # unlike Path.is_dir() also for a name too long
        return path, False
    files = [folder / name for name in MEASURED_FILES if name != "meta.json"]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        message = "is no measured run: there is no requests.jsonl"
        raise InputError([Problem(file=shown, message=message)])
    return found, True


def _lines(path: Path, file: str) -> list[str]:
    """Return the lines of a text, decompressed if need be, bad bytes as U+FFFD."""
    try:
        raw = path.read_bytes()
        if raw.startswith(_GZIP):
            raw = gzip.decompress(raw)
    except FileNotFoundError:
        raise InputError([missing_file(path, shown=file)]) from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError([Problem(file=file, message="is damaged: cannot decompress")]) from None
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise InputError([Problem(file=file, message=message)]) from None
    text = raw.decode("utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _format_of(lines: Iterable[str], file: str) -> str | None:
    """Return the format whose fields one of the first lines names, None if all are blank."""
    head = list(islice((line for line in lines if line.strip()), _LOOKED_AT))
    for line in head:
        names = set(json_object(line) or (name.strip() for name in csv_cells(line)))
        shared = {key: len(names.intersection(r.fields)) for key, r in READERS.items()}
        best = max(shared, key=shared.__getitem__)
        if shared[best] >= _LEAST_SHARED:
            return best
    if not head:
        return None
    known = "; ".join(f"{key} ({reader.about})" for key, reader in READERS.items())
    message = "is no trace of a known format"
    raise InputError([Problem(file=file, line=1, message=message, expected=known)])


def _unknown_format(file: str, name: str) -> Problem:
    return Problem(
        file=file,
        key="format",
        value=name,
        message="unknown trace format",
        expected=f"one of {', '.join(READERS)}",
        nearest=nearest(name, tuple(READERS)),
    )
