"""`python -m analysis.l2_sweep CHIP`: what an L2 delivers as a buffer outgrows it.

Two experiments of gpu-benches on the simulated chip. All SMs read a buffer again and again, in one
order: bandwidth against size. One SM follows a chain of pointers through it: latency against size.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from analysis.command import run
from sim.hardware.gpu import Gpu
from sim.hardware.l2_law import MILLION, HitLaw
from sim.hardware.residency import EMPTY_L2, Resident
from sim.hardware.spec import ChipSpec, load_chip
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment
from sim.kernel.operators import Traffic
from sim.resources import chip_dirs
from sim.units import BYTES, PS_PER_NS

COLUMNS: Final = ("chip", "buffer_bytes", "read_gb_per_s", "found_share", "chase_ns")
_MIB: Final = BYTES["MiB"]
_PASSES: Final = 4
_CTAS_PER_SM: Final = 2
_IN_FLIGHT_BYTES: Final = 64 * 1024
_LINE_BYTES: Final = 128
_LINKS: Final = 512
# Sizes over L2 at which one SM finds every line near, far (with two partitions) and in HBM.
_ALL_NEAR, _ALL_FAR, _ALL_OUT = 0.1, 0.75, 3.0
SHARES: Final = (0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One size on one chip: bandwidth of all SMs, what of it L2 held, latency of one SM."""

    chip: str
    buffer_bytes: int
    read_gb_per_s: float
    found_share: float
    chase_ns: float

    def row(self) -> tuple[str, ...]:
        """Return the cells of a CSV row."""
        numbers = (self.read_gb_per_s, self.found_share, self.chase_ns)
        return (self.chip, str(self.buffer_bytes), *(f"{number:.4g}" for number in numbers))


def measure(spec: ChipSpec, buffer_bytes: int) -> Point:
    """Return both experiments on a buffer of one size."""
    rate, found = read_bandwidth(spec, buffer_bytes)
    return Point(
        chip=spec.name,
        buffer_bytes=buffer_bytes,
        read_gb_per_s=rate,
        found_share=found,
        chase_ns=chase_ns(spec, buffer_bytes),
    )


def read_bandwidth(spec: ChipSpec, buffer_bytes: int) -> tuple[float, float]:
    """Return GB/s of all SMs in the last of some passes over a buffer, and the share L2 held.

    The benchmark launches one kernel of many passes; here a pass is a kernel. What an empty one
    takes to start and to end is taken off.
    """
    size = buffer_bytes // (n_ctas := spec.sm_count * _CTAS_PER_SM) * n_ctas
    gpu, kernel = Gpu(spec=spec), _reader(size, n_ctas, buffer_bytes=_IN_FLIGHT_BYTES)
    l2 = EMPTY_L2
    for _ in range(_PASSES):
        run = gpu.run(kernel, l2)
        l2 = run.l2
    idle = gpu.run(_reader(n_ctas, n_ctas, buffer_bytes=_IN_FLIGHT_BYTES), l2)
    return 1e3 * size / (run.time_ps - idle.time_ps), 1 - sum(run.missed_bytes) / size


def chase_ns(spec: ChipSpec, buffer_bytes: int) -> float:
    """Return the mean latency that one SM sees from one line of a buffer to the next, in ns.

    It has passed over all of it before, always in the same order. A line is near, far or in HBM;
    what each costs is measured on the device.
    """
    law = HitLaw(partitions=spec.l2_partitions)
    held = law.held(buffer_bytes, spec.l2_bytes, one_sided=True)
    shares = (held.near, held.far, MILLION - held.total)
    costs = (_link_ns(spec, share) for share in (_ALL_NEAR, _ALL_FAR, _ALL_OUT))
    return sum(share * cost for share, cost in zip(shares, costs, strict=True)) / MILLION


def _link_ns(spec: ChipSpec, share: float) -> float:
    """Return what a link costs in a chain of this share of an L2 made as small as needed."""
    size = _LINKS * _LINE_BYTES
    small = replace(spec, l2_bytes=round(size / share))
    there = Resident(
        name="buffer",
        traffic=Traffic.KV,
        resident_bytes=min(size, small.l2_bytes),
        dirty_bytes=0,
        one_sided=True,
    )
    gpu = Gpu(spec=small, granule_bytes=_LINE_BYTES)
    chain = _reader(size, 1, buffer_bytes=_LINE_BYTES)
    idle = gpu.run(_reader(_LINE_BYTES, 1, buffer_bytes=_LINE_BYTES), (there,))
    return (gpu.run(chain, (there,)).time_ps - idle.time_ps) / (_LINKS - 1) / PS_PER_NS


def _reader(size_bytes: int, n_ctas: int, *, buffer_bytes: int) -> Kernel:
    """Return CTAs that read `size_bytes` between them, `buffer_bytes` of each in flight."""
    load = Load(segment=0, size_bytes=size_bytes // n_ctas)
    segment = Segment(name="buffer", size_bytes=size_bytes, traffic=Traffic.KV)
    return Kernel(
        name="read",
        operator="read",
        part="benchmark",
        kinds=(CtaKind(count=n_ctas, phases=(Phase(loads=(load,)),), buffer_bytes=buffer_bytes),),
        segments=(segment,),
        ctas_per_sm=min(n_ctas, _CTAS_PER_SM),
        flop=0,
    )


def sweep(spec: ChipSpec, shares: Sequence[float] = SHARES) -> Iterator[Point]:
    """Yield the points of a chip, buffers from a tenth of its L2 to three times that."""
    for share in shares:
        yield measure(spec, round(share * spec.l2_bytes))


def table(points: Sequence[Point]) -> Table:
    """Return the points as a table."""
    shown = Table("buffer, MiB", "read, GB/s", "found in L2", "one SM, ns", title=points[0].chip)
    for point in points:
        shown.add_row(
            f"{point.buffer_bytes / _MIB:.1f}",
            f"{point.read_gb_per_s:.0f}",
            f"{point.found_share:.0%}",
            f"{point.chase_ns:.0f}",
        )
    for column in shown.columns:
        column.justify = "right"
    return shown


@click.command()
@click.argument("chips", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), help="Also write a CSV of all points.")
def main(chips: tuple[str, ...], out: Path | None) -> None:
    """Print bandwidth and latency of every chip as a buffer outgrows its L2."""
    console, every = Console(), []
    for name in chips:
        points = list(sweep(load_chip(name, chip_dirs())))
        console.print(table(points))
        every.extend(points)
    if out is not None:
        partial = out.with_name(out.name + ".partial")
        with partial.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *(p.row() for p in every)])
        partial.replace(out)


if __name__ == "__main__":
    run(main)
