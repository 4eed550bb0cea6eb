"""`python -m analysis.l2_hits`: which share of a repeated sweep an L2 still holds.

Makes `hardware_specs/l2/hits.csv` by playing single sets line by line. A buffer is read again and
again in one order; `ratio` is its size over the capacity of L2. Sets hold `WAYS` lines and drop the
one that was used longest ago; a hash of addresses spreads lines over sets, not quite evenly.

`one`: one partition, or data that one partition reads. `near` and `far`: two partitions that cache
for the SMs beside them. Each pass reads a line from either side at random (which SM a CTA runs on
is chance); a line that the other side holds is copied from there, so what both sides use is there
twice. docs/decisions/0029-l2-partitions.md compares both with measured chips. `--check` makes the
table anew and compares.
"""

import csv
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import click

from analysis.command import run

COLUMNS: Final = ("ratio", "one", "near", "far")
WAYS: Final = 16
# How far the lines of a set are from their mean, as a share: as wide as the edge of the L40, whose
# L2 is one partition (gpu-benches gpu-l2-cache/l40.txt: 5.2 TB/s at .93, .88 at 1.23 of it).
SPREAD: Final = 0.06
RATIOS: Final = tuple(round(0.4 + 0.02 * i, 2) for i in range(71))
DRAWS: Final = 200
_SETTLING, _PASSES = 12, 24

SetsPass = Callable[[int, random.Random], "Found"]


class Found(NamedTuple):
    """How many accesses found their line on their side, on the other side, and all there were."""

    near: int
    far: int
    accesses: int


class LruSet:
    """The lines of one set, the one used longest ago first."""

    def __init__(self, ways: int = WAYS) -> None:
        self._ways = ways
        self._lines: list[int] = []

    def use(self, line: int) -> bool:
        """Touch a line if it is there; return whether it is."""
        if line not in self._lines:
            return False
        self._lines.remove(line)
        self._lines.append(line)
        return True

    def fill(self, line: int) -> None:
        """Take a line in; the one that was used longest ago makes room."""
        if len(self._lines) == self._ways:
            del self._lines[0]
        self._lines.append(line)


def sweep_one(lines: int, _draws: random.Random) -> Found:
    """Sweep over lines that fall into one set of one partition."""
    near, own = 0, LruSet()
    for step in range(_SETTLING + _PASSES):
        for line in range(lines):
            if own.use(line):
                near += step >= _SETTLING
            else:
                own.fill(line)
    return Found(near, 0, lines * _PASSES)


def sweep_two(lines: int, draws: random.Random) -> Found:
    """Sweep over lines that fall into one set of each of two partitions, from sides at random."""
    sides = (LruSet(), LruSet())
    near = far = 0
    for step in range(_SETTLING + _PASSES):
        counts = step >= _SETTLING
        for line in range(lines):
            side = draws.getrandbits(1)
            if sides[side].use(line):
                near += counts
                continue
            found = sides[1 - side].use(line)
            far += found and counts
            sides[side].fill(line)
    return Found(near, far, lines * _PASSES)


def shares(ratio: float) -> tuple[float, float, float]:
    """Return the columns `one`, `near` and `far` of a ratio."""
    one = _mean(sweep_one, ratio * WAYS, ratio)
    two = _mean(sweep_two, ratio * 2 * WAYS, ratio)
    return one[0], *two


def _mean(sweep: SetsPass, lines: float, seed: float) -> tuple[float, float]:
    draws = random.Random(f"{seed}")
    found = [sweep(max(1, round(draws.gauss(lines, SPREAD * lines))), draws) for _ in range(DRAWS)]
    total = sum(f.accesses for f in found)
    return sum(f.near for f in found) / total, sum(f.far for f in found) / total


def table() -> list[tuple[str, ...]]:
    """Return the rows of the table."""
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(shares, RATIOS))
    return [(f"{r:.2f}", *(f"{x:.3f}" for x in row)) for r, row in zip(RATIOS, found, strict=True)]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="hardware_specs/l2/hits.csv")
@click.option("--check", is_flag=True, help="Compare with the file instead of writing it.")
def main(out: Path, check: bool) -> None:
    """Make the table of L2 hits, or check that it is what this would make."""
    rows = [COLUMNS, *table()]
    if check:
        with out.open(newline="") as file:
            same = [tuple(row) for row in csv.reader(file)] == rows
        click.echo(f"{out}: {'as made here' if same else 'differs'}")
        raise SystemExit(not same)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    partial.replace(out)
    click.echo(f"{out}: {len(rows) - 1} ratios")


if __name__ == "__main__":
    run(main)
