"""A case: what one measured row timed, in the simulator's terms.

A benchmark that replays a CUDA graph of one operator measures the operator's kernels, the gaps
between them and one graph-to-graph gap. A profiler reports kernel durations without the gaps.
Weights that rotate over copies are cold; what every replay reads again is warm if it fits L2.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from analysis.validate.found import Found
from analysis.validate.roofline import bytes_of, roofline_us
from sim.hardware.gpu import Gpu
from sim.hardware.residency import L2State, Resident
from sim.hardware.spec import ChipSpec
from sim.kernel.engine import AttentionVariant, Engine, LaunchMode
from sim.kernel.kernel import Kernel
from sim.kernel.operators import Operator, Tensor, Traffic
from sim.run.device import Device, warm_activations
from sim.run.memo import Memo
from sim.units import PS_PER_US

Row = Mapping[str, str]

BENCHMARK_ENGINE: Final = Engine(
    name="benchmark",
    launch=LaunchMode.CUDA_GRAPH,
    attention=AttentionVariant.FLASH_DECODING,
    fusions=(),
    merge_projections=True,
    host_time_ps=0,
    kv_block_tokens=16,
)


# Dependent fetches of code and constants that a kernel starts with.
_CODE_TRIPS: Final = 3
_HALF_US_PS: Final = PS_PER_US // 2
# The architectures whose kernels may start while the one before runs (CUDA C++ Programming Guide,
# programmatic dependent launch: compute capability 9.0 and later).
_EARLY_LAUNCH: Final = frozenset({"hopper", "blackwell", "blackwell_consumer"})
_BETWEEN_GRAPHS_PS: Final = 1_300_000
"""What a device takes between two graphs more than between two kernels of one: times of growing
batches, taken back to none, on A100, H100 and L40S (1.0 to 2.2 us, as above)."""


class UnpredictableError(Exception):
    """A row that no case describes; its text is the reason, the same for all rows of its sort."""


class Timing(StrEnum):
    """What a benchmark's clock includes beside the kernels."""

    GRAPH = "graph"
    KERNELS = "kernels"
    EVENTS = "events"


class Case(Protocol):
    """What a measured row timed; hashable by its repr."""

    def predicted(self, chip: ChipSpec, memo: Memo) -> float:
        """Return the simulated value in the unit of the table (us, or the row's metric)."""
        ...

    def roofline(self, chip: ChipSpec) -> float:
        """Return the same by a roofline: bytes over peak bandwidth or FLOP over peak rate."""
        ...

    def moved_bytes(self) -> int:
        """Return the bytes that must be read and written."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCase:
    """Operators that ran one after the other; `warm` tensors were read by the replay before.

    `repeats` is how often a replayed graph holds them: the time is one repeat's share; with
    `cached_code` each but the first finds its code in the instruction caches. `dirty` tensors were
    written just before, by the replay before (a state in place) or by a benchmark that zeroes a
    buffer to flush L2, and are newer than memory. How much of all this a replay still finds, the
    simulated L2 decides by the reuse distance.
    With `early_launch` (programmatic dependent launch) a kernel of a graph starts up while the one
    before still runs, on architectures that can. With a `host_pace` the host launches a graph in
    that multiple of the chip's smallest replay, which is all that is seen of shorter ones. `found`
    is all that L2 holds at the start, where other kernels ran between two runs (None: what replays
    leave). With `whole_us` the profiler cuts what goes beyond whole microseconds: half of one in
    the mean (libkineto, `nsToUs`).
    """

    operators: tuple[Operator, ...]
    engine: Engine = BENCHMARK_ENGINE
    timing: Timing = Timing.GRAPH
    warm: tuple[Tensor, ...] = ()
    repeats: int = 1
    dirty: tuple[Tensor, ...] = ()
    early_launch: bool = False
    cached_code: bool = False
    found: tuple[Found, ...] | None = None
    whole_us: bool = False
    host_pace: float = 0.0

    def predicted(self, chip: ChipSpec, memo: Memo) -> float:
        """Return the simulated time in us."""
        device = Device(gpu=Gpu(spec=chip), engine=self.engine, memo=memo)
        gap_ps, total_ps = self._gaps(chip)
        if self.found is None:
            l2 = self._first_l2(chip)
        else:
            l2 = _fitted((found.state(chip) for found in self.found), chip.l2_bytes)
        for op in self.operators:
            for kernel in device.tune(op):
                run = device.run(self._as_repeated(kernel, chip), l2)
                l2 = run.l2
                total_ps += run.time_ps + gap_ps + self._cold_code(kernel, chip)
                total_ps -= _HALF_US_PS if self.whole_us else 0
        return max(total_ps, self._replay_ps(chip)) / PS_PER_US

    def _replay_ps(self, chip: ChipSpec) -> float:
        """Return one repeat's share of what the host needs to launch a graph."""
        return self.host_pace * chip.graph_replay_ps / self.repeats

    def _gaps(self, chip: ChipSpec) -> tuple[int, int]:
        """Return the gap after every kernel, and what one repeat pays beside its kernels' gaps.

        Events around kernels in a stream see the gap before each of them, and one more.
        """
        match self.timing:
            case Timing.GRAPH:
                gap_ps = chip.cuda_graph_gap_ps
                if self._starts_early(chip):
                    # Started before its time, a kernel waits for the other's stores alone.
                    gap_ps = chip.l2_latency_ps - chip.kernel_start_ps
                between_ps = chip.graph_to_graph_gap_ps - gap_ps
                if self.host_pace:
                    between_ps = _BETWEEN_GRAPHS_PS
                return gap_ps, between_ps // self.repeats
            case Timing.EVENTS:
                return chip.stream_gap_ps, chip.stream_gap_ps
            case Timing.KERNELS:
                # A profiler's duration of a kernel that does nothing is about its period in a
                # graph: what passes after its last store is the kernel's, too.
                return chip.cuda_graph_gap_ps, 0

    def _cold_code(self, kernel: Kernel, chip: ChipSpec) -> int:
        """Return what code costs that a model's weights wash out of L2 between two runs."""
        if self.timing is not Timing.KERNELS:
            return 0
        trips = _CODE_TRIPS + kernel.setup_round_trips
        return trips * (chip.hbm_latency_ps - chip.l2_latency_ps)

    def _starts_early(self, chip: ChipSpec) -> bool:
        return self.early_launch and chip.generation in _EARLY_LAUNCH

    def _as_repeated(self, kernel: Kernel, chip: ChipSpec) -> Kernel:
        """Return the kernel as most repeats run it: code in the caches, or launched before."""
        ready = self.cached_code or self._starts_early(chip)
        return replace(kernel, setup_round_trips=0) if ready else kernel

    def _first_l2(self, chip: ChipSpec) -> L2State:
        """Return what the replay before left: what it wrote, dirty and warm tensors, its inputs.

        A flush leaves nothing else.
        """
        l2_bytes = chip.l2_bytes
        touched = {t.name: t for op in self.operators for t in (*op.reads(), *op.writes())}
        if any(tensor.name not in touched for tensor in self.dirty):
            return tuple(_flushed(t, l2_bytes) for t in self.dirty)
        dirty = [(t, t.size_bytes, t.size_bytes) for t in self.dirty]
        warm = [(t, t.size_bytes, 0) for t in self.warm if t not in self.dirty]
        first = warm_activations(self.operators[0], l2_bytes)
        found = [(touched[e.name], e.resident_bytes, 0) for e in first]
        named = {t.name for t, _, _ in (*dirty, *warm, *found)}
        made = (t for op in self.operators for t in op.writes())
        left = {t.name: t for t in made if t.name not in named and t.traffic is Traffic.ACTIVATIONS}
        written = [(t, t.size_bytes, t.size_bytes) for t in left.values()]
        return _fitted((*written, *dirty, *warm, *found), l2_bytes)

    def roofline(self, chip: ChipSpec) -> float:
        """Return the roofline time in us: every operator reads and writes its tensors once."""
        return sum(roofline_us(op, chip) for op in self.operators)

    def moved_bytes(self) -> int:
        """Return the bytes of all operators, each tensor once an operator."""
        return sum(bytes_of(op) for op in self.operators)


def _flushed(tensor: Tensor, l2_bytes: int) -> Resident:
    """Return L2 full of a buffer larger than it, of which the size of `tensor` is still dirty."""
    return Resident(
        name=tensor.name,
        traffic=tensor.traffic,
        resident_bytes=l2_bytes,
        dirty_bytes=min(tensor.size_bytes, l2_bytes),
    )


def _fitted(entries: Iterable[tuple[Tensor, int, int]], l2_bytes: int) -> L2State:
    """Return the state after uses of (tensor, bytes there, dirty ones), which share the room."""
    listed = [entry for entry in entries if entry[1]]
    wanted = sum(there for _, there, _ in listed)
    room = min(l2_bytes, wanted)
    return tuple(
        Resident(
            name=tensor.name,
            traffic=tensor.traffic,
            resident_bytes=there * room // wanted,
            dirty_bytes=min(dirty, there) * room // wanted,
        )
        for tensor, there, dirty in listed
    )


def activation(name: str, size_bytes: int) -> Tensor:
    """Return an activation tensor."""
    return Tensor(name=name, size_bytes=size_bytes, traffic=Traffic.ACTIVATIONS)


def number(row: Row, key: str) -> int:
    """Return an integer column; an empty one is 0."""
    text = row.get(key, "")
    return int(float(text)) if text else 0


def engine_name(row: Row) -> str:
    """Return the engine family of a row's `framework`: 'vllm-0.24.0' is 'vllm'."""
    return row.get("framework", "").split(":")[0].split("/")[0].split("-")[0].lower()


def first_of(names: Sequence[str], row: Row) -> str:
    """Return the first of the columns `names` that has text, or an empty text."""
    return next((row[name] for name in names if row.get(name)), "")
