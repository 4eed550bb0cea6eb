"""A case: what one measured row timed, in the simulator's terms.

A benchmark that replays a CUDA graph of one operator measures the operator's kernels, the gaps
between them and one graph-to-graph gap. A profiler reports kernel durations without the gaps.
Weights that rotate over copies are cold; what every replay reads again is warm if it fits L2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from analysis.validate.roofline import roofline_us
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


_REUSED: Final = 0.9
"""Share of L2 below which data that every replay walks through in order is found again."""


class UnpredictableError(Exception):
    """A row that no case describes; its text is the reason, the same for all rows of its sort."""


class Timing(StrEnum):
    """What a benchmark's clock includes beside the kernels."""

    GRAPH = "graph"
    KERNELS = "kernels"


class Case(Protocol):
    """What a measured row timed; hashable by its repr."""

    def predicted(self, chip: ChipSpec, memo: Memo) -> float:
        """Return the simulated value in the unit of the table (us, or the row's metric)."""
        ...

    def roofline(self, chip: ChipSpec) -> float:
        """Return the same by a roofline: bytes over peak bandwidth or FLOP over peak rate."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCase:
    """Operators that ran one after the other; `warm` tensors were read by the replay before.

    `repeats` is how often a replayed graph holds them: the time is one repeat's share, and each
    but the first finds its code in the instruction caches. `dirty` tensors are what every replay
    writes: the replay before left them in L2, newer than memory. Where they and `warm` exceed
    `_REUSED` of L2, each line has left before its turn comes again, and only the dirt stays.
    """

    operators: tuple[Operator, ...]
    engine: Engine = BENCHMARK_ENGINE
    timing: Timing = Timing.GRAPH
    warm: tuple[Tensor, ...] = ()
    repeats: int = 1
    dirty: tuple[Tensor, ...] = ()

    def predicted(self, chip: ChipSpec, memo: Memo) -> float:
        """Return the simulated time in us."""
        device = Device(gpu=Gpu(spec=chip), engine=self.engine, memo=memo)
        graph = self.timing is Timing.GRAPH
        gap_ps = chip.cuda_graph_gap_ps if graph else 0
        total_ps = (chip.graph_to_graph_gap_ps - gap_ps) // self.repeats if graph else 0
        l2 = self._first_l2(chip.l2_bytes)
        for op in self.operators:
            for kernel in device.tune(op):
                run = device.run(self._with_code(kernel), l2)
                l2 = run.l2
                total_ps += run.time_ps + gap_ps
        return total_ps / PS_PER_US

    def _with_code(self, kernel: Kernel) -> Kernel:
        """Return the kernel as most repeats run it: code that ran just before is in the caches."""
        return replace(kernel, setup_round_trips=0) if self.repeats > 1 else kernel

    def _first_l2(self, l2_bytes: int) -> L2State:
        """Return what the replay before left: the warm tensors, then the first activations."""
        state: list[Resident] = []
        room = l2_bytes
        footprint = sum(tensor.size_bytes for tensor in (*self.dirty, *self.warm))
        lost = bool(self.dirty) and footprint > _REUSED * l2_bytes
        for tensor in (*self.dirty, *(() if lost else self.warm)):
            size = min(tensor.size_bytes, room)
            if size:
                room -= size
                entry = _resident(tensor, size, dirty=tensor in self.dirty)
                state.append(replace(entry, name="") if lost else entry)
        first = warm_activations(self.operators[0], l2_bytes)
        for entry in first:
            size = min(entry.resident_bytes, room)
            if size:
                room -= size
                state.append(replace(entry, resident_bytes=size))
        return tuple(state)

    def roofline(self, chip: ChipSpec) -> float:
        """Return the roofline time in us: every operator reads and writes its tensors once."""
        return sum(roofline_us(op, chip) for op in self.operators)


def _resident(tensor: Tensor, size: int, *, dirty: bool) -> Resident:
    return Resident(
        name=tensor.name,
        traffic=tensor.traffic,
        resident_bytes=size,
        dirty_bytes=size if dirty else 0,
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
