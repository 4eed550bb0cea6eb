"""Writes a Result as JSON and CSV, and reads the JSON back.

Two equal results give the same bytes: keys are sorted, floats are written by `repr`, and nothing
that depends on the wall clock or the machine is stored. A file appears under its name only when
it is whole.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast, get_args, get_origin, get_type_hints

from sim.errors import InputError, InvariantError, Problem
from sim.measure.causes import CAUSES
from sim.run.result import SCHEMA_VERSION, MemoryNeed, PointResult, Result

Cell = str | int | float | bool

POINT_COLUMNS: Final = (
    "contestant", "batch", "context", "fits", "step_ps", "tokens_per_s", "mbu", "mfu", "bound",
    "roofline_ps", "needs_bytes", "capacity_bytes", "weights_bytes", "kv_bytes", "state_bytes",
    "activations_bytes", "flop", "hbm_bytes", "channel_imbalance", "note",
)  # fmt: skip
LEDGER_COLUMNS: Final = ("contestant", "batch", "context", "step_ps", *(f"{c}_ps" for c in CAUSES))
TRAFFIC_COLUMNS: Final = (
    "contestant", "batch", "context", "traffic", "level", "direction", "size_bytes",
)  # fmt: skip
OPERATOR_COLUMNS: Final = (
    "contestant", "batch", "context", "part", "operator", "kernel", "runs", "time_ps", "flop",
    "hbm_bytes", "l2_bytes", "channel_imbalance", "bound",
)  # fmt: skip


def write_result(result: Result, out_dir: Path) -> list[Path]:
    """Write `result.json` and its tables into `out_dir` (made if missing); return their paths.

    Everything is checked and rendered before the first file is touched. Raises InvariantError if
    a ledger does not sum to its step, InputError if the folder cannot be written.
    """
    for point in result.points:
        check_ledger(point)
    texts = {
        "points.csv": csv_text(POINT_COLUMNS, map(_point_cells, result.points)),
        "ledger.csv": csv_text(LEDGER_COLUMNS, _ledger_rows(result.points)),
        "traffic.csv": csv_text(TRAFFIC_COLUMNS, _traffic_rows(result.points)),
        "operators.csv": csv_text(OPERATOR_COLUMNS, _operator_rows(result.points)),
        "result.json": _json(result),
    }
    dram_causes = sorted({cause for point in result.points for cause in point.dram_ps})
    if dram_causes:
        columns = ("contestant", "batch", "context", *(f"{cause}_ps" for cause in dram_causes))
        texts["dram.csv"] = csv_text(columns, _dram_rows(result.points, dram_causes))
    return [write_whole(out_dir / name, text.encode()) for name, text in texts.items()]


def write_whole(path: Path, data: bytes) -> Path:
    """Put `data` at `path` so that nobody ever sees half of it, and return `path`.

    On failure the old file, if there was one, is untouched. Raises InputError if the place
    cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        raise InputError([Problem(file=str(path), message=message)]) from error
    finally:
        _discard(temporary)
    return path


def read_result(path: Path) -> Result:
    """Return the Result that `write_result` wrote to `path`.

    Raises InputError with every problem if the file is unreadable, not a result of this program,
    or of another schema version.
    """
    data = _load(path)
    version = data.get("schema_version")
    if version is None:
        raise _not_ours(path, "is not a tokenstall result: it has no schema_version")
    if version != SCHEMA_VERSION:
        problem = Problem(
            file=str(path),
            key="schema_version",
            value=repr(version),
            message="this result was written by another version of tokenstall; run it again",
            expected=str(SCHEMA_VERSION),
        )
        raise InputError([problem])
    decoder = _Decoder(str(path))
    result = decoder.value(Result, data, "")
    if decoder.problems:
        raise InputError(decoder.problems)
    return cast(Result, result)


def check_ledger(point: PointResult) -> None:
    """Raise InvariantError unless the ledger of `point` has known causes and sums to its step."""
    where = f"{point.contestant}, batch {point.batch}, context {point.context}"
    unknown = sorted(set(point.ledger_ps) - set(CAUSES))
    if unknown:
        raise InvariantError(f"{where}: unknown causes in the ledger: {', '.join(unknown)}")
    total_ps = sum(point.ledger_ps.values())
    if total_ps != point.step_ps:
        raise InvariantError(
            f"{where}: the ledger sums to {total_ps} ps but the step takes {point.step_ps} ps"
        )


def does_not_fit_note(memory: MemoryNeed) -> str:
    """Return what a point lacks, in GB, or an empty text if it fits.

    >>> does_not_fit_note(MemoryNeed(weights_bytes=61_100_000_000, kv_bytes=32_000_000_000,
    ...     state_bytes=0, activations_bytes=0, capacity_bytes=80_000_000_000))
    'does not fit: needs 93.1 GB of 80.0 GB: weights 61.1, KV 32.0'
    """
    if memory.fits:
        return ""
    needs = {
        "weights": memory.weights_bytes,
        "KV": memory.kv_bytes,
        "state": memory.state_bytes,
        "activations": memory.activations_bytes,
    }
    parts = ", ".join(f"{k} {v / 1e9:.1f}" for k, v in needs.items() if round(v / 1e9, 1))
    return (
        f"does not fit: needs {memory.total_bytes / 1e9:.1f} GB "
        f"of {memory.capacity_bytes / 1e9:.1f} GB: {parts}"
    )


def hbm_bytes(point: PointResult) -> int:
    """Return the bytes that the step of `point` moves over the HBM, both directions."""
    return sum(row.size_bytes for row in point.traffic if row.level == "hbm")


def _discard(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return


def _point_cells(point: PointResult) -> tuple[Cell, ...]:
    memory = point.memory
    ran: tuple[Cell, ...] = (point.step_ps, point.tokens_per_s, point.mbu, point.mfu, point.bound)
    return (
        point.contestant, point.batch, point.context, str(point.fits).lower(),
        *_if(point.fits, (*ran, point.roofline_ps)),
        memory.total_bytes, memory.capacity_bytes, memory.weights_bytes, memory.kv_bytes,
        memory.state_bytes, memory.activations_bytes,
        *_if(point.fits, (point.flop, hbm_bytes(point), point.channel_imbalance)),
        does_not_fit_note(memory),
    )  # fmt: skip


def _if(present: bool, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    return cells if present else ("",) * len(cells)


def _ledger_rows(points: Iterable[PointResult]) -> Iterable[tuple[Cell, ...]]:
    for p in points:
        if p.fits:
            causes = (p.ledger_ps.get(cause, 0) for cause in CAUSES)
            yield (p.contestant, p.batch, p.context, p.step_ps, *causes)


def _dram_rows(points: Iterable[PointResult], causes: list[str]) -> Iterable[tuple[Cell, ...]]:
    for p in points:
        if p.fits:
            sizes = (p.dram_ps.get(cause, 0) for cause in causes)
            yield (p.contestant, p.batch, p.context, *sizes)


def _traffic_rows(points: Iterable[PointResult]) -> Iterable[tuple[Cell, ...]]:
    for p in points:
        for t in p.traffic:
            yield (p.contestant, p.batch, p.context, t.traffic, t.level, t.direction, t.size_bytes)


def _operator_rows(points: Iterable[PointResult]) -> Iterable[tuple[Cell, ...]]:
    for p in points:
        for o in p.operators:
            yield (
                p.contestant, p.batch, p.context, o.part, o.operator, o.kernel, o.runs, o.time_ps,
                o.flop, o.hbm_bytes, o.l2_bytes, o.channel_imbalance, o.bound,
            )  # fmt: skip


def csv_text(columns: tuple[str, ...], rows: Iterable[tuple[Cell, ...]]) -> str:
    """Return a table as CSV with a head of columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _json(result: Result) -> str:
    lines = [
        f"{json.dumps(key)}: {_member(value)}" for key, value in sorted(asdict(result).items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _member(value: object) -> str:
    """Return one member of the top level; records of a list get a line each, to diff well."""
    if isinstance(value, tuple) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(map(_dump, value)) + "\n]"
    return _dump(value)


def _dump(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _load(path: Path) -> dict[str, object]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _not_ours(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _not_ours(path, f"is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise _not_ours(path, "is not a tokenstall result: the top level is no object")
    return data


def _not_ours(path: Path, message: str) -> InputError:
    expected = "a result.json written by tokenstall"
    return InputError([Problem(file=str(path), message=message, expected=expected)])


@cache
def _hints(kind: type) -> MappingProxyType[str, object]:
    return MappingProxyType({f.name: get_type_hints(kind)[f.name] for f in fields(kind)})


class _Decoder:
    """Builds the records of `sim.run.result` from JSON values, collecting every problem."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def value(self, kind: object, data: object, key: str) -> object:
        """Return `data` as `kind`, or None after noting a problem at `key`."""
        origin = get_origin(kind)
        if origin is tuple and isinstance(data, list):
            item = get_args(kind)[0]
            return tuple(self.value(item, d, f"{key}[{i}]") for i, d in enumerate(data))
        if origin is dict and isinstance(data, dict):
            item = get_args(kind)[1]
            return {k: self.value(item, d, f"{key}.{k}") for k, d in data.items()}
        if isinstance(kind, type) and is_dataclass(kind) and isinstance(data, dict):
            return self._record(kind, data, key)
        if isinstance(kind, type) and type(data) is kind:
            return data
        if kind is float and type(data) is int:
            return float(data)
        self._note(key, data, f"expected {_name(kind)}")
        return None

    def _record(self, kind: type, data: dict[str, object], key: str) -> object:
        prefix = f"{key}." if key else ""
        hints = _hints(kind)
        if data.keys() == hints.keys():
            make = cast(Callable[..., object], kind)
            return make(**{n: self.value(h, data[n], prefix + n) for n, h in hints.items()})
        for name in sorted(hints.keys() - data.keys()):
            self._note(prefix + name, None, "is missing")
        for name in sorted(data.keys() - hints.keys()):
            self._note(prefix + name, None, "is not a key of a result")
        return None

    def _note(self, key: str, data: object, message: str) -> None:
        shown = None if data is None else json.dumps(data)[:60]
        self.problems.append(Problem(file=self.file, key=key, value=shown, message=message))


def _name(kind: object) -> str:
    if get_origin(kind) is tuple:
        return "a list"
    if get_origin(kind) is dict or is_dataclass(kind):
        return "an object"
    return {int: "an integer", float: "a number", str: "a text"}.get(cast(type, kind), str(kind))
