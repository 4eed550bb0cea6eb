"""Times the device simulation on the main scenario: events and ms per kernel, points per second."""

import statistics
import time
from dataclasses import dataclass, field

from analysis.validate.case import BENCHMARK_ENGINE, activation
from analysis.validate.rows.gemm import gemm
from sim.hardware.gpu import Gpu, KernelRun
from sim.hardware.residency import L2State
from sim.hardware.spec import ChipSpec
from sim.kernel.formats import BF16
from sim.kernel.kernel import Kernel
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.point import PointRunner, build_device
from sim.scenario.load import load_scenario

BATCHES = (1, 16, 128)
CONTEXTS = (512, 4096)


@dataclass(slots=True, kw_only=True)
class TimedDevice(Device):
    """A device that notes how long each simulated kernel took."""

    noted: list[tuple[str, float, int]] = field(default_factory=list)

    def simulate(self, kernel: Kernel, l2: L2State) -> KernelRun:
        """Simulate a kernel and note its time."""
        start = time.perf_counter()
        run = Device.simulate(self, kernel, l2)
        name = kernel.name.split("_")[0]
        self.noted.append((name, 1e3 * (time.perf_counter() - start), run.events))
        return run


def main() -> None:
    """Print the table of `make bench`."""
    scenario = load_scenario("moe_vs_dense")
    plain = build_device(scenario, Memo(None))
    device = TimedDevice(gpu=plain.gpu, engine=plain.engine, memo=plain.memo)
    start = time.perf_counter()
    points = tokens = 0
    for contestant in scenario.contestants:
        for batch in BATCHES:
            runner = PointRunner(scenario=scenario, contestant=contestant, device=device)
            for context in CONTEXTS:
                points += 1
                tokens += batch * runner.run(batch, context).fits
    seconds = time.perf_counter() - start
    print(f"{scenario.name}, {points} points, one process, no memo on disk, symmetry on")
    print(f"{'kernel':24}{'runs':>7}{'events':>9}{'ms median':>11}{'ms p90':>9}")
    for name in sorted({n for n, _, _ in device.noted}):
        _print_row(name, [(ms, events) for n, ms, events in device.noted if n == name])
    _print_row("all kernels", [(ms, events) for _, ms, events in device.noted])
    print(f"{points / seconds:.1f} points per second, {seconds:.1f} s in all")
    _symmetry(scenario.hardware)


def _print_row(name: str, rows: list[tuple[float, int]]) -> None:
    times = sorted(ms for ms, _ in rows)
    events = statistics.median(e for _, e in rows)
    p90 = times[int(0.9 * (len(times) - 1))]
    print(f"{name:24}{len(rows):7d}{events:9.0f}{statistics.median(times):11.2f}{p90:9.2f}")


def _symmetry(spec: ChipSpec) -> None:
    device = Device(gpu=Gpu(spec=spec), engine=BENCHMARK_ENGINE, memo=Memo(None))
    (kernel,) = device.tune(gemm((16, 4096, 4096), BF16, activation("x", 16 * 4096 * 2)))
    for symmetry in (True, False):
        start = time.perf_counter()
        run = Gpu(spec=spec, symmetry=symmetry).run(kernel)
        took = 1e3 * (time.perf_counter() - start)
        word = "on " if symmetry else "off"
        print(
            f"symmetry {word}: {kernel.name} {run.events} events, {took:.1f} ms, {run.time_ps} ps"
        )


if __name__ == "__main__":
    main()
