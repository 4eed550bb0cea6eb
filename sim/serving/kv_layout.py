"""How a model's caches become blocks of one pool, as vLLM's hybrid KV cache manager cuts them.

Layers that keep the same kind of cache form groups of equally many layers, and a block holds some
tokens of all layers of one group. As all blocks have one size, groups of unlike kinds draw on the
same pool (vLLM "Hybrid KV Cache Manager", docs.vllm.ai/en/latest/design/hybrid_kv_cache_manager;
`v1/core/kv_cache_utils.py`, `_get_kv_cache_groups_uniform_page_size`).
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from sim.kernel.formats import KvFormat
from sim.model.architecture import Model
from sim.model.attention import AttentionMixer
from sim.model.component import Component
from sim.model.mla import MlaMixer
from sim.model.shared_block import SharedBlockMixer
from sim.units import ceil_div

NEARLY_EQUAL = 1.5
"""Kinds whose layer counts differ by less than this share one group size, the larger one; 1.25 in
releases of 2025, which tells apart no model that is shipped here."""


class CacheKind(StrEnum):
    """What a layer keeps: every token, the tokens of a window, or a state of fixed size."""

    FULL = "full"
    WINDOW = "window"
    STATE = "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class KvGroup:
    """Layers whose blocks are taken together.

    `layers` are real ones; a group of fewer layers than its layout's `group_layers` pads its
    blocks. A block covers `block_tokens` tokens; `window` is in tokens, None unless the kind is
    WINDOW; a group of states holds one block however long its sequence is.
    """

    kind: CacheKind
    layers: int
    block_tokens: int
    window: int | None = None

    def first_block(self, computed_tokens: int) -> int:
        """Return the first block that a token after `computed_tokens` others still sees."""
        if self.window is None:
            return 0
        return max(0, computed_tokens - self.window + 1) // self.block_tokens

    def end_block(self, tokens: int) -> int:
        """Return the number of blocks that `tokens` tokens reach into."""
        if self.kind is CacheKind.STATE:
            return 1
        return ceil_div(tokens, self.block_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvLayout:
    """Groups that draw on one pool of blocks of `block_bytes` each, padding included.

    `block_bytes` is what one block takes on one rank. `groups` is empty for a model that keeps
    nothing; then every sequence needs no block.
    """

    groups: tuple[KvGroup, ...]
    group_layers: int
    block_bytes: int

    @property
    def has_state(self) -> bool:
        """Return whether some layer keeps a state; vLLM then shares no prefixes by default."""
        return any(group.kind is CacheKind.STATE for group in self.groups)

    @property
    def hit_tokens(self) -> int:
        """Return the tokens whose multiples a shared prefix can end at."""
        return math.lcm(1, *(group.block_tokens for group in self.groups))


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerCache:
    kind: CacheKind
    token_bytes: int = 0
    state_bytes: int = 0
    window: int | None = None
    block_tokens: int = 1

    @property
    def page_bytes(self) -> int:
        return self.token_bytes * self.block_tokens + self.state_bytes


def kv_layout(
    model: Model, kv_format: KvFormat, *, block_tokens: int, tensor_parallel: int = 1
) -> KvLayout:
    """Return the layout of one of `tensor_parallel` ranks, with attention blocks of `block_tokens`.

    A rank holds its share of the key-value heads, at least one, the whole of a latent cache, and
    its share of a state. Where a state or a wider layer needs larger pages, blocks cover more
    tokens than `block_tokens`, as in vLLM.
    """
    caches = _with_equal_pages(
        [
            replace(cache, block_tokens=block_tokens) if cache.token_bytes else cache
            for layer in model.layers
            for cache in _layer_caches(layer.components(), kv_format, tensor_parallel)
        ]
    )
    return _grouped(caches)


def blocks_of(layout: KvLayout, tokens: int, new_tokens: int = 1) -> int:
    """Return the blocks that a sequence of `tokens` needs while its last `new_tokens` are computed.

    A group with a window needs those of the `window - 1` tokens before the new ones and of these.
    """
    return sum(
        group.end_block(tokens) - group.first_block(tokens - new_tokens) for group in layout.groups
    )


def capacity_blocks(
    layout: KvLayout,
    *,
    memory_bytes: int,
    utilization: float,
    weights_bytes: int,
    activations_bytes: int,
    overhead_bytes: int,
) -> int:
    """Return how many blocks fit into what the other terms leave of `memory_bytes`, 0 if none.

    All sizes are of one GPU. `utilization` is the share of its memory that the engine may use;
    `activations_bytes` the peak of its profiling run; `overhead_bytes` what is allocated besides.
    vLLM's own count is this one; it keeps one of the blocks for itself, as a null block.
    """
    left = int(memory_bytes * utilization) - weights_bytes - activations_bytes - overhead_bytes
    return max(0, left // layout.block_bytes) if layout.groups else 0


def _layer_caches(
    components: Iterable[Component], kv_format: KvFormat, ranks: int
) -> Iterator[_LayerCache]:
    """Yield the attention cache of a layer and what its components keep as states, together."""
    state_bytes = 0
    for component in components:
        attention = _attention_cache(component, kv_format, ranks)
        if attention is not None:
            yield attention
        state_bytes += component.state_bytes(1)
    if state_bytes:
        yield _LayerCache(kind=CacheKind.STATE, state_bytes=ceil_div(state_bytes, ranks))


def _attention_cache(component: Component, kv_format: KvFormat, ranks: int) -> _LayerCache | None:
    if isinstance(component, SharedBlockMixer):
        return _attention_cache(component.block.attention, kv_format, ranks)
    if isinstance(component, AttentionMixer):
        heads = ceil_div(component.n_kv_heads, ranks)
        token_bytes = 2 * kv_format.bytes_of(heads, component.head_dim)
        kind = CacheKind.FULL if component.window is None else CacheKind.WINDOW
        return _LayerCache(kind=kind, token_bytes=token_bytes, window=component.window)
    if isinstance(component, MlaMixer):
        token_bytes = component.kv_bytes(kv_format, batch=1, context=1)
        return _LayerCache(kind=CacheKind.FULL, token_bytes=token_bytes)
    return None


def _with_equal_pages(caches: list[_LayerCache]) -> list[_LayerCache]:
    """Return the caches with blocks of so many tokens that all pages are nearly equally large.

    The attention block grows by steps of its own size until the page holds the largest state
    (vLLM `HybridAttentionMambaModelConfig`); then the blocks of narrower layers grow up to the
    widest page (`unify_kv_cache_spec_page_size`). What is left is padding.
    """
    attention = [cache for cache in caches if cache.token_bytes]
    if not attention or len({(c.kind, c.window) for c in caches}) == 1:
        return caches
    state = max(cache.state_bytes for cache in caches)
    steps = max(1, ceil_div(state, max(cache.page_bytes for cache in attention)))
    page = steps * max(cache.page_bytes for cache in attention)
    return [
        replace(c, block_tokens=c.block_tokens * (page // c.page_bytes)) if c.token_bytes else c
        for c in caches
    ]


def _grouped(caches: list[_LayerCache]) -> KvLayout:
    kinds = Counter(replace(cache, token_bytes=0, state_bytes=0) for cache in caches)
    if len(kinds) <= 1:
        groups = tuple(_group(kind, layers) for kind, layers in kinds.items())
        total = sum(cache.page_bytes for cache in caches)
        return KvLayout(groups=groups, group_layers=len(caches), block_bytes=total)
    fewest, most = min(kinds.values()), max(kinds.values())
    size = most if most < fewest * NEARLY_EQUAL else fewest
    groups = tuple(
        _group(kind, min(size, layers - done))
        for kind, layers in kinds.items()
        for done in range(0, layers, size)
    )
    page = max(cache.page_bytes for cache in caches)
    return KvLayout(groups=groups, group_layers=size, block_bytes=size * page)


def _group(kind: _LayerCache, layers: int) -> KvGroup:
    return KvGroup(
        kind=kind.kind, layers=layers, block_tokens=kind.block_tokens, window=kind.window
    )
