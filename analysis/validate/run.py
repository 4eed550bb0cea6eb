"""Reads the tables, predicts them, writes predictions and scores, prints what was found."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from analysis.validate.case import Row
from analysis.validate.predict import Prediction, Predictor, Progress, predict
from analysis.validate.score import Judged, Score, judge, scores
from analysis.validate.tables import TABLES, Table, read_table
from sim.errors import InputError, Problem, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person asked of `validate`."""

    folder: Path
    gpus: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    predictor: str = Predictor.DES
    json_file: Path | None = None
    out_dir: Path | None = None
    worst: int = 0
    sample: int = 1
    jobs: int | None = None
    memo: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The tables that were found, with their predictions."""

    tables: tuple[Table, ...]
    predictions: tuple[list[Prediction], ...]

    def judged(self) -> list[Judged]:
        """Return every judged row."""
        pairs = zip(self.tables, self.predictions, strict=True)
        return [entry for table, rows in pairs for entry in judge(table, rows)]

    def skipped(self) -> Counter[str]:
        """Return how many rows were not predicted, by reason."""
        return Counter(p.reason for rows in self.predictions for p in rows if p.predicted is None)


def run_validation(options: Options) -> None:
    """Validate as asked and print the result. Raises InputError; then nothing was written."""
    with progress_bar() as report:
        validation, missing = validated(options, report)
    if options.out_dir:
        _write_predictions(validation, options.out_dir)
    judged = validation.judged()
    by_selection = scores(judged)
    if options.json_file:
        _write_json(by_selection, options.json_file)
    for name in missing:
        click.echo(f"{name}.csv is not in {options.folder}: skipped", err=True)
    for reason, count in sorted(validation.skipped().items()):
        click.echo(f"{count} rows not predicted: {reason}", err=True)
    click.echo(table_text(by_selection))
    if options.worst:
        click.echo("\n" + worst_text(judged, options.worst))


def validated(options: Options, progress: Progress) -> tuple[Validation, list[str]]:
    """Return the validation of a folder and the tables that it lacks."""
    wanted = _wanted(options.ops)
    there = [table for table in wanted if (options.folder / f"{table.name}.csv").is_file()]
    if not there:
        names = ", ".join(f"{table.name}.csv" for table in wanted)
        raise InputError([Problem(file=str(options.folder), message=f"holds none of {names}")])
    tables = [(table, _rows(table, options)) for table in there]
    predictions = predict(
        tables,
        predictor=Predictor(options.predictor),
        jobs=options.jobs or os.cpu_count() or 1,
        memo=options.memo,
        progress=progress,
    )
    missing = [table.name for table in wanted if table not in there]
    return Validation(tables=tuple(there), predictions=tuple(predictions)), missing


def _wanted(ops: Sequence[str]) -> list[Table]:
    unknown = [name for name in ops if name not in TABLES]
    if unknown:
        problems = [
            Problem(file="--op", message="is no table", value=name,
                    expected=", ".join(TABLES), nearest=nearest(name, tuple(TABLES)))
            for name in unknown
        ]  # fmt: skip
        raise InputError(problems)
    return [table for name, table in TABLES.items() if not ops or name in ops]


def _rows(table: Table, options: Options) -> list[dict[str, str]]:
    rows = read_table(options.folder / f"{table.name}.csv", table)
    rows = [row for row in rows if not options.gpus or row["gpu"] in options.gpus]
    if options.sample == 1:
        return rows
    place: dict[tuple[str, ...], int] = {}
    for i, row in enumerate(rows):
        place.setdefault(_key(table, row, i), len(place))
    return [r for i, r in enumerate(rows) if place[_key(table, r, i)] % options.sample == 0]


def _key(table: Table, row: Row, index: int) -> tuple[str, ...]:
    return tuple(row.get(column, "") for column in table.key) or (str(index),)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a progress bar on standard error; yield what moves it."""
    columns = (TextColumn("kernels"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report


def _write_predictions(validation: Validation, out_dir: Path) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    for table, predictions in zip(validation.tables, validation.predictions, strict=True):
        if not predictions:
            continue
        path = out_dir / f"{table.name}.csv"
        draft = path.with_suffix(".tmp")
        with draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*predictions[0].row, table.predicted])
            writer.writeheader()
            for p in predictions:
                value = "" if p.predicted is None else f"{p.predicted:.4f}"
                writer.writerow({**p.row, table.predicted: value})
        draft.replace(path)


def _write_json(by_selection: dict[tuple[str, str], Score], path: Path) -> None:
    content = {
        f"{selection} [{gpu}]" if gpu else selection: asdict(found)
        for (selection, gpu), found in by_selection.items()
    }
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def table_text(by_selection: dict[tuple[str, str], Score]) -> str:
    """Return the errors per selection and GPU as a table of 80 columns."""
    lines = [f"{'':42s}{'n':>7s}{'covered':>9s}{'median':>8s}{'p90':>7s}{'bias':>7s}"]
    for (selection, gpu), found in by_selection.items():
        name = f"  {gpu}" if gpu else selection
        lines.append(
            f"{name:42s}{found.n:7d}{100 * found.coverage:8.1f}%"
            f"{_percent(found.median):>8s}{_percent(found.p90):>7s}{_percent(found.bias):>7s}"
        )
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def worst_text(judged: Sequence[Judged], count: int) -> str:
    """Return the `count` rows with the largest error of each selection."""
    lines = []
    for selection in sorted({entry.selection for entry in judged}):
        known = [e for e in judged if e.selection == selection and e.error is not None]
        known.sort(key=lambda entry: -abs(entry.error or 0))
        lines.append(selection)
        lines.extend(_worst_line(entry) for entry in known[:count])
    return "\n".join(lines)


def _worst_line(entry: Judged) -> str:
    hidden = ("time_us", "source", "value", "notes")
    text = " ".join(f"{k}={v}" for k, v in entry.prediction.row.items() if v and k not in hidden)
    predicted = entry.prediction.predicted or 0.0
    return f"  {predicted:.1f} for {entry.measured:.1f} ({_percent(entry.error)}): {text}"
