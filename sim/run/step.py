"""One step on the device: every kernel of a step graph, layer by layer, with its ledger.

Layers that are built alike and find the same L2 state run once and count many times: after the
first few layers the state repeats, so this is exact and cheap.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sim.hardware.gpu import KernelRun
from sim.hardware.residency import EMPTY_L2, L2State, forget, received
from sim.kernel.engine import Engine, LaunchMode
from sim.kernel.kernel import Kernel
from sim.kernel.lower.fusion import fuse, live_in
from sim.kernel.operators import Exchange, Operator, Traffic
from sim.measure.causes import CAUSES
from sim.model.step import Block, StepGraph
from sim.run.device import Device
from sim.run.result import OperatorRow, TrafficRow
from sim.run.steady import Rhythm, rhythm_of
from sim.units import ceil_div

TrafficKey = tuple[str, str, str]


@dataclass(slots=True, kw_only=True)
class OperatorSum:
    """What the kernels of one operator sum to; `sm_ps` are SM-picoseconds by cause.

    `busiest_bytes` is what HBM would have read had each channel read as much as the busiest;
    `dram_ps` are pseudo-channel picoseconds by DRAM cause, of channels simulated by bank.
    """

    part: str
    kernels: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    time_ps: int = 0
    flop: int = 0
    busiest_bytes: int = 0
    sm_ps: Counter[str] = field(default_factory=Counter)
    dram_ps: Counter[str] = field(default_factory=Counter)
    traffic: Counter[TrafficKey] = field(default_factory=Counter)

    def add(self, other: "OperatorSum", times: int = 1) -> None:
        """Add another sum `times` times."""
        self.runs += other.runs * times
        self.time_ps += other.time_ps * times
        self.flop += other.flop * times
        self.busiest_bytes += other.busiest_bytes * times
        for mine, theirs in (
            (self.kernels, other.kernels),
            (self.sm_ps, other.sm_ps),
            (self.dram_ps, other.dram_ps),
            (self.traffic, other.traffic),
        ):
            for key, value in theirs.items():
                mine[key] += value * times  # type: ignore[index]


Sums = dict[str, OperatorSum]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """A step: its time, and SM-picoseconds, traffic and FLOP by operator.

    `launch_ps` are all gaps between kernels, `host_ps` what the host adds.
    """

    operators: Sums
    sm_count: int
    launch_ps: int
    host_ps: int

    @property
    def time_ps(self) -> int:
        """Return the length of the step."""
        kernels = sum(op.time_ps for op in self.operators.values())
        return kernels + self.launch_ps + self.host_ps

    @property
    def flop(self) -> int:
        """Return the useful FLOP of the step."""
        return sum(op.flop for op in self.operators.values())

    def ledger_ps(self) -> dict[str, int]:
        """Return the step's time by cause, in ps, summing to `time_ps` exactly."""
        total: Counter[str] = Counter()
        for op in self.operators.values():
            total.update(op.sm_ps)
        total["launch"] += self.launch_ps * self.sm_count
        total["host"] += self.host_ps * self.sm_count
        return share_out(total, self.sm_count, self.time_ps)

    def dram_ps(self) -> dict[str, int]:
        """Return pseudo-channel picoseconds of all kernels by DRAM cause; empty if not seen."""
        total: Counter[str] = Counter()
        for op in self.operators.values():
            total.update(op.dram_ps)
        return dict(sorted(total.items()))

    def traffic(self) -> tuple[TrafficRow, ...]:
        """Return the step's bytes by class, level and direction."""
        total: Counter[TrafficKey] = Counter()
        for op in self.operators.values():
            total.update(op.traffic)
        return tuple(
            TrafficRow(traffic=traffic, level=level, direction=direction, size_bytes=size)
            for (traffic, level, direction), size in sorted(total.items())
            if size
        )

    def hbm_bytes(self) -> int:
        """Return the bytes that HBM moved."""
        return sum(row.size_bytes for row in self.traffic() if row.level == "hbm")

    def channel_imbalance(self) -> float:
        """Return the bytes that the busiest channel read over the mean of all, 1 if they are even.

        Each kernel has a busiest channel of its own.
        """
        return _imbalance(self.operators.values())

    def rows(self) -> tuple[OperatorRow, ...]:
        """Return one row per operator, in execution order."""
        return tuple(_row(name, op) for name, op in self.operators.items())


def share_out(sm_ps: Counter[str], sm_count: int, total_ps: int) -> dict[str, int]:
    """Return SM-picoseconds as ps of the step: divided, the rest to the largest remainders.

    >>> share_out(Counter(tensor=5, tail=4), 3, 3)["tensor"]
    2
    """
    shares = {cause: sm_ps[cause] // sm_count for cause in CAUSES}
    by_rest = sorted(CAUSES, key=lambda cause: -(sm_ps[cause] % sm_count))
    for cause in by_rest[: total_ps - sum(shares.values())]:
        shares[cause] += 1
    return shares


def run_step(graph: StepGraph, device: Device) -> StepRun:
    """Run every block of a step on the device, from an empty L2 or from what a step leaves."""
    outlives = live_out(graph)
    kinds = {id(block.operators): block.operators for block in graph.blocks}
    fused = {k: fuse(ops, device.engine.fusions, outlives) for k, ops in kinds.items()}
    rhythm = None
    if device.steady_l2:
        rhythm = rhythm_of((fused[id(block.operators)] for block in graph.blocks), device)
    known: dict[tuple[int, L2State], tuple[Sums, L2State]] = {}
    times: Counter[tuple[int, L2State]] = Counter()
    l2 = EMPTY_L2
    for block in graph.blocks:
        kind = id(block.operators)
        place = (kind, l2)
        if place not in known:
            known[place] = run_block(fused[kind], device, l2, rhythm=rhythm)
        times[place] += 1
        l2 = known[place][1]
    operators: Sums = {}
    for place, count in times.items():
        for name, op in known[place][0].items():
            operators.setdefault(name, OperatorSum(part=op.part)).add(op, count)
    runs = sum(op.runs for op in operators.values())
    return StepRun(
        operators=operators,
        sm_count=device.gpu.spec.sm_count,
        launch_ps=runs * launch_gap_ps(device),
        host_ps=host_ps(device.engine, graph.shape.batch),
    )


def host_ps(engine: Engine, batch: int) -> int:
    """Return what the host adds to a step of `batch` sequences."""
    return engine.host_time_ps + batch * engine.host_time_per_sequence_ps


def launch_gap_ps(device: Device) -> int:
    """Return the time between dependent kernels in the engine's launch mode."""
    spec = device.gpu.spec
    gaps = {
        LaunchMode.STREAM: spec.stream_gap_ps,
        LaunchMode.CUDA_GRAPH: spec.cuda_graph_gap_ps,
        LaunchMode.MEGAKERNEL: 0,
    }
    return gaps[device.engine.launch]


def live_out(graph: StepGraph) -> frozenset[str]:
    """Return the names of the tensors that some block reads before it writes them."""
    blocks: Iterable[Block] = {id(block.operators): block for block in graph.blocks}.values()
    return frozenset().union(*(live_in(block.operators) for block in blocks))


def run_block(
    operators: Sequence[Operator],
    device: Device,
    l2: L2State,
    *,
    on: Device | None = None,
    rhythm: Rhythm | None = None,
) -> tuple[Sums, L2State]:
    """Return the sums of one block of fused operators that finds `l2`, and what it leaves there.

    The kernels that `device` chooses run there, or `on` another one. With a `rhythm` they also
    find what the step before left of the block's own tensors.
    """
    runner = on or device
    used: dict[str, int] = {}
    sums: Sums = {}
    for op, alive in zip(operators, alive_after(operators), strict=True):
        total = sums.setdefault(op.name, OperatorSum(part=op.part))
        if isinstance(op, Exchange):
            exchanged, l2 = run_exchange(op, device, l2)
            total.add(exchanged)
        for kernel in device.tune(op):
            found = rhythm.found(l2, kernel, used) if rhythm else l2
            run = runner.run(kernel, found)
            total.add(summed(kernel, run))
            l2 = run.l2
        l2 = forget(l2, alive)
    return sums, l2


def run_exchange(op: Exchange, device: Device, l2: L2State) -> tuple[OperatorSum, L2State]:
    """Return what a collective takes on this GPU, and the L2 state with what it received.

    A sum in place stays where it is. The ranks' time is averaged over them, and every SM shares
    it. Raises InputError if the chip cannot take part.
    """
    run, ranks = device.exchange(op.what), op.what.ranks
    names = {tensor.name for tensor in op.inputs}
    made = [tensor for tensor in op.outputs if tensor.name not in names]
    l2, written_back = received(l2, made, device.gpu.spec.l2_bytes, device.gpu.l2_policy)
    shares = share_out(Counter(run.rank_ps), ranks, run.time_ps)
    sent_bytes = ceil_div(run.link_bytes + run.network_bytes, ranks)
    traffic = Counter({(Traffic.ACTIVATIONS.value, "link", "write"): sent_bytes})
    for name, size in written_back.items():
        traffic[name.value, "hbm", "write"] += size
    total = OperatorSum(
        part=op.part,
        kernels=Counter({f"{op.what.op} {run.name}": 1}),
        runs=1,
        time_ps=run.time_ps,
        sm_ps=Counter({cause: ps * device.gpu.spec.sm_count for cause, ps in shares.items()}),
        traffic=traffic,
    )
    return total, l2


def alive_after(operators: Sequence[Operator]) -> list[frozenset[str]]:
    """Return, per operator, the names of the tensors that later operators of its block use."""
    later: frozenset[str] = frozenset()
    alive = []
    for op in reversed(operators):
        alive.append(later)
        later |= {tensor.name for tensor in (*op.reads(), *op.writes())}
    return alive[::-1]


def summed(kernel: Kernel, run: KernelRun) -> OperatorSum:
    """Return one run of one kernel as a sum."""
    traffic: Counter[TrafficKey] = Counter()
    columns = (
        ("l2", "read", run.asked_bytes),
        ("l2", "write", run.stored_bytes),
        ("hbm", "read", run.missed_bytes),
    )
    for level, direction, sizes in columns:
        for segment, size in zip(kernel.segments, sizes, strict=True):
            traffic[segment.traffic.value, level, direction] += size
    for name, size in run.written_back_bytes.items():
        traffic[name, "hbm", "write"] += size
    return OperatorSum(
        part=kernel.part,
        kernels=Counter({kernel.name: 1}),
        runs=1,
        time_ps=run.time_ps,
        flop=kernel.flop,
        busiest_bytes=run.busiest_bytes,
        sm_ps=Counter(run.sm_ps),
        dram_ps=Counter(run.dram_ps or {}),
        traffic=traffic,
    )


def _imbalance(operators: Iterable[OperatorSum]) -> float:
    read = busiest = 0
    for op in operators:
        busiest += op.busiest_bytes
        read += sum(
            size
            for (_, level, direction), size in op.traffic.items()
            if (level, direction) == ("hbm", "read")
        )
    return busiest / read if read else 1.0


def _row(name: str, op: OperatorSum) -> OperatorRow:
    by_level: Counter[str] = Counter()
    for (_, level, _), size in op.traffic.items():
        by_level[level] += size
    return OperatorRow(
        part=op.part,
        operator=name,
        kernel=" + ".join(op.kernels),
        runs=op.runs,
        time_ps=op.time_ps,
        flop=op.flop,
        hbm_bytes=by_level["hbm"],
        l2_bytes=by_level["l2"],
        channel_imbalance=_imbalance([op]),
        bound=max(CAUSES, key=lambda cause: op.sm_ps[cause]),
    )
