"""The `run` command: load, simulate, write everything or nothing, print."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sim.cli_table import result_text, wrapped
from sim.errors import InputError, Problem
from sim.resources import display
from sim.run import execute
from sim.run.result import Result
from sim.run.timeline import write_timeline
from sim.run.write import write_result
from sim.scenario.load import load_scenario
from sim.scenario.scenario import ReportOptions, Scenario

REPORT_GROUP: Final = "tokenstall.reports"
RESULT_FILE: Final = "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a person asked of `run`."""

    scenario: str
    out: Path | None
    overrides: tuple[str, ...]
    jobs: int | None
    memo: bool
    force: bool


def run_scenario(options: RunOptions) -> None:
    """Run a scenario, write its results and print them.

    Raises InputError; then, as after an interruption, no file has been written or changed.
    """
    scenario = load_scenario(options.scenario, options.overrides)
    out_dir = options.out or Path("results") / scenario.name
    check_out_dir(out_dir, force=options.force)
    with _progress() as report:
        result = execute(
            scenario,
            progress=report,
            jobs=options.jobs or os.cpu_count() or 1,
            memo=options.memo,
        )
    files = write_all(result, out_dir, scenario)
    click.echo(result_text(result))
    where = f"{len(files)} files in {display(out_dir)}: {', '.join(files)}"
    click.echo("\n" + "\n".join(wrapped(where)))


def check_out_dir(out_dir: Path, *, force: bool) -> None:
    """Raise InputError if results in `out_dir` would mix with files that are not results."""
    if out_dir.exists() and not out_dir.is_dir():
        raise InputError([Problem(file=str(out_dir), message="is not a folder")])
    is_foreign = out_dir.is_dir() and any(out_dir.iterdir())
    if is_foreign and not (out_dir / RESULT_FILE).exists() and not force:
        message = "holds files that are not results"
        expected = "an empty folder, an earlier result, or --force"
        raise InputError([Problem(file=str(out_dir), message=message, expected=expected)])


def write_all(result: Result, out_dir: Path, scenario: Scenario) -> list[str]:
    """Write result and reports into `out_dir`; return the names of the files.

    Everything is made in a folder beside it and moved when it is whole.
    """
    staging = out_dir.parent / f".{out_dir.name}.{os.getpid()}.tmp"
    try:
        write_result(result, staging)
        for writer in report_writers(scenario.report):
            writer(result, staging)
        if scenario.report.timeline:
            write_timeline(scenario, result, staging)
        return _published(staging, out_dir)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def report_writers(wanted: ReportOptions) -> list[Callable[[Result, Path], list[Path]]]:
    """Return the installed report writers, but those that the scenario switched off by name."""
    entries = sorted(entry_points(group=REPORT_GROUP), key=lambda entry: entry.name)
    return [entry.load() for entry in entries if getattr(wanted, entry.name, True)]


def _published(staging: Path, out_dir: Path) -> list[str]:
    names = sorted(str(path.relative_to(staging)) for path in staging.rglob("*") if path.is_file())
    for name in names:
        target = out_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(target)
    return names


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr; yield a function of points done and points in all."""
    console = Console(stderr=True)
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("points", total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report
