"""The `run` command: load, simulate, write everything or nothing, print."""

import os
import shutil
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import click

from sim.cli_options import RunOptions
from sim.cli_table import result_text, wrapped
from sim.errors import InputError, Problem
from sim.resources import display
from sim.run import execute
from sim.run.result import Result
from sim.run.timeline import write_timeline
from sim.run.write import write_result
from sim.scenario.load import load_any
from sim.scenario.microscope_scenario import MicroScenario
from sim.scenario.scenario import ReportOptions, Scenario
from sim.scenario.serve_scenario import ServeScenario

REPORT_GROUP: Final = "tokenstall.reports"
RESULT_FILES: Final = ("result.json", "summary.json", "report.html")


def run_scenario(options: RunOptions, *, only: str = "") -> None:
    """Run a scenario, write its results and print them; with `only`, one that has that table.

    Raises InputError; then, as after an interruption, no file has been written or changed.
    """
    scenario = load_any(options.scenario, options.overrides)
    if only and not isinstance(scenario, MicroScenario):
        message, expected = "is no scenario for the microscope", f"a file with [[{only}]]"
        raise InputError([Problem(file=options.scenario, message=message, expected=expected)])
    out_dir = options.out or Path("results") / scenario.name
    check_out_dir(out_dir, force=options.force)
    if isinstance(scenario, ServeScenario):
        from sim.cli_serve import run_serve  # noqa: PLC0415 - needed by few

        run_serve(scenario, out_dir, options)
        return
    if isinstance(scenario, MicroScenario):
        from sim.cli_microscope import run_microscope  # noqa: PLC0415 - needed by few

        run_microscope(scenario, out_dir, options)
        return
    with options.progress("simulating") as report:
        result = execute(scenario, progress=report, jobs=options.processes, memo=options.memo)
    files = write_all(result, out_dir, scenario)
    click.echo(result_text(result))
    where = f"{len(files)} files in {display(out_dir)}: {', '.join(files)}"
    click.echo("\n" + "\n".join(wrapped(where)))


def check_out_dir(out_dir: Path, *, force: bool) -> None:
    """Raise InputError if results in `out_dir` would mix with files that are not results."""
    if out_dir.exists() and not out_dir.is_dir():
        raise InputError([Problem(file=str(out_dir), message="is not a folder")])
    is_foreign = out_dir.is_dir() and any(out_dir.iterdir())
    is_ours = any((out_dir / name).exists() for name in RESULT_FILES)
    if is_foreign and not is_ours and not force:
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
