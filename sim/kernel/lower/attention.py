"""Attention of one operator: which of the lowerings of decode and prefill an engine runs.

Decode is in `sim.kernel.lower.decode`, causal prefill in `prefill`, chunks beside decodes in
`mixed`. The naive variant stands here: scores, softmax and values as kernels through memory.
"""

from collections.abc import Iterator
from dataclasses import replace

from sim.kernel.engine import AttentionVariant, Engine
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.decode import lower_decode, scheduled_prefill
from sim.kernel.lower.gemm import segment_of
from sim.kernel.lower.prefill import lower_prefill
from sim.kernel.operators import Attention, Traffic
from sim.kernel.target import Target
from sim.units import ceil_div

# Keys per step of the main loop (FlashAttention-2 and -3 use 64 to 176 for heads of 128).
BLOCK_TOKENS = 128
# Query rows of the largest decode tile that packs several tokens (llama.cpp `ncols1 * ncols2`).
_MOST_PACKED_ROWS = 64
# Per score: subtract the maximum, scale, add to the row sum and rescale the accumulator.
SOFTMAX_FLOP = 6


def _rows(heads: int, target: Target) -> int:
    unit = 64 if target.bulk_copy else 16
    return ceil_div(heads, unit) * unit


def _partials(name: str, size_bytes: int) -> Segment:
    return Segment(name=name, size_bytes=size_bytes, traffic=Traffic.ACTIVATIONS)


def lower_attention(op: Attention, target: Target, engine: Engine) -> Iterator[tuple[Kernel, ...]]:
    """Yield the kernel sequences of one attention operator; there is one per variant."""
    if op.q_len > 1 and not _packs(op, engine):
        main = lower_prefill(op, target, engine.prefill)
        yield scheduled_prefill(op, main, engine) if target.bulk_copy else (main,)
    elif engine.attention is AttentionVariant.NAIVE:
        yield _naive(op, target)
    else:
        split_kv = engine.attention is AttentionVariant.FLASH_DECODING
        yield lower_decode(op, target, engine, split_kv=split_kv)


def _packs(op: Attention, engine: Engine) -> bool:
    """Tell whether the new tokens of a sequence fit the rows of a decode tile with their group."""
    rows = op.q_len * op.n_q_heads // op.n_kv_heads
    return engine.packs_queries and op.context > op.q_len and rows <= _MOST_PACKED_ROWS


def _visible(op: Attention) -> int:
    return op.context if op.window is None else min(op.context, op.window)


def _naive(op: Attention, target: Target) -> tuple[Kernel, ...]:
    """Scores to memory: QK^T, softmax, PV, each a kernel of its own (PyTorch "math" backend)."""
    tokens = _visible(op)
    tiles = op.batch * op.n_kv_heads
    blocks = ceil_div(tokens, BLOCK_TOKENS)
    rows = _rows(op.n_q_heads // op.n_kv_heads, target)
    scores = _partials("attention_scores", 2 * op.batch * op.n_q_heads * tokens)
    odds = _partials("attention_odds", scores.size_bytes)
    k_bytes = op.kv_read_bytes * op.qk_dim // (op.qk_dim + op.v_dim)
    v_bytes = op.kv_read_bytes - k_bytes
    keys = segment_of(op.kv, k_bytes)
    values = replace(keys, name=f"{keys.name}.values", size_bytes=v_bytes)

    def stage(name: str, *, loads: tuple[tuple[Segment, int, int], ...], out: Segment,
              count: int, width: int) -> Kernel:  # fmt: skip
        segments = (*(segment for segment, _, _ in loads), out)
        phase = Phase(
            round_trips=1,
            loads=tuple(
                Load(segment=i, size_bytes=ceil_div(size, count), sharers=sharers)
                for i, (_, size, sharers) in enumerate(loads)
            ),
            tensor_flop=2 * rows * width * ceil_div(tokens * tiles, count),
            vector_flop=0 if width else SOFTMAX_FLOP * ceil_div(scores.size_bytes, 2 * count),
            sfu_ops=0 if width else ceil_div(scores.size_bytes, 2 * count),
            stores=(Store(segment=len(loads), size_bytes=ceil_div(out.size_bytes, count)),),
        )
        return Kernel(
            name=name, operator=op.name, part=op.part, segments=segments, ctas_per_sm=2,
            kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=48 * 1024),),
            flop=2 * op.n_q_heads * width * tokens * op.batch,
        )  # fmt: skip

    q, out = segment_of(op.q), segment_of(op.out)
    return (
        stage("attention_scores", loads=((keys, k_bytes, 1), (q, q.size_bytes * blocks, blocks)),
              out=scores, count=tiles * blocks, width=op.qk_dim),
        stage("attention_softmax", loads=((scores, scores.size_bytes, 1),), out=odds,
              count=op.batch * op.n_q_heads, width=0),
        stage("attention_values", loads=((values, v_bytes, 1), (odds, odds.size_bytes, 1)),
              out=out, count=tiles, width=op.v_dim),
    )  # fmt: skip
