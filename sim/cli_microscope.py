"""The `microscope` command: one DRAM channel up close; write everything or nothing, print."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import click

from sim.cli_microscope_table import microscope_text
from sim.cli_options import RunOptions
from sim.cli_table import wrapped
from sim.resources import display
from sim.run.microscope import execute_microscope
from sim.run.microscope_result import MicroResults
from sim.run.microscope_write import write_microscope
from sim.run.staging import staged
from sim.scenario.microscope_scenario import MicroScenario

MICROSCOPE_REPORT_GROUP: Final = "tokenstall.microscope_reports"


def run_microscope(scenario: MicroScenario, out_dir: Path, options: RunOptions) -> None:
    """Run the points of a microscope scenario, write the results into `out_dir`, print them."""
    with options.progress("looking closely") as report:
        results = execute_microscope(scenario, progress=report, jobs=options.processes)
    files = write_microscope_all(scenario, results, out_dir)
    click.echo(microscope_text(results))
    where = f"{len(files)} files in {display(out_dir)}: {', '.join(files)}"
    click.echo("\n" + "\n".join(wrapped(where)))


def write_microscope_all(
    scenario: MicroScenario, results: MicroResults, out_dir: Path
) -> list[str]:
    """Write results and reports into `out_dir`, all or none; return the names of the files."""
    with staged(out_dir) as folder:
        paths = write_microscope(results, folder)
        if scenario.report:
            for entry in sorted(entry_points(group=MICROSCOPE_REPORT_GROUP), key=lambda e: e.name):
                paths += entry.load()(results, folder)
        return sorted(str(path.relative_to(folder)) for path in paths)
