"""Where the runs of a segment lie in memory, and how many of their bytes each channel holds."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from sim.hardware.walk import Array, Interleave
from sim.kernel.kernel import Segment
from sim.kernel.layout import KvTokens, Slices

KvPages = Literal["scattered", "in_order", "contiguous"]
KV_PAGES: tuple[KvPages, ...] = get_args(KvPages)
# A pool that is nearly full holds nearly every block, so that whatever is read of it is even again;
# one that is mostly empty is where a shuffle shows.
_POOL_PER_USED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Runs of bytes: where each starts, counted from the segment's first byte, and its length.

    `extent_bytes` is the address space that the whole tensor takes.
    """

    starts: Array
    sizes: Array
    extent_bytes: int


def runs_of(segment: Segment, pages: KvPages, seed: int) -> Runs:
    """Return the runs of a segment; an empty one still has a byte of its own.

    The blocks of a KV cache are `scattered` over a pool by a shuffle drawn from `seed`, as a paged
    allocator leaves them after many requests have come and gone, or lie `in_order`, as it hands
    them out at first; a `contiguous` cache ([sequences, room, heads, dim]) has room for a power of
    two of tokens a sequence.
    """
    layout = segment.layout
    if isinstance(layout, KvTokens):
        return _contiguous(layout) if pages == "contiguous" else _paged(layout, pages, seed)
    if isinstance(layout, Slices):
        starts = np.array(layout.chosen, dtype=np.int64) * layout.slice_bytes
        sizes = np.full_like(starts, layout.slice_bytes)
        return Runs(
            starts=starts, sizes=sizes, extent_bytes=max(1, layout.count * layout.slice_bytes)
        )
    size = max(1, segment.size_bytes)
    return Runs(starts=np.zeros(1, dtype=np.int64), sizes=np.array([size]), extent_bytes=size)


def _contiguous(kv: KvTokens) -> Runs:
    room = 1 << (kv.first_token + kv.tokens - 1).bit_length()
    starts, sizes, base = [], [], 0
    for token_bytes in kv.token_bytes:
        sequence = np.arange(kv.sequences, dtype=np.int64) * room
        starts.append(base + (sequence + kv.first_token) * token_bytes)
        sizes.append(np.full(kv.sequences, kv.tokens * token_bytes))
        base += kv.sequences * room * token_bytes
    return Runs(starts=np.concatenate(starts), sizes=np.concatenate(sizes), extent_bytes=base)


def _paged(kv: KvTokens, pages: KvPages, seed: int) -> Runs:
    first, end = kv.first_token, kv.first_token + kv.tokens
    begin = np.arange(first // kv.block_tokens, -(-end // kv.block_tokens)) * kv.block_tokens
    low, high = np.maximum(begin, first), np.minimum(begin + kv.block_tokens, end)
    used = kv.sequences * len(begin)
    pool = used if pages == "in_order" else used * _POOL_PER_USED
    slots = np.arange(used, dtype=np.int64)
    if pages == "scattered":
        slots = np.random.default_rng(seed).choice(pool, used, replace=False)
    token = slots * kv.block_tokens + np.tile(low - begin, kv.sequences)
    tokens = np.tile(high - low, kv.sequences)
    starts, sizes, base = [], [], 0
    for token_bytes in kv.token_bytes:
        starts.append(base + token * token_bytes)
        sizes.append(tokens * token_bytes)
        base += pool * kv.block_tokens * token_bytes
    return Runs(starts=np.concatenate(starts), sizes=np.concatenate(sizes), extent_bytes=base)


def channel_bytes(interleave: Interleave, starts: Array, sizes: Array) -> Array:
    """Return how many bytes of the runs each channel holds; every run has at least a byte.

    Whole rounds are even, so that only what a run has of its first and of its last round is looked
    at: neighbouring channels, whose number does not depend on the length of the run.

    >>> small = Interleave(channels=4, chunk_bytes=256, hashed=False)
    >>> channel_bytes(small, np.array([128, 1024]), np.array([1024, 256])).tolist()
    [512, 256, 256, 256]
    """
    n, chunk = interleave.channels, interleave.chunk_bytes
    first, behind = starts // chunk, (starts + sizes - 1) // chunk + 1
    head = np.minimum(behind, (first // n + 1) * n)
    tail = np.maximum(head, behind // n * n)
    found = _arcs(interleave, first, head) + _arcs(interleave, tail, behind)
    found = (found + (tail - head).sum() // n) * chunk
    np.subtract.at(found, interleave.channel_of(starts), starts % chunk)
    np.subtract.at(found, interleave.channel_of(starts + sizes - 1), -(starts + sizes) % chunk)
    return np.asarray(found)


def _arcs(interleave: Interleave, first: Array, behind: Array) -> Array:
    """Return the chunks per channel of runs that each lie within one round.

    In a round neighbouring chunks are in neighbouring channels, the last next to the first.
    """
    n = interleave.channels
    start = interleave.channel_of(first * interleave.chunk_bytes)
    edges = np.bincount(start, minlength=2 * n + 1)
    edges -= np.bincount(start + behind - first, minlength=2 * n + 1)
    return np.asarray(np.cumsum(edges)[: 2 * n].reshape(2, n).sum(axis=0))
