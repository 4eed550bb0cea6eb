"""A device with a memory: runs kernels once, tunes operators once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sim.hardware.collective_library import library, run_library
from sim.hardware.estimate import estimate_ps
from sim.hardware.gpu import Gpu, KernelRun
from sim.hardware.link import CollectiveRun
from sim.hardware.residency import EMPTY_L2, L2State, Resident
from sim.kernel.collective import Collective
from sim.kernel.engine import Engine, LaunchMode
from sim.kernel.kernel import Kernel
from sim.kernel.lower import lower
from sim.kernel.operators import Gemm, Operator, Traffic
from sim.run.memo import Memo, key_of
from sim.units import PS_PER_US

# How many of a tuner's candidates are simulated; the others are ranked out by the estimate.
SIMULATED_CANDIDATES = 2
# A candidate whose guess is further behind the best guess is not simulated.
_WORTH_A_TRY = 1.03
# The guess of kernels longer than this is good enough, and they are slow to simulate.
_LONG_PS = 200 * PS_PER_US
_TRIAL_GRANULES = 3

Sequences = list[tuple[Kernel, ...]]


@dataclass(slots=True, kw_only=True)
class Device:
    """A GPU, an engine profile and a memo.

    With `steady_l2` a step finds what the same step before it left in L2, else an empty L2.
    """

    gpu: Gpu
    engine: Engine
    memo: Memo
    steady_l2: bool = False

    def run(self, kernel: Kernel, l2: L2State) -> KernelRun:
        """Return the run of a kernel on an L2 state, simulated or remembered."""
        key = key_of("run", self.gpu.fingerprint(), kernel, l2)
        known = self.memo.get(key)
        if isinstance(known, KernelRun):
            return known
        run = self.simulate(kernel, l2)
        self.memo.put(key, run)
        return run

    def simulate(self, kernel: Kernel, l2: L2State) -> KernelRun:
        """Return the run of a kernel on an L2 state, simulated anew."""
        return self.gpu.run(kernel, l2)

    def exchange(self, what: Collective) -> CollectiveRun:
        """Return the run of a collective by the engine's library, its launch gap left out.

        Raises InputError if the chip cannot take part.
        """
        chip = self.gpu.spec
        name = self.engine.collectives
        key = key_of("exchange", self.gpu.fingerprint(), name, what)
        known = self.memo.get(key)
        if isinstance(known, CollectiveRun):
            return known
        run = run_library(chip, what, library(name), launch_ps=chip.kernel_start_ps)
        self.memo.put(key, run)
        return run

    def tune(self, op: Operator) -> tuple[Kernel, ...]:
        """Return the fastest kernel sequence for `op`, weights cold and activations in L2.

        As a library's autotuner does, it tries candidates on the device, here the simulated one.
        Parts of a megakernel find their code in the instruction caches.
        """
        key = key_of("tune", self.gpu.fingerprint(), self.engine, op)
        known = self.memo.get(key)
        if isinstance(known, tuple):
            return known
        sequences: Sequences = list(lower(op, self.gpu.target(), self.engine))
        chosen = self._fastest(op, sequences) if len(sequences) > 1 else next(iter(sequences), ())
        if self.engine.launch is LaunchMode.MEGAKERNEL:
            chosen = tuple(replace(kernel, setup_round_trips=0) for kernel in chosen)
        self.memo.put(key, chosen)
        return chosen

    def _fastest(self, op: Operator, sequences: Sequences) -> tuple[Kernel, ...]:
        spec = self.gpu.spec
        gap_ps = self._gap_ps()
        guesses = [sum(estimate_ps(k, spec) + gap_ps for k in s) for s in sequences]
        ranked = sorted(zip(guesses, sequences, strict=True), key=lambda c: (c[0], c[1][0].name))
        l2 = warm_activations(op, spec.l2_bytes)
        if ranked[0][0] >= _LONG_PS:
            return ranked[0][1]
        limit = ranked[0][0] * _WORTH_A_TRY
        best = [s for guess, s in ranked[:SIMULATED_CANDIDATES] if guess <= limit]
        if len(best) == 1:
            return best[0]
        # A GEMM alone mostly finds in L2 what its trial did, so that the trial is remembered as its
        # run; other operators find what was there before, and larger requests tell enough.
        coarse = replace(self.gpu, granule_scale=self.gpu.granule_scale * _TRIAL_GRANULES)
        trial = self if isinstance(op, Gemm) else replace(self, gpu=coarse)
        return min(best, key=lambda s: (trial._time(s, l2), s[0].name))

    def _time(self, kernels: Sequence[Kernel], l2: L2State) -> int:
        total = 0
        for kernel in kernels:
            run = self.run(kernel, l2)
            l2 = run.l2
            total += run.time_ps + self._gap_ps()
        return total

    def _gap_ps(self) -> int:
        graph = self.engine.launch is LaunchMode.CUDA_GRAPH
        return self.gpu.spec.cuda_graph_gap_ps if graph else self.gpu.spec.stream_gap_ps


def warm_activations(op: Operator, l2_bytes: int) -> L2State:
    """Return the L2 state in which the activations that `op` reads were just written.

    Parts of one tensor (the queries of several groups of sequences) lie side by side.
    """
    sizes: dict[str, int] = {}
    room = l2_bytes
    for tensor in op.reads():
        size = min(tensor.size_bytes, room)
        if tensor.traffic is Traffic.ACTIVATIONS and size:
            room -= size
            sizes[tensor.name] = sizes.get(tensor.name, 0) + size
    state = (
        Resident(name=name, traffic=Traffic.ACTIVATIONS, resident_bytes=size, dirty_bytes=0)
        for name, size in sizes.items()
    )
    return tuple(state) or EMPTY_L2
