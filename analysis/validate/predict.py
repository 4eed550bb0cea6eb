"""Predicts every row of measured tables: distinct cases once, on several cores, remembered."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from analysis.validate.case import Case, Row, UnpredictableError
from analysis.validate.tables import Table
from sim.errors import InputError
from sim.hardware.spec import ChipSpec, load_chip
from sim.resources import chip_dirs
from sim.run.memo import Entry, Memo, default_path, key_of
from sim.run.memo import write as write_memo

# Cases that a worker takes at once: few enough for a smooth progress bar.
_CHUNK: Final = 24
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


_Task = tuple[ChipSpec, tuple[Case, ...], Predictor, Path | None]


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
    chips = _Chips()
    planned = [[_plan(table, row, chips) for row in rows] for table, rows in tables]
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate: a case on a chip."""

    chip: ChipSpec
    case: Case


class _Chips:
    """Chips by the GPU names of the tables, each looked up once."""

    def __init__(self) -> None:
        self._known: dict[str, ChipSpec | None] = {}
        self._dirs = chip_dirs()

    def get(self, name: str) -> ChipSpec | None:
        if name not in self._known:
            try:
                self._known[name] = load_chip(name, self._dirs)
            except InputError:
                self._known[name] = None
        return self._known[name]


def _plan(table: Table, row: Row, chips: _Chips) -> Plan | str:
    chip = chips.get(row["gpu"])
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
    by_chip: dict[ChipSpec, list[Case]] = {}
    for plan in sorted(distinct, key=repr):
        by_chip.setdefault(plan.chip, []).append(plan.case)
    path = default_path() if memo and predictor is Predictor.DES else None
    tasks: list[_Task] = [
        (chip, tuple(cases[start : start + _CHUNK]), predictor, path)
        for chip, cases in by_chip.items()
        for start in range(0, len(cases), _CHUNK)
    ]
    total = sum(len(task[1]) for task in tasks)
    values: dict[Plan, Value] = {}
    added: list[Entry] = []
    for task, found, entries in _map(tasks, jobs):
        values.update((Plan(task[0], case), v) for case, v in zip(task[1], found, strict=True))
        added.extend(entries)
        if progress is not None:
            progress(len(values), total)
    if path:
        write_memo(path, added)
    return values


_Done = tuple[_Task, list[Value], list[Entry]]


def _map(tasks: list[_Task], jobs: int) -> Iterable[_Done]:
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(_run, tasks)
        return
    # Ctrl-C is for the parent: it ends the pool.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.Pool(jobs, initializer=signal.signal, initargs=ignore) as pool:
        yield from pool.imap_unordered(_run, tasks)


def _run(task: _Task) -> _Done:
    """Predict the cases of a task; only their values go to the memo on disk, not every kernel."""
    chip, cases, predictor, path = task
    kernels = Memo(None)
    with closing(Memo(path)) as memo:
        found: list[Value] = []
        for case in cases:
            key = key_of("validate", predictor, chip.fingerprint(), case)
            known = memo.get(key)
            if not isinstance(known, float):
                known = _predicted(case, chip, predictor, kernels)
                memo.put(key, known)
            found.append(known)
        return task, found, memo.take_added()


def _predicted(case: Case, chip: ChipSpec, predictor: Predictor, kernels: Memo) -> Value:
    try:
        if predictor is Predictor.ROOFLINE:
            return case.roofline(chip)
        return case.predicted(chip, kernels)
    except UnpredictableError as error:
        return str(error)
