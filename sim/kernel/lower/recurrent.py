"""Recurrent kernels: one step on a state (decode) and the chunked scan (prefill)."""

from sim.kernel.kernel import CtaKind, Kernel, Phase
from sim.kernel.lower.streaming import moves
from sim.kernel.operators import ChunkedScan, StateUpdate
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

_STATE_TILE_BYTES = 8 * 1024
_STATE_CTAS_PER_SM = 8
_MOST_STATE_CTAS_PER_SM = 64


def lower_state_update(op: StateUpdate, target: Target) -> Kernel:
    """Return the recurrent decode kernel: tiles of state in, updated and out again.

    The Triton kernels in use (selective_state_update of mamba_ssm, fused_recurrent of
    flash-linear-attention) give each program a tile of one head's state of some kilobytes, which it
    loads in one burst; many small programs share an SM.
    """
    slices = op.batch * op.n_heads
    tiles = ceil_div(op.state.size_bytes, slices * _STATE_TILE_BYTES)
    count = min(slices * tiles, target.sm_count * _MOST_STATE_CTAS_PER_SM)
    inputs = [(t, t.size_bytes) for t in (*op.inputs, op.state)]
    outputs = [(t, t.size_bytes) for t in (*op.outputs, op.state)]
    segments, loads, stores = moves(inputs, outputs, count)
    phase = Phase(
        round_trips=2,
        loads=loads,
        stores=stores,
        vector_flop=ceil_div(op.vector_flop, count),
        sfu_ops=ceil_div(op.sfu_ops, count),
    )
    return Kernel(
        name="state_update",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=2 * _STATE_TILE_BYTES),),
        segments=segments,
        ctas_per_sm=_STATE_CTAS_PER_SM,
        flop=operator_flop(op),
    )


def lower_scan(op: ChunkedScan, target: Target) -> Kernel:
    """Return the chunked recurrence of prefill: every CTA walks the chunks of one head in order."""
    count = op.batch * op.n_heads
    inputs = [(t, t.size_bytes) for t in (*op.inputs, op.state)]
    outputs = [(t, t.size_bytes) for t in (*op.outputs, op.state)]
    segments, loads, stores = moves(inputs, outputs, count)
    phase = Phase(
        round_trips=2 + ceil_div(op.q_len, op.chunk),
        loads=loads,
        stores=stores,
        tensor_flop=ceil_div(op.tensor_flop, count),
        vector_flop=ceil_div(op.vector_flop, count),
        sfu_ops=ceil_div(op.sfu_ops, count),
    )
    buffer_bytes = target.shared_memory_bytes // 4
    return Kernel(
        name=f"chunked_scan_{op.chunk}",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=buffer_bytes),),
        segments=segments,
        ctas_per_sm=2,
        flop=operator_flop(op),
    )
