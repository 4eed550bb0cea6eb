"""Chunked scans of prefill: one kernel per head, or the five kernels of a chunked delta rule.

flash-linear-attention's `chunk_gated_delta_rule` (SGLang, vLLM and TensorRT-LLM run it) is a
sequence of Triton kernels with everything between them in memory: norms of Q and K; keys against
keys inside a chunk; the inverse of that triangle; W and U; the states, chunk after chunk; the
outputs. Fused kernels (FlashInfer's, FlashKDA) keep that on chip: one CTA walks the chunks of a
head (docs/decisions/0016).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sim.kernel.engine import ScanVariant
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.gemm import segment_of
from sim.kernel.lower.recurrent import moves
from sim.kernel.operators import ChunkedScan, Tensor, Traffic
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

# Chains per chunk of a fused kernel: 3.0 us a chunk of 64 tokens on H100, whatever the number of
# heads up to one an SM (vllm-0.24.0, aiconfigurator-core 0.12.0, 2026-11-23).
_FUSED_STEPS = 42
# Before its first chunk a fused kernel sets up barriers and tensor maps and takes in the state:
# what a short sequence takes beyond its chunks (as above: 15 us for two chunks, 57 for sixteen).
_FUSED_START_STEPS = 80
# With gates per channel (FlashKDA): 4.2 us a chunk after a kernel that applies the gates, which a
# chunk holds an SM for 5 us with its bytes; 21 us for no chunk at all.
_GATED_STEPS = 55
_GATED_START_STEPS = 130
_FUSED_GATE_STEPS = 30
# Chains per chunk of the state kernel: three products of four to eight chains each, with the loads
# of the next chunk two stages ahead. Two or three CTAs share an SM: 1.2 us more a chunk in one long
# sequence than in many short ones.
_STATE_STEPS = 21
_STATE_HELD_STEPS = 8
# Columns of the values that a CTA of the state kernel owns.
_STATE_COLUMNS = 32
# A chunk of the other kernels fills an SM's registers and shared memory, so CTAs take turns. From
# 128 to 1,024 tokens, from L2, a chunk and head takes 16 us of an SM on H100, 19 on L40S, with
# norms and gates per channel 31 and 26 (aiconfigurator-core 0.12.0: trtllm-1.3.0rc20, sglang).
_STAGE_STEPS = 28
_NORM_STEPS = 80
_SUM_STEPS = 2
_CTAS_PER_SM = 4
_MOST_CTAS_PER_SM = 16
# Most requests a CTA is cut into: its loop goes at the pace of its chains.
_REQUESTS = 12
_SETUP_ROUND_TRIPS = 2


def lower_scan(
    op: ChunkedScan, target: Target, variant: ScanVariant = ScanVariant.CHUNKED
) -> tuple[Kernel, ...]:
    """Return the kernels of a chunked recurrence; only a delta rule comes in parts."""
    if op.key_dim is None:
        return (_one_pass(op, target),)
    if variant is ScanVariant.FUSED:
        return _fused(op, target, op.key_dim)
    return _delta_rule(op, target, op.key_dim)


def _one_pass(op: ChunkedScan, target: Target, chains: tuple[int, int] | None = None) -> Kernel:
    """Return one kernel in which every CTA walks the chunks of one head in order.

    `chains` are those before the first chunk and those of each, where a CTA has an SM for itself.
    """
    ctas_per_sm = 1 if chains else 2
    start, steps = chains or (0, 0)
    count = op.batch * op.n_heads
    segments, loads, stores = moves((*op.inputs, op.state), (*op.outputs, op.state), count)
    chunks = ceil_div(op.q_len, op.chunk)
    phase = Phase(
        round_trips=2 if steps else 2 + chunks,
        steps=steps * chunks,
        loads=loads,
        stores=stores,
        tensor_flop=ceil_div(op.tensor_flop, count),
        vector_flop=ceil_div(op.vector_flop, count),
        sfu_ops=ceil_div(op.sfu_ops, count),
    )
    phases = (Phase(steps=start), phase) if start else (phase,)
    buffer_bytes = max(
        target.shared_memory_bytes // (2 * ctas_per_sm), ceil_div(phase.load_bytes, 8 * _REQUESTS)
    )
    return Kernel(
        name=f"chunked_scan_{op.chunk}",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=phases, buffer_bytes=buffer_bytes),),
        segments=segments,
        ctas_per_sm=ctas_per_sm,
        flop=operator_flop(op),
    )


def _fused(op: ChunkedScan, target: Target, key_dim: int) -> tuple[Kernel, ...]:
    """Return the walk over the chunks, after a kernel that applies gates per channel, if any."""
    if not op.channel_gates:
        return (_one_pass(op, target, (_FUSED_START_STEPS, _FUSED_STEPS)),)
    chunks = op.batch * op.n_heads * ceil_div(op.q_len, op.chunk)
    # Queries, keys and values in 16 bits, ready for the walk.
    size = 2 * 3 * key_dim * op.batch * op.n_heads * op.q_len
    gated = Tensor(name="scan_gated", size_bytes=size, traffic=Traffic.ACTIVATIONS)
    stage = _Stage(
        name="gates",
        count=chunks,
        reads=tuple((segment_of(tensor), tensor.size_bytes) for tensor in op.inputs),
        writes=(segment_of(gated),),
        tensor_flop=op.tensor_flop // 2,
        steps=_FUSED_GATE_STEPS,
    )
    walk = replace(op, inputs=(gated,), tensor_flop=op.tensor_flop - stage.tensor_flop)
    last = _one_pass(walk, target, (_GATED_START_STEPS, _GATED_STEPS))
    return (_kernel(op, target, stage), last)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """One kernel of the sequence: bytes in all read and written by segment, and its chain.

    `held` of the steps a CTA has the SM for itself (None: all of them).
    """

    name: str
    count: int
    reads: tuple[tuple[Segment, int], ...]
    writes: tuple[Segment, ...]
    tensor_flop: int
    steps: int
    held: int | None = None


def _delta_rule(op: ChunkedScan, target: Target, key_dim: int) -> tuple[Kernel, ...]:
    """Return the kernels of `chunk_gated_delta_rule`; every chunk of a head is a CTA."""
    rows = op.batch * op.n_heads * op.q_len
    chunks = op.batch * op.n_heads * ceil_div(op.q_len, op.chunk)
    values = sum(out.size_bytes for out in op.outputs)
    value_dim = max(1, values // (2 * rows))
    qkv = segment_of(op.inputs[0])
    keys = max(1, (qkv.size_bytes - values) // 2)
    triangle = _between("scan_triangle", 4 * op.chunk * rows)
    inverse = _between("scan_inverse", 2 * op.chunk * rows)
    w = _between("scan_w", 2 * key_dim * rows)
    u = _between("scan_u", values)
    new_u = _between("scan_new_u", values)
    states = _between("scan_states", 2 * key_dim * value_dim * chunks)
    state, out = segment_of(op.state), segment_of(op.outputs[0])
    columns = max(1, value_dim // _STATE_COLUMNS)
    # Gates per channel: read by four kernels in float32, and Q and K that carry them are written.
    gates = _between("scan_gates", 4 * key_dim * rows if op.channel_gates else 0)
    gated = _between("scan_gated", gates.size_bytes)
    gate = ((gates, gates.size_bytes),) if op.channel_gates else ()
    extra = (gated,) if op.channel_gates else ()
    carried = (
        (gated, columns * gated.size_bytes // 2) if op.channel_gates else (qkv, columns * keys)
    )
    pair, outer = 2 * op.chunk * rows, 2 * key_dim * value_dim * rows
    stages: tuple[_Stage, ...] = (
        _Stage(name="keys", count=chunks, reads=((qkv, keys), *gate),
               writes=(triangle,), tensor_flop=pair * key_dim, steps=_STAGE_STEPS),
        _Stage(name="solve", count=chunks, reads=((triangle, triangle.size_bytes),),
               writes=(inverse,), tensor_flop=0, steps=_STAGE_STEPS),
        _Stage(name="w_u", count=chunks,
               reads=((qkv, keys + values), (inverse, inverse.size_bytes), *gate),
               writes=(w, u, *extra), tensor_flop=pair * (key_dim + value_dim), steps=_STAGE_STEPS),
        _Stage(name="states", count=op.batch * op.n_heads * columns,
               reads=((state, state.size_bytes), (w, columns * w.size_bytes),
                      carried, (u, u.size_bytes), *gate),
               writes=(states, new_u, state), tensor_flop=2 * outer,
               steps=_STATE_STEPS * ceil_div(op.q_len, op.chunk),
               held=_STATE_HELD_STEPS * ceil_div(op.q_len, op.chunk)),
        _Stage(name="outputs", count=chunks,
               reads=((qkv, 2 * keys), (new_u, values), (states, states.size_bytes), *gate),
               writes=(out,), tensor_flop=pair * (key_dim + value_dim) + outer,
               steps=_STAGE_STEPS),
    )  # fmt: skip
    first = _before(op, keys, key_dim, gates, triangle)
    return tuple(_kernel(op, target, stage) for stage in (*first, *stages))


def _before(
    op: ChunkedScan, keys: int, key_dim: int, gates: Segment, triangle: Segment
) -> tuple[_Stage, ...]:
    """Return what runs before the products: norms of Q and K, sums of the gates.

    Gates per channel make the diagonal blocks of the triangle a kernel of their own.
    """
    rows = op.batch * op.n_heads * op.q_len
    chunks = op.batch * op.n_heads * ceil_div(op.q_len, op.chunk)
    qkv, raw = segment_of(op.inputs[0]), segment_of(op.inputs[1])
    norms = tuple(
        _Stage(name=f"norm_{name}", count=ceil_div(keys, 2 * key_dim * op.chunk),
               reads=((qkv, keys),), writes=(_between(f"scan_{name}", keys),), tensor_flop=0,
               steps=_NORM_STEPS)
        for name in ("q", "k") if op.norms
    )  # fmt: skip
    if not op.channel_gates:
        sums = _between("scan_sums", 4 * rows)
        return (*norms, _Stage(name="gates", count=chunks, reads=((raw, raw.size_bytes),),
                               writes=(sums,), tensor_flop=0, steps=_SUM_STEPS))  # fmt: skip
    return (
        *norms,
        _Stage(name="gates", count=chunks, reads=((raw, raw.size_bytes),), writes=(gates,),
               tensor_flop=0, steps=_STAGE_STEPS),
        _Stage(name="diagonal", count=chunks, reads=((qkv, 2 * keys), (gates, gates.size_bytes)),
               writes=(triangle,), tensor_flop=0, steps=_STAGE_STEPS),
    )  # fmt: skip


def _between(name: str, size_bytes: int) -> Segment:
    return Segment(name=name, size_bytes=size_bytes, traffic=Traffic.ACTIVATIONS)


def _kernel(op: ChunkedScan, target: Target, stage: _Stage) -> Kernel:
    count = min(stage.count, target.sm_count * _MOST_CTAS_PER_SM)
    turns = ceil_div(stage.count, count)
    segments = _distinct((*(segment for segment, _ in stage.reads), *stage.writes))
    index = {segment.name: i for i, segment in enumerate(segments)}
    read = {segment.name for segment, _ in stage.reads}
    phase = Phase(
        round_trips=1,
        steps=stage.steps * turns,
        port_steps=(stage.steps if stage.held is None else stage.held) * turns,
        loads=tuple(
            Load(segment=index[s.name], size_bytes=ceil_div(size, count)) for s, size in stage.reads
        ),
        stores=tuple(
            Store(
                segment=index[s.name],
                size_bytes=ceil_div(s.size_bytes, count),
                in_place=s.name in read,
            )
            for s in stage.writes
        ),
        tensor_flop=ceil_div(stage.tensor_flop, count),
    )
    buffer_bytes = max(
        target.shared_memory_bytes // (2 * _CTAS_PER_SM), ceil_div(phase.load_bytes, _REQUESTS)
    )
    return Kernel(
        name=f"delta_{stage.name}",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=buffer_bytes),),
        segments=segments,
        ctas_per_sm=_CTAS_PER_SM,
        flop=stage.tensor_flop,
        setup_round_trips=_SETUP_ROUND_TRIPS,
    )


def _distinct(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    return tuple({segment.name: segment for segment in segments}.values())
