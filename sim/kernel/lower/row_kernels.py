"""Element-wise kernels with one CTA per row, as vLLM and its descendants write them in CUDA.

`act_and_mul_kernel`, `rotary_embedding_kernel`, `rms_norm_kernel` and `scaled_fp8_quant_kernel` of
vLLM start one block per token, whose threads loop over the row. A thread loads, computes and stores
before it loads again, so a row takes its number of iterations times a chain of dependent round
trips, however few rows there are; an SM holds as many rows as its threads allow. Loops over single
values issue so many instructions a byte (addresses, conversions, exact division) that a full SM is
bound by them, on A100 and H100 by the same number of clocks.
"""

from dataclasses import dataclass, replace
from typing import Final

from sim.kernel.engine import RowKernels
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase
from sim.kernel.lower.streaming import ROW_KINDS, moves
from sim.kernel.operators import Elementwise
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

_WARP: Final = 32
# Chips with the large shared memory of data-centre chips hold 2048 threads an SM, others 1536
# (CUDA C++ Programming Guide, technical specifications per compute capability).
_LARGE_SHARED_MEMORY: Final = 160 * 1024
_MANY_THREADS, _FEW_THREADS = 2048, 1536
# Load and store take turns in an iteration: half of its bytes are under way at a time.
_IN_TURN: Final = 2
_FEWEST_BYTES: Final = 64
# Loops over single values, or pairs of them.
_SINGLE_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loop:
    """How the threads of a CTA go over its row; `issue_clocks` are those of all warps together."""

    threads: int
    steps: int
    buffer_bytes: int
    issue_clocks: int


def lower_rows(op: Elementwise, target: Target, engine: RowKernels) -> Kernel:
    """Return the kernel of one pass with a CTA per row.

    Reductions over a row (norms, dynamic scales) read it for the sum, join the warps, and go over
    it again, in L1 or registers, to scale it.
    """
    inputs = list(zip(op.inputs, op.read_bytes, strict=True))
    outputs = list(zip(op.outputs, op.written_bytes, strict=True))
    segments, loads, stores = moves(inputs, outputs, op.rows)
    loop = _loop(loads, engine)
    work = Phase(
        round_trips=engine.round_trips,
        steps=loop.steps,
        loads=loads,
        stores=stores,
        vector_flop=ceil_div(op.vector_flop, op.rows),
        sfu_ops=ceil_div(op.sfu_ops, op.rows),
        issue_clocks=loop.issue_clocks,
    )
    phases: tuple[Phase, ...] = (work,)
    if not ROW_KINDS.isdisjoint(op.kind.split("+")):
        scaled = Phase(
            round_trips=1, steps=loop.steps, stores=stores, issue_clocks=loop.issue_clocks
        )
        phases = (replace(work, stores=()), scaled)
    kind = CtaKind(count=op.rows, phases=phases, buffer_bytes=loop.buffer_bytes)
    return Kernel(
        name=f"{op.kind}_rows",
        operator=op.name,
        part=op.part,
        kinds=(kind,),
        segments=segments,
        ctas_per_sm=min(target.max_ctas, max(1, threads_per_sm(target) // loop.threads)),
        flop=operator_flop(op),
        setup_round_trips=engine.setup_round_trips,
    )


def _loop(loads: tuple[Load, ...], engine: RowKernels) -> _Loop:
    widest = max((load.size_bytes for load in loads), default=0)
    warps = ceil_div(widest, _WARP * engine.load_bytes)
    threads = min(engine.threads, _WARP * max(1, warps))
    iteration = threads * engine.load_bytes * max(1, len(loads))
    # Warps of a loop without barriers drift apart: one's arithmetic hides another's latency.
    drifts = engine.warp_clocks > 0 and engine.load_bytes <= _SINGLE_BYTES
    return _Loop(
        threads=threads,
        steps=0 if drifts else ceil_div(sum(load.size_bytes for load in loads), iteration),
        buffer_bytes=max(_FEWEST_BYTES, iteration if drifts else iteration // _IN_TURN),
        issue_clocks=warps * engine.warp_clocks,
    )


def threads_per_sm(target: Target) -> int:
    """Return how many threads an SM holds."""
    large = target.shared_memory_bytes >= _LARGE_SHARED_MEMORY
    return _MANY_THREADS if large else _FEW_THREADS
