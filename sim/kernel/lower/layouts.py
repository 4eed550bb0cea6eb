"""Which runs of a KV cache or of a tensor of experts a kernel reads."""

from collections.abc import Sequence
from dataclasses import replace

from sim.kernel.kernel import Kernel
from sim.kernel.layout import KvTokens, Slices
from sim.kernel.operators import Attention, GroupedGemm, MlaAttention


def active_experts(op: GroupedGemm) -> Slices:
    """Return the experts that got tokens, as slices of the one tensor that engines keep them in."""
    count = len(op.tokens_per_expert)
    return Slices(
        count=count,
        chosen=tuple(i for i, tokens in enumerate(op.tokens_per_expert) if tokens),
        slice_bytes=op.experts.size_bytes // count,
    )


def visible_tokens(op: Attention | MlaAttention) -> int:
    """Return how many cached tokens some new one sees."""
    if isinstance(op, MlaAttention) or op.window is None:
        return op.context
    return min(op.context, op.window + op.q_len - 1)


def kv_tokens(op: Attention | MlaAttention, block_tokens: int) -> KvTokens:
    """Return the tokens of the cache that `op` reads; a latent cache has one table."""
    tokens = visible_tokens(op)
    size = max(1, op.kv_read_bytes // (op.batch * tokens))
    tables: tuple[int, ...] = (size,)
    if isinstance(op, Attention):
        keys = size * op.qk_dim // (op.qk_dim + op.v_dim)
        tables = tuple(table for table in (keys, size - keys) if table)
    return KvTokens(
        sequences=op.batch,
        first_token=op.context - tokens,
        tokens=tokens,
        block_tokens=block_tokens,
        token_bytes=tables,
    )


def with_kv_layout(
    kernels: Sequence[Kernel], op: Attention | MlaAttention, block_tokens: int
) -> tuple[Kernel, ...]:
    """Return the kernels of `op` with the layout of its cache wherever they read all it reads.

    Kernels that read keys and values apart (the naive ones) keep them as one run each.
    """
    layout = kv_tokens(op, block_tokens)
    return tuple(
        replace(
            kernel,
            segments=tuple(
                replace(segment, layout=layout)
                if (segment.name, segment.size_bytes) == (op.kv.name, op.kv_read_bytes)
                else segment
                for segment in kernel.segments
            ),
        )
        for kernel in kernels
    )
