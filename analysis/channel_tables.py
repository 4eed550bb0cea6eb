"""`python -m analysis.channel_tables`: what the bank-level channel says of every memory type.

Makes `hardware_specs/dram/efficiency.csv`: one channel of every device that a chip uses, with the
GPU controller and map, at saturation: streams from random bases, round robin, a granule each. The
value is the mean over a few draws of the bases. `--check` runs nothing and compares every chip's
measured efficiencies with the table (docs/decisions/0027-channel-tables.md).
"""

import csv
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import click
import numpy as np

from analysis.command import run
from sim.hardware.channel_check import channel_checks, efficiencies, from_table
from sim.hardware.dram.channel import simulate
from sim.hardware.dram.devices import nearest_device
from sim.hardware.dram.efficiency import COLUMNS, Access
from sim.hardware.dram.gpu_like import gpu_controller, gpu_map
from sim.hardware.dram.patterns import Pattern, make_stream
from sim.hardware.dram.timing import load_dram
from sim.hardware.spec import ChipSpec, available_chips, load_chip
from sim.resources import chip_dirs

GRANULES: Final = (32, 64, 128, 256, 512, 1024, 4096)
STREAMS: Final = (4, 16, 64, 256)
READ_SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS: Final = (1, 2, 3)
TOTAL_BYTES: Final = 1 << 20

Row = tuple[str, int, int, float, float, float]


def devices() -> list[str]:
    """Return the devices that stand for the memory of some chip."""
    found = set()
    for name in available_chips(chip_dirs()):
        chip = load_chip(name, chip_dirs())
        device = nearest_device(chip.hbm_type, chip.hbm_bytes_per_s // chip.pseudo_channels)
        if device is not None:
            found.add(device.name)
    return sorted(found)


def points(device: str) -> Iterator[Access]:
    """Yield the points of a device's table; granules are at least one access."""
    smallest = load_dram(device).organisation.access_bytes
    for granule in GRANULES:
        if granule >= smallest:
            for streams in STREAMS:
                for share in READ_SHARES:
                    yield Access(granule, streams, share)


def measure(device: str, access: Access, total_bytes: int = TOTAL_BYTES) -> tuple[float, float]:
    """Return share of peak and row hit rate of one point, means over the draws."""
    spec = load_dram(device)
    pattern = Pattern(
        name="streams_rand",
        chunk_bytes=access.granule_bytes,
        n_streams=access.streams,
        read_frac=access.read_share,
        total_bytes=total_bytes,
    )
    results = [
        simulate(
            spec,
            gpu_controller(spec),
            gpu_map(spec.organisation),
            make_stream(pattern, spec, np.random.default_rng(seed)),
        )
        for seed in SEEDS
    ]
    return (
        statistics.fmean(result.bandwidth_fraction for result in results),
        statistics.fmean(result.row_hit_rate for result in results),
    )


def table_rows(device: str) -> list[Row]:
    """Return the rows of one device."""
    rows: list[Row] = []
    for access in points(device):
        efficiency, hits = measure(device, access)
        rows.append((device, *access, round(efficiency, 4), round(hits, 4)))
    return rows


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write the table, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    temporary.replace(path)


def check_text(chips: Sequence[ChipSpec]) -> str:
    """Return a line a chip and use: what its spec states, what the table gives, what is used."""
    lines = [f"{'chip':<30}{'device':<13}{'what':<6}{'spec':>7}{'table':>7}{'error':>8}{'used':>7}"]
    for chip in chips:
        used, taken = efficiencies(chip), from_table(chip)
        for check in channel_checks(chip):
            value = float(getattr(used, check.what))
            residual = "" if check.what in taken else f"  residual {check.residual:.3f}"
            lines.append(
                f"{check.chip:<30}{check.device:<13}{check.what:<6}{check.stated:7.3f}{check.table:7.3f}"
                f"{100 * (check.table / check.stated - 1):+7.1f}%{value:7.3f}{residual}"
            )
    return "\n".join(lines)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    default=Path("hardware_specs/dram/efficiency.csv"), show_default=True,
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--check", is_flag=True, help="Only compare the chips with the table that is there.")
def main(out: Path, jobs: int, check: bool) -> None:
    """Make the tables from which the device's channels are timed."""
    if not check:
        names = devices()
        with ProcessPoolExecutor(jobs) as pool:
            rows = [row for found in pool.map(table_rows, names) for row in found]
        write_table(rows, out)
        click.echo(f"{len(rows)} points of {len(names)} devices in {out}")
    chips = [load_chip(name, chip_dirs()) for name in available_chips(chip_dirs())]
    click.echo(check_text(chips))


if __name__ == "__main__":
    run(main)
