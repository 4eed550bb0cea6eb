"""Predicts every row of measured tables: distinct cases once, on several cores, remembered."""

import gc
import hashlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

from analysis.validate.case import Case, Row, UnpredictableError
from analysis.validate.chips import chip_named
from analysis.validate.tables import Table
from sim.hardware.spec import ChipSpec
from sim.run.memo import Entry, Memo, default_path, key_of
from sim.run.memo import write as write_memo

# Cases that a worker takes at once: few enough for a smooth progress bar.
_CHUNK: Final = 24
# Objects that a worker makes before it looks for garbage: it makes many that die at once.
_GARBAGE: Final = 50_000
Progress = Callable[[int, int], None]
# A predicted value, or the reason why there is none.
Value = float | str


class Predictor(StrEnum):
    """Who predicts: the device simulation, or a roofline for contrast."""

    DES = "des"
    ROOFLINE = "roofline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A measured row and what was predicted for it: a value, or the reason why there is none."""

    row: Row
    predicted: float | None
    reason: str = ""


_Task = tuple[int, ChipSpec, tuple[Case, ...], Predictor, Path | None]


def predict(
    tables: Sequence[tuple[Table, Sequence[Row]]],
    *,
    predictor: Predictor = Predictor.DES,
    jobs: int = 1,
    memo: bool = True,
    progress: Progress | None = None,
) -> list[list[Prediction]]:
    """Return the predictions of every table, row by row.

    Rows that timed the same thing on the same chip are simulated once. `progress` is called with
    (cases done, cases in all). The result depends on neither `jobs` nor `memo`.
    """
    planned = [[_plan(table, row) for row in rows] for table, rows in tables]
    distinct = {plan for plans in planned for plan in plans if isinstance(plan, Plan)}
    values = simulate(distinct, predictor, jobs=jobs, memo=memo, progress=progress)
    return [
        [
            Prediction(row=row, predicted=None, reason=plan)
            if isinstance(plan, str)
            else _prediction(row, values[plan])
            for row, plan in zip(rows, plans, strict=True)
        ]
        for (_, rows), plans in zip(tables, planned, strict=True)
    ]


def _prediction(row: Row, value: Value) -> Prediction:
    if isinstance(value, str):
        return Prediction(row=row, predicted=None, reason=value)
    return Prediction(row=row, predicted=value)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to simulate: a case on a chip; `text` tells cases apart, worked out once."""

    chip: ChipSpec
    case: Case
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Write the case down: hashing its many parts again and again takes longer."""
        object.__setattr__(self, "text", repr(self.case))

    def __hash__(self) -> int:
        """Return the hash of the case."""
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same case on the same chip."""
        if not isinstance(other, Plan):
            return NotImplemented
        return self.text == other.text and self.chip == other.chip


def _plan(table: Table, row: Row) -> Plan | str:
    chip = chip_named(row["gpu"])
    if chip is None:
        return f"no chip {row['gpu']}"
    try:
        return Plan(chip, table.case(row))
    except UnpredictableError as error:
        return str(error)


def simulate(
    distinct: Iterable[Plan],
    predictor: Predictor = Predictor.DES,
    *,
    jobs: int = 1,
    memo: bool = False,
    progress: Progress | None = None,
) -> dict[Plan, Value]:
    """Return the predicted value of every plan, or why there is none; plans must differ."""
    by_chip: dict[ChipSpec, list[Plan]] = {}
    for plan in sorted(distinct, key=lambda plan: (plan.chip.name, plan.text)):
        by_chip.setdefault(plan.chip, []).append(plan)
    path = default_path() if memo and predictor is Predictor.DES else None
    chunks = [
        plans[start : start + _CHUNK]
        for plans in by_chip.values()
        for start in range(0, len(plans), _CHUNK)
    ]
    tasks: list[_Task] = [
        (i, chunk[0].chip, tuple(plan.case for plan in chunk), predictor, path)
        for i, chunk in enumerate(chunks)
    ]
    total = sum(map(len, chunks))
    values: dict[Plan, Value] = {}
    added: list[Entry] = []
    for index, found, entries in _map(tasks, jobs):
        values.update(zip(chunks[index], found, strict=True))
        added.extend(entries)
        if progress is not None:
            progress(len(values), total)
    if path:
        write_memo(path, added)
    return values


_Done = tuple[int, list[Value], list[Entry]]


def _map(tasks: list[_Task], jobs: int) -> Iterable[_Done]:
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(_run, tasks)
        return
    # The many tasks are nothing that a worker's garbage collector should look through.
    gc.freeze()
    try:
        with multiprocessing.Pool(jobs, initializer=_start) as pool:
            yield from pool.imap_unordered(_run, tasks)
    finally:
        gc.unfreeze()


def _start() -> None:
    # Ctrl-C is for the parent: it ends the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(_GARBAGE, 20, 100)


def _run(task: _Task) -> _Done:
    """Predict the cases of a task; only their values go to the memo on disk, not every kernel."""
    index, chip, cases, predictor, path = task
    kernels = Memo(None)
    with closing(Memo(path)) as memo:
        found: list[Value] = []
        for case in cases:
            key = key_of("validate", _source(), predictor, chip.fingerprint(), case)
            known = memo.get(key)
            if not isinstance(known, float):
                known = _predicted(case, chip, predictor, kernels)
                memo.put(key, known)
            found.append(known)
        return index, found, memo.take_added()


@cache
def _source() -> str:
    """Return a hash of the code that makes cases of rows, which a memo's key does not hold."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _predicted(case: Case, chip: ChipSpec, predictor: Predictor, kernels: Memo) -> Value:
    try:
        if predictor is Predictor.ROOFLINE:
            return case.roofline(chip)
        return case.predicted(chip, kernels)
    except UnpredictableError as error:
        return str(error)
