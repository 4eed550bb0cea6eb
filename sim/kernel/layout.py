"""Where the bytes of a segment lie in its tensor: what an address map needs to know beyond a size.

A segment without a layout is one run of bytes. Which addresses the runs get is the device's.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KvTokens:
    """The part of a layer's KV cache that a kernel reads: the same tokens of every sequence.

    `tokens` of each of `sequences` are read, from `first_token` on. A cache has one table for keys
    and one for values (or one of latent vectors), with `token_bytes` a token each: FlashAttention's
    cache in vLLM has the shape [2, blocks, block_tokens, kv_heads, head_dim]
    (`FlashAttentionBackend.get_kv_cache_shape`), so a block's keys of all heads are one run.
    """

    sequences: int
    first_token: int
    tokens: int
    block_tokens: int
    token_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """`chosen` of the `count` equal slices of one tensor: the experts that got tokens."""

    count: int
    chosen: tuple[int, ...]
    slice_bytes: int


Layout = KvTokens | Slices
