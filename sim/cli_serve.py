"""The `run` command of a serving scenario: simulate, write everything or nothing, print."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import click

from sim.cli_options import RunOptions
from sim.cli_serve_table import serve_text, sweep_table
from sim.cli_table import wrapped
from sim.resources import display
from sim.run.serve import ServeResult, execute_serve
from sim.run.serve_timeline import Window
from sim.run.serve_write import ServeFiles, write_results
from sim.run.staging import staged
from sim.scenario.serve_scenario import ServeScenario

SERVE_REPORT_GROUP: Final = "tokenstall.serve_reports"


def run_serve(scenario: ServeScenario, out_dir: Path, options: RunOptions) -> None:
    """Serve the trace of a scenario, write the results into `out_dir` and print them."""
    with options.progress("serving") as report:
        result = execute_serve(scenario, progress=report, jobs=options.processes, memo=options.memo)
    files = write_serve_all(scenario, result, out_dir)
    click.echo(serve_text(result.contestants))
    if result.sweep is not None:
        click.echo("\n" + "\n".join(sweep_table(result.sweep)))
    where = f"{len(files)} files in {display(out_dir)}: {', '.join(files)}"
    click.echo("\n" + "\n".join(wrapped(where)))


def write_serve_all(scenario: ServeScenario, result: ServeResult, out_dir: Path) -> list[str]:
    """Write results and reports into `out_dir`, all or none; return the names of the files."""
    wanted = ServeFiles(
        detailed=scenario.detailed, timeline=Window() if scenario.timeline else None
    )
    with staged(out_dir) as folder:
        paths = write_results(result.contestants, folder, wanted)
        if scenario.report:
            for entry in sorted(entry_points(group=SERVE_REPORT_GROUP), key=lambda e: e.name):
                paths += entry.load()(result.contestants, result.sweep, folder)
        # What was written into a folder stands under the names it will have.
        return sorted({_inside(path, out_dir, folder) for path in paths})


def _inside(path: Path, out_dir: Path, folder: Path) -> str:
    return str(path.relative_to(folder if path.is_relative_to(folder) else out_dir))
