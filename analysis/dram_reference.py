"""`python -m analysis.dram_reference CURVES.csv --out F`: reference curves against the channel.

CURVES.csv has the columns of `reference_curves.csv` (runs of Ramulator 2.1 and DRAMsim3 on one
channel). Every row is run again with the same device, map, queue, refresh and pattern; its columns
are written with `predicted_fraction`, `predicted_latency_ns` and `cpu_s_per_GB` behind them, and
the errors are printed by experiment and configuration.

Bases and granules are drawn as the reference runs drew them (`analysis.reference_draws`): where
streams start at random, a handful of bases decides how often their banks collide.
"""

import csv
import re
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from analysis.command import run
from analysis.reference_draws import reference_stream
from sim.errors import InputError, Problem
from sim.hardware.dram.address import MAPS, DramMap
from sim.hardware.dram.channel import ChannelResult, simulate
from sim.hardware.dram.controller import DRAMSIM3, RAMULATOR, Controller, RefreshMode
from sim.hardware.dram.patterns import Pattern, PatternName, Stream
from sim.hardware.dram.timing import DramSpec, load_dram

NEW_COLUMNS: Final = ("predicted_fraction", "predicted_latency_ns", "cpu_s_per_GB")
NEEDED_COLUMNS: Final = (
    "experiment",
    "config",
    "mapping",
    "pattern",
    "n_streams",
    "chunk_bytes",
    "read_frac",
    "offered_load",
    "bandwidth_fraction",
    "mean_latency_ns",
)
DEFAULT_MIB: Final = 2.0
SATURATED: Final = 0.04  # an open loop that delivers this much less than offered is saturated

_RAMULATOR: Final = re.compile(
    r"(?P<kind>hbm\de?)_(?P<rate>\d+)d?_(?P<refresh>noref|refab|refpb)(?:_q(?P<queue>\d+))?(?P<rest>_frfcfs)?"
)
_DRAMSIM3: Final = re.compile(
    r"ds3_hbm2_(?P<map>default|bglow)(?P<refresh>_noref|_refpb)?(?:_q(?P<queue>\d+))?(?P<rest>_faw16)?"
)
_REFRESH: Final[dict[str, RefreshMode]] = {
    "noref": "none",
    "refab": "all_bank",
    "refpb": "per_bank",
    "": "all_bank",
}
_READ_QUEUE: Final = {"hbm2": 64, "hbm2e": 64, "hbm3": 128, "hbm3e": 128}
# With 128 requests before them, the queues of the banks are twice as long as else: only so do all
# rows of 16 to 64 streams agree (the configuration is not among the files that came with them).
_DEEPER: Final = 2
# DRAMsim3's address_mapping rorabacobgch and rorabgbachco, least significant first.
_DRAMSIM3_MAPS: Final = {
    "bglow": DramMap(order=("pc", "group", "column", "bank", "stack", "row")),
    "default": DramMap(order=("column", "pc", "bank", "group", "stack", "row")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A row of the file as the channel runs it."""

    spec: DramSpec
    controller: Controller
    address_map: DramMap
    pattern: Pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the channel says to a row: share of peak, mean read latency, CPU seconds per 10^9 B."""

    row: Mapping[str, str]
    fraction: float
    latency_ns: float
    cpu_s_per_gb: float

    @property
    def fraction_error(self) -> float:
        """Return the relative error of the bandwidth."""
        return self.fraction / float(self.row["bandwidth_fraction"]) - 1

    @property
    def latency_error(self) -> float | None:
        """Return the relative error of the mean latency, None without reads or if saturated."""
        latency, load = float(self.row["mean_latency_ns"]), float(self.row["offered_load"])
        reached = float(self.row["bandwidth_fraction"])
        if not latency or not load or reached < load * (1 - SATURATED):
            return None
        return self.latency_ns / latency - 1


def run_of(row: Mapping[str, str]) -> Run:
    """Return what a row asks for. Raises ValueError that names an unknown configuration."""
    config = row["config"]
    mib = re.search(r"\bmb=([0-9.]+)", row.get("command", ""))
    pattern = Pattern(
        name=_pattern_name(row["pattern"]),
        chunk_bytes=int(row["chunk_bytes"]),
        total_bytes=int(float(mib[1] if mib else DEFAULT_MIB) * 2**20),
        n_streams=int(row["n_streams"]),
        read_frac=float(row["read_frac"]),
        offered_load=float(row["offered_load"]),
    )
    if found := _RAMULATOR.fullmatch(config):
        queue = int(found["queue"] or _READ_QUEUE[found["kind"]])
        controller = replace(
            RAMULATOR,
            read_queue=queue,
            refresh=_REFRESH[found["refresh"]],
            hold_hits=not found["rest"],
        )
        spec, address_map = load_dram(f"{found['kind']}-{found['rate']}"), MAPS[row["mapping"]]
    elif found := _DRAMSIM3.fullmatch(config):
        queue = int(found["queue"] or DRAMSIM3.read_queue)
        controller = replace(
            DRAMSIM3,
            read_queue=queue,
            write_queue=queue,
            write_high=queue,
            bank_queue=DRAMSIM3.bank_queue * (_DEEPER if found["queue"] else 1),
            refresh=_REFRESH[(found["refresh"] or "").removeprefix("_")],
        )
        spec = load_dram("dramsim3-hbm2-faw16" if found["rest"] else "dramsim3-hbm2")
        address_map = _DRAMSIM3_MAPS[found["map"]]
    else:
        raise ValueError(f"unknown configuration {config!r}")
    return Run(spec=spec, controller=controller, address_map=address_map, pattern=pattern)


def _pattern_name(text: str) -> PatternName:
    names: tuple[PatternName, ...] = ("seq", "random", "streams_rand", "streams_aligned")
    for name in names:
        if name == text:
            return name
    raise ValueError(f"unknown pattern {text!r}")


def simulate_run(run: Run, *, seed: int, compiled: bool | None = None) -> ChannelResult:
    """Return the result of a run with the references' draws (they used seed 1)."""
    return _simulate(run, reference_stream(run.pattern, run.spec, seed), compiled)


def _simulate(run: Run, stream: Stream, compiled: bool | None) -> ChannelResult:
    return simulate(run.spec, run.controller, run.address_map, stream, compiled=compiled)


def predict(row: Mapping[str, str], *, seed: int = 1, compiled: bool | None = None) -> Prediction:
    """Run a row again; making the stream is not part of the CPU time."""
    run = run_of(row)
    stream = reference_stream(run.pattern, run.spec, seed)
    begin = time.process_time()
    result = _simulate(run, stream, compiled)
    spent = time.process_time() - begin
    latency = result.read_latency_ns()
    return Prediction(
        row=row,
        fraction=result.bandwidth_fraction,
        latency_ns=float(latency.mean()) if len(latency) else 0.0,
        cpu_s_per_gb=spent * 1e9 / run.pattern.total_bytes,
    )


def summary(predictions: Iterable[Prediction]) -> list[str]:
    """Return lines with median and worst errors by experiment and configuration."""
    groups: dict[tuple[str, str], list[Prediction]] = {}
    for prediction in predictions:
        key = (prediction.row["experiment"], prediction.row["config"])
        groups.setdefault(key, []).append(prediction)
    head = f"{'experiment':<11}{'config':<26}{'rows':>5}{'fraction':>17}{'latency':>17}{'s/GB':>7}"
    lines = [head, f"{'':<42}{'median   worst':>17}{'median   worst':>17}"]
    for (experiment, config), group in groups.items():
        latency = [e for p in group if (e := p.latency_error) is not None]
        lines.append(
            f"{experiment:<11}{config:<26}{len(group):>5}"
            f"{_spread([p.fraction_error for p in group]):>17}{_spread(latency):>17}"
            f"{statistics.median(p.cpu_s_per_gb for p in group):>7.2f}"
        )
    return lines


def _spread(errors: Sequence[float]) -> str:
    if not errors:
        return "-"
    worst = max(errors, key=abs)
    return f"{statistics.median(abs(e) for e in errors):7.1%} {worst:+7.1%}"


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a curves file. Raises InputError if it lacks a column."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    missing = [name for name in NEEDED_COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError([Problem(file=str(path), message=f"lacks column {missing[0]!r}")])
    return rows


def check_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Raise InputError with every row that asks for what is not known, or has no number."""
    problems = []
    for number, row in enumerate(rows, start=2):
        try:
            run_of(row)
            float(row["bandwidth_fraction"]), float(row["mean_latency_ns"])
        except KeyError as error:
            unknown = Problem(file=str(path), line=number, message=f"knows no map {error}")
            problems.append(unknown)
        except ValueError as error:
            problems.append(Problem(file=str(path), line=number, message=str(error)))
    if problems:
        raise InputError(problems)


def write_rows(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write the rows with the new columns behind theirs."""
    names = [*predictions[0].row, *NEW_COLUMNS] if predictions else list(NEW_COLUMNS)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        for p in predictions:
            values = (f"{p.fraction:.4f}", f"{p.latency_ns:.1f}", f"{p.cpu_s_per_gb:.2f}")
            writer.writerow({**p.row, **dict(zip(NEW_COLUMNS, values, strict=True))})


@click.command()
@click.argument("curves", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(curves: Path, out: Path, seed: int) -> None:
    """Run every row of CURVES again, write them with predictions, print the errors."""
    rows = read_rows(curves)
    check_rows(curves, rows)
    if rows:
        predict(rows[0], seed=seed)  # compiles, so that no row is charged for it
    predictions = [predict(row, seed=seed) for row in rows]
    write_rows(out, predictions)
    for line in summary(predictions):
        click.echo(line)


if __name__ == "__main__":
    run(main)
