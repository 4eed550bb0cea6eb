"""`sim.kernel.lower.layouts`: which runs of a cache and of a tensor of experts kernels read."""

from dataclasses import replace

from sim.kernel.layout import KvTokens, Slices
from sim.kernel.lower import lower
from sim.kernel.lower.layouts import active_experts, kv_tokens, visible_tokens
from tests.strategies import attention, gemm, grouped_gemm, mla
from tests.unit.kernel.samples import AMPERE, HOPPER, engine


def test_a_cache_has_a_table_of_keys_and_one_of_values() -> None:
    """Two KV heads of 128 values of two bytes: 512 B a token in each."""
    op = attention(3, 700, 8, 2)
    assert kv_tokens(op, 16) == KvTokens(
        sequences=3, first_token=0, tokens=700, block_tokens=16, token_bytes=(512, 512)
    )


def test_a_window_reads_the_last_tokens() -> None:
    op = replace(attention(1, 700, 8, 2), window=100)
    assert visible_tokens(op) == 100
    found = kv_tokens(op, 16)
    assert (found.first_token, found.tokens) == (600, 100)


def test_a_latent_cache_has_one_table() -> None:
    op = mla(2, 300, 16)
    assert kv_tokens(op, 64).token_bytes == (2 * (op.kv_lora + op.rope_dim),)


def test_experts_with_tokens_are_chosen() -> None:
    op = grouped_gemm((0, 1, 17, 0, 40), 192, 256)
    one = op.experts.size_bytes // 5
    assert active_experts(op) == Slices(count=5, chosen=(1, 2, 4), slice_bytes=one)
    for kernels in lower(op, AMPERE, engine()):
        assert kernels[0].segments[0].layout == active_experts(op)


def test_lowered_attention_tells_the_layout_of_its_cache_only() -> None:
    """Blocks have the size that the engine gives its pages."""
    for op in (attention(3, 700, 8, 2), attention(1, 300, 4, 2, q_len=200), mla(2, 300, 16)):
        for target in (AMPERE, HOPPER):
            (kernels,) = lower(op, target, replace(engine(), kv_block_tokens=64))
            layouts = {s.name: s.layout for kernel in kernels for s in kernel.segments}
            assert layouts.pop(op.kv.name) == kv_tokens(op, 64)
            assert set(layouts.values()) == {None}


def test_a_dense_matrix_is_one_run() -> None:
    for kernels in lower(gemm(5, 320, 576), AMPERE, engine()):
        assert {s.layout for kernel in kernels for s in kernel.segments} == {None}


def test_a_layout_has_all_bytes_that_its_segment_has() -> None:
    for op in (attention(3, 700, 8, 2), mla(2, 300, 16)):
        layout = kv_tokens(op, 16)
        held = layout.sequences * layout.tokens * sum(layout.token_bytes)
        assert held == op.kv_read_bytes
    for kernels in lower(grouped_gemm((0, 1, 17, 3, 40), 192, 256), AMPERE, engine()):
        segment = kernels[0].segments[0]
        assert isinstance(segment.layout, Slices)
        assert len(segment.layout.chosen) * segment.layout.slice_bytes == segment.size_bytes
