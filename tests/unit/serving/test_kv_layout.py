"""How caches become blocks, by hand for well-known models."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from sim.kernel.formats import KV_FORMATS
from sim.model.importer import load_model
from sim.serving.kv_layout import CacheKind, KvLayout, blocks_of, capacity_blocks, kv_layout

MODELS = Path(__file__).parents[3] / "scenarios" / "models"
Shape = list[tuple[str, int, int, int | None]]


@cache
def layout(name: str, block_tokens: int = 16, tensor_parallel: int = 1) -> KvLayout:
    return kv_layout(
        load_model(name, search_dirs=[MODELS]),
        KV_FORMATS["bf16"],
        block_tokens=block_tokens,
        tensor_parallel=tensor_parallel,
    )


def shape(name: str) -> Shape:
    """Return kind, layers, tokens a block and window of each group."""
    return [(g.kind.value, g.layers, g.block_tokens, g.window) for g in layout(name).groups]


WINDOW = ("window", 8, 16, 1024)


@pytest.mark.parametrize(
    ("name", "groups", "block_bytes"),
    [
        ("llama-3.1-8b", [("full", 32, 16, None)], 32 * 16 * 2 * 8 * 128 * 2),
        ("deepseek-v3", [("full", 61, 16, None)], 61 * 16 * 576 * 2),
        ("mistral-7b-v0.1", [("window", 32, 16, 4096)], 32 * 16 * 2 * 8 * 128 * 2),
        ("gemma-3-12b", [WINDOW] * 5 + [("full", 8, 16, None)], 8 * 16 * 2 * 8 * 256 * 2),
        (
            "gemma-3-27b",
            [("window", 10, 16, 1024)] * 5 + [("window", 2, 16, 1024), ("full", 10, 16, None)],
            10 * 16 * 2 * 16 * 128 * 2,
        ),
        (
            "gpt-oss-20b",
            [("window", 12, 16, 128), ("full", 12, 16, None)],
            12 * 16 * 2 * 8 * 64 * 2,
        ),
        ("mamba2-2.7b", [("state", 64, 1, None)], 64 * (5120 * 128 * 4 + 5376 * 3 * 2)),
    ],
)
def test_groups_and_blocks(name: str, groups: Shape, block_bytes: int) -> None:
    """Gemma-3-27B has 52 windows and 10 full layers: 6 groups, the last one padded by 8 layers."""
    assert shape(name) == groups
    assert layout(name).block_bytes == block_bytes


@pytest.mark.parametrize(
    ("name", "state_bytes", "token_bytes", "group_layers", "groups"),
    [
        ("nemotron-h-8b", 128 * 64 * 128 * 4 + (8192 + 2 * 8 * 128) * 3 * 2, 2 * 8 * 128 * 2, 4, 7),
        ("jamba-1.5-mini", 8192 * 16 * 4 + 8192 * 3 * 2, 2 * 8 * 128 * 2, 4, 8),
    ],
)
def test_attention_blocks_grow_until_a_state_fits(
    name: str, state_bytes: int, token_bytes: int, group_layers: int, groups: int
) -> None:
    """By steps of 16 tokens: 4.3 MB of state and 4 kB a token make 1,040 tokens (Nemotron-H)."""
    found = layout(name)
    tokens = -(-state_bytes // (16 * token_bytes)) * 16
    assert found.block_bytes == group_layers * tokens * token_bytes
    assert len(found.groups) == groups
    assert [g.block_tokens for g in found.groups if g.kind is CacheKind.FULL] == [tokens]
    assert found.has_state


def test_wider_layers_make_the_blocks_of_narrower_ones_longer() -> None:
    """The windows of Gemma 4 12B have 4 times the bytes a token of its full layers."""
    assert [g.block_tokens for g in layout("gemma-4-12b").groups] == [16] * 5 + [64]
    assert layout("gemma-4-12b").hit_tokens == 64


def test_a_layer_with_attention_and_state_has_both() -> None:
    """Zamba2 has a state in each of 81 layers and attention in front of 13 of them."""
    found = layout("zamba2-7b")
    layers = dict.fromkeys(CacheKind, 0)
    for group in found.groups:
        layers[group.kind] += group.layers
    assert layers == {CacheKind.STATE: 81, CacheKind.FULL: 13, CacheKind.WINDOW: 0}


@pytest.mark.parametrize(
    ("name", "ranks", "share"),
    [
        ("llama-3.1-8b", 4, 4),
        ("llama-3.1-8b", 16, 8),
        ("deepseek-v3", 8, 1),
        ("mamba2-2.7b", 4, 4),
    ],
)
def test_ranks_share_heads_and_states_but_no_latents(name: str, ranks: int, share: int) -> None:
    """Eight heads on sixteen ranks are one each; a latent has no heads to share."""
    assert layout(name, 16, ranks).block_bytes * share == layout(name).block_bytes


@pytest.mark.parametrize(
    ("name", "tokens", "new", "blocks"),
    [
        ("llama-3.1-8b", 0, 0, 0),
        ("llama-3.1-8b", 1, 1, 1),
        ("llama-3.1-8b", 16, 1, 1),
        ("llama-3.1-8b", 17, 1, 2),
        ("gpt-oss-20b", 128, 1, 8 + 8),
        ("gpt-oss-20b", 160, 1, 8 + 10),
        ("gpt-oss-20b", 161, 1, 9 + 11),
        ("gpt-oss-20b", 2048, 1024, 72 + 128),
        ("gemma-3-12b", 32768, 1, 5 * 64 + 2048),
        ("mamba2-2.7b", 100_000, 1, 1),
        ("nemotron-h-8b", 1041, 1, 6 + 2),
    ],
)
def test_blocks_of_a_sequence(name: str, tokens: int, new: int, blocks: int) -> None:
    """The 161st token of gpt-oss sees the 128 from token 33 on; a chunk of 1,024 keeps 127 more."""
    assert blocks_of(layout(name), tokens, new) == blocks


def test_windows_save_most_of_a_long_context() -> None:
    """At 32,768 tokens Gemma 3 12B needs 19 % of the bytes that full layers would."""
    found = layout("gemma-3-12b")
    full = 48 * 32768 * 2 * 8 * 256 * 2
    assert blocks_of(found, 32768) * found.block_bytes / full == pytest.approx(0.193, abs=0.001)


def test_capacity_is_what_the_others_leave() -> None:
    """80 of 100 bytes, of which 30 are taken, hold 2 blocks of 24; less than nothing holds none."""
    found = KvLayout(groups=layout("llama-3.1-8b").groups, group_layers=1, block_bytes=24)
    terms: Callable[..., int] = capacity_blocks
    sizes = {"activations_bytes": 5, "overhead_bytes": 5, "memory_bytes": 100, "utilization": 0.8}
    assert terms(found, weights_bytes=20, **sizes) == 2
    assert terms(found, weights_bytes=90, **sizes) == 0


def test_a_model_that_keeps_nothing_needs_no_block() -> None:
    empty = KvLayout(groups=(), group_layers=0, block_bytes=0)
    assert blocks_of(empty, 1000) == 0
    assert empty.hit_tokens == 1
