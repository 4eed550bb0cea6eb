"""CPU seconds per simulated GB (10^9 bytes) of the bank-level channel, compiled and plain.

Ramulator 2.1 takes 100-170 s/GB for HBM2 (sequential to random) and 305-560 for HBM3 on the same
work, DRAMsim3 32 to 145. Times are of the whole run, requests and results included; compilation is
not.
"""

import time

import numpy as np

from sim.hardware.dram.address import MAPS
from sim.hardware.dram.channel import simulate
from sim.hardware.dram.compiled import available
from sim.hardware.dram.controller import RAMULATOR, Controller
from sim.hardware.dram.patterns import Pattern, make_stream
from sim.hardware.dram.timing import DramSpec, load_dram

CASES = (
    ("hbm2-2000", 64, Pattern(name="seq", chunk_bytes=128, total_bytes=8 << 20)),
    ("hbm2-2000", 64, Pattern(name="random", chunk_bytes=64, total_bytes=8 << 20)),
    ("hbm3-6400", 128, Pattern(name="seq", chunk_bytes=128, total_bytes=8 << 20)),
    ("hbm3-6400", 128, Pattern(name="random", chunk_bytes=64, total_bytes=8 << 20)),
)
PLAIN_SHARE = 32  # the interpreted path runs this part of the bytes
REPEATS = 3


def seconds_per_gb(
    spec: DramSpec, controller: Controller, pattern: Pattern, *, compiled: bool
) -> float:
    """Return the least CPU time of a few runs per 10^9 bytes."""
    best = float("inf")
    for _ in range(REPEATS if compiled else 1):
        begin = time.process_time()
        stream = make_stream(pattern, spec, np.random.default_rng(1))
        simulate(spec, controller, MAPS["bglow_x"], stream, compiled=compiled)
        best = min(best, time.process_time() - begin)
    return best * 1e9 / pattern.total_bytes


def main() -> None:
    """Print one line a case."""
    print(f"{'device':<12}{'pattern':<9}{'chunk':>6}{'numba s/GB':>12}{'plain s/GB':>12}")
    warm = False
    for device, entries, pattern in CASES:
        spec, controller = load_dram(device), Controller(read_queue=entries)
        short = Pattern(
            name=pattern.name,
            chunk_bytes=pattern.chunk_bytes,
            total_bytes=pattern.total_bytes // PLAIN_SHARE,
        )
        if available() and not warm:
            seconds_per_gb(spec, RAMULATOR, short, compiled=True)
            warm = True
        fast = "-"
        if available():
            fast = f"{seconds_per_gb(spec, controller, pattern, compiled=True):.1f}"
        plain = seconds_per_gb(spec, controller, short, compiled=False)
        print(f"{device:<12}{pattern.name:<9}{pattern.chunk_bytes:>6}{fast:>12}{plain:>12.0f}")


if __name__ == "__main__":
    main()
