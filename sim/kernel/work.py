"""Work: the floating-point operations that an operator asks for, whatever runs it."""

from sim.kernel.operators import (
    Attention,
    ChunkedScan,
    Elementwise,
    Exchange,
    Gemm,
    GroupedGemm,
    MixedAttention,
    MlaAttention,
    Operator,
    StateUpdate,
)


def visible_pairs(*, q_len: int, context: int, window: int | None) -> int:
    """Return how many (new token, visible token) pairs one sequence has under a causal mask.

    New token i (from 0) sees `min(context - q_len + 1 + i, window)` tokens, itself included.

    >>> visible_pairs(q_len=3, context=3, window=None)
    6
    >>> visible_pairs(q_len=3, context=10, window=4)
    12
    """
    first = context - q_len + 1
    if window is None or window >= context:
        return q_len * (first + context) // 2
    growing = max(0, min(q_len, window - first))
    return growing * (2 * first + growing - 1) // 2 + (q_len - growing) * window


def _attention_flop(operator: Attention | MixedAttention | MlaAttention) -> int:
    if isinstance(operator, MixedAttention):
        return sum(_attention_flop(part) for part in operator.attentions)
    if isinstance(operator, Attention):
        heads, width = operator.n_q_heads, operator.qk_dim + operator.v_dim
        window = operator.window
    else:
        heads, width = operator.n_heads, 2 * operator.kv_lora + operator.rope_dim
        window = None
    pairs = visible_pairs(q_len=operator.q_len, context=operator.context, window=window)
    return 2 * operator.batch * heads * width * pairs


def experts_read_bytes(operator: GroupedGemm) -> int:
    """Return the weight bytes that a grouped GEMM reads: those of the experts with a token."""
    hit = sum(count > 0 for count in operator.tokens_per_expert)
    return operator.experts.size_bytes * hit // len(operator.tokens_per_expert)


def operator_flop(operator: Operator) -> int:
    """Return the FLOP of an operator: 2mnk, 2(qk + v) per visible pair, or its vector work.

    The additions of an all-reduce are not counted: they follow from the algorithm.
    Raises TypeError for an operator of an unknown class.
    """
    match operator:
        case Gemm():
            return 2 * operator.m * operator.n * operator.k
        case GroupedGemm():
            return 2 * sum(operator.tokens_per_expert) * operator.n * operator.k
        case Attention() | MixedAttention() | MlaAttention():
            return _attention_flop(operator)
        case ChunkedScan():
            return operator.tensor_flop + operator.vector_flop
        case Elementwise() | StateUpdate():
            return operator.vector_flop
        case Exchange():
            return 0
    raise TypeError(f"no FLOP count for {type(operator).__name__}")
