"""`sim.kernel.lower.attention` and what it calls: splits, visible bytes, and the causal mask."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel.engine import AttentionVariant, DecodeKernel, PrefillKernel
from sim.kernel.kernel import Kernel, Phase
from sim.kernel.lower.attention import lower_attention
from sim.kernel.lower.prefill import SOFTMAX_TENSOR_FLOP
from sim.kernel.lower.prefill_tiles import tile_of
from sim.kernel.lower.split_kv import choose_splits
from sim.kernel.operators import Attention
from sim.kernel.target import Target
from sim.kernel.work import visible_pairs
from tests.unit.kernel.samples import AMPERE, HOPPER, attention, engine

NAIVE, FLASH, FLASH_DECODING = AttentionVariant


def lowered(
    op: Attention,
    variant: AttentionVariant = FLASH_DECODING,
    target: Target = HOPPER,
    **kernel: DecodeKernel | int,
) -> tuple[Kernel, ...]:
    """Return the one kernel sequence of an attention operator."""
    (kernels,) = lower_attention(op, target, engine(variant, **kernel))
    return kernels


def moved(kernel: Kernel, name: str) -> tuple[int, int]:
    """Return the bytes that a kernel's CTAs load from and store to a segment."""
    index = [segment.name for segment in kernel.segments].index(name)
    loaded = stored = 0
    for kind, phase in kernel.phases():
        loaded += kind.count * sum(x.size_bytes for x in phase.loads if x.segment == index)
        stored += kind.count * sum(x.size_bytes for x in phase.stores if x.segment == index)
    return loaded, stored


def only_phase(kernel: Kernel) -> Phase:
    (kind,) = kernel.kinds
    (phase,) = kind.phases
    return phase


@pytest.mark.parametrize(
    ("tiles", "blocks", "places", "splits"),
    [
        # 106 CTAs fill more than 80 % of 132 places.
        pytest.param(106, 100, 132, 1, id="full grid"),
        # 105 do not: 1 to 4 splits fill .795 of their waves, 5 fill 525 / 528.
        pytest.param(105, 100, 132, 5, id="nearly full grid"),
        pytest.param(66, 32, 132, 2, id="half a wave"),
        # 16 splits fill 128 / 132; 14 are the fewest within 85 % of that, 112 / 132.
        pytest.param(8, 256, 132, 14, id="fewest within 85 %"),
        # 128 at most: 109 / 132 is within 85 % of 128 / 132, 108 / 132 is not.
        pytest.param(1, 10**6, 132, 109, id="one long sequence"),
        pytest.param(1, 4, 132, 4, id="no split without a block"),
        pytest.param(1, 1, 132, 1, id="one block"),
        # Four splits of five blocks take two blocks each at most, as three splits do.
        pytest.param(1, 5, 4, 3, id="a split that shortens nothing"),
    ],
)
def test_the_context_is_split_until_the_sms_are_full(
    tiles: int, blocks: int, places: int, splits: int
) -> None:
    """FlashAttention's heuristic, worked out by hand."""
    assert choose_splits(tiles, blocks, places) == splits


@given(tiles=st.integers(1, 500), blocks=st.integers(1, 2000), places=st.integers(1, 300))
def test_a_split_has_a_block_and_never_more_than_the_heuristic_allows(
    tiles: int, blocks: int, places: int
) -> None:
    """No split is empty, none beyond 128, and a full grid has none."""
    split = choose_splits(tiles, blocks, places)
    assert 1 <= split <= max(1, min(128, blocks, places))
    assert split == 1 or tiles < 0.8 * places


def test_a_decode_cta_reads_its_share_of_the_cache_once() -> None:
    """8 KV heads on 132 SMs, 32 blocks of tokens: 16 splits of two blocks each."""
    op = attention()
    main, combine = lowered(op)
    phase = only_phase(main)
    assert main.name == "flash_decode_split16"
    assert main.n_ctas == 8 * 16
    kv, q = phase.loads
    assert kv.size_bytes * 8 * 16 == op.kv_read_bytes
    assert (kv.sharers, q.sharers) == (1, 16)
    assert q.size_bytes == 4 * 128 * 2
    # 256 tokens in two blocks of 17 chains: page table, keys, scores, values; 4 heads in 64 rows.
    assert phase.steps == 2 * 17
    assert phase.tensor_flop == 64 * 256 * (2 * 256 + SOFTMAX_TENSOR_FLOP)
    assert main.flop == 2 * 32 * 256 * 4096
    assert combine.name == "combine_split16"
    assert combine.flop == 0


def test_splits_leave_float32_partials_that_the_combine_kernel_merges() -> None:
    """128 values and a log-sum for each of 32 heads and 16 splits."""
    op = attention()
    main, combine = lowered(op)
    size = 32 * 129 * 4 * 16
    assert main.segments[2].name == combine.segments[0].name == "attention_partials"
    assert main.segments[2].size_bytes == combine.segments[0].size_bytes == size
    assert moved(main, "attention_partials") == (0, size)
    assert moved(combine, "attention_partials") == (size, 0)
    assert moved(combine, "attention_out") == (0, op.out.size_bytes)


@pytest.mark.parametrize(
    ("op", "variant"),
    [
        (attention(batch=64), FLASH_DECODING),
        (attention(context=128), FLASH_DECODING),
        (attention(), FLASH),
    ],
    ids=["full grid", "one block", "flash"],
)
def test_without_splits_there_is_no_combine_kernel(
    op: Attention, variant: AttentionVariant
) -> None:
    """One CTA per sequence and KV head writes the result itself."""
    (main,) = lowered(op, variant)
    assert main.n_ctas == op.batch * op.n_kv_heads
    assert moved(main, "attention_out") == (0, op.out.size_bytes)
    assert moved(main, "kv")[0] == op.kv_read_bytes


@pytest.mark.parametrize("variant", list(AttentionVariant))
@pytest.mark.parametrize("window", [512, 4096, 10_000, None])
def test_only_the_visible_window_is_read(variant: AttentionVariant, window: int | None) -> None:
    """Bytes and FLOP are those of the last 512 tokens, or of all 4096."""
    tokens = 512 if window == 512 else 4096
    kernels = lowered(attention(window=window), variant)
    caches = [(k, k.segments[0].name) for k in kernels if k.segments[0].name.startswith("kv")]
    read = sum(moved(kernel, name)[0] for kernel, name in caches)
    exact = 2 * 8 * tokens * 128 * 2
    assert exact <= read < exact + sum(k.n_ctas for k in kernels)
    assert sum(k.flop for k in kernels) == 2 * 32 * 256 * tokens


def test_a_quantised_cache_halves_the_bytes() -> None:
    """And keeps the tensor cores of Hopper waiting twice as long."""
    (wide,), (narrow,) = lowered(attention(), FLASH), lowered(attention(kv_format="fp8"), FLASH)
    assert moved(wide, "kv")[0] == 2 * moved(narrow, "kv")[0]
    wide_work, narrow_work = only_phase(wide), only_phase(narrow)
    assert replace(wide_work, loads=(), steps=0) == replace(
        narrow_work, loads=(), tensor_flop=wide_work.tensor_flop, steps=0
    )
    # Half as many bytes are gathered for a block.
    assert narrow_work.steps == pytest.approx(wide_work.steps / 2, rel=0.1)
    # V of one byte is transposed through shared memory.
    assert narrow_work.tensor_flop == 2 * wide_work.tensor_flop


def test_naive_attention_writes_scores_and_odds_to_memory() -> None:
    """Two bytes for each of 32 heads and 4096 tokens, written and read twice."""
    scores, softmax, values = lowered(attention(), NAIVE)
    size = 2 * 32 * 4096
    assert [k.name for k in (scores, softmax, values)] == [
        "attention_scores",
        "attention_softmax",
        "attention_values",
    ]
    assert moved(scores, "attention_scores") == (0, size)
    assert moved(softmax, "attention_scores") == (size, 0)
    assert moved(softmax, "attention_odds") == (0, size)
    assert moved(values, "attention_odds") == (size, 0)
    assert moved(scores, "kv")[0] == moved(values, "kv.values")[0] == 8 * 4096 * 128 * 2
    assert moved(values, "attention_out") == (0, 32 * 128 * 2)
    assert softmax.flop == 0


@pytest.mark.parametrize(
    ("target", "kernel", "rows"),
    [
        (AMPERE, DecodeKernel.FLASH_ATTENTION, 64),
        (HOPPER, DecodeKernel.FLASH_ATTENTION, 64),
        (AMPERE, DecodeKernel.FLASHINFER, 16),
        (HOPPER, DecodeKernel.XQA, 16),
        # FlashAttention-3's code for Ampere: 128 rows at 4/5 of the rate.
        (AMPERE, DecodeKernel.FLASH_ATTENTION_3, 160),
    ],
)
def test_the_heads_of_a_group_fill_the_rows_of_a_tile(
    target: Target, kernel: DecodeKernel, rows: int
) -> None:
    """Four query heads are padded to the rows that the kernel computes."""
    main = next(k for k in lowered(attention(), FLASH, target, decode=kernel) if k.flop)
    assert only_phase(main).tensor_flop == rows * 4096 * (2 * 256 + SOFTMAX_TENSOR_FLOP)


def test_flash_attention_2_copies_queries_and_output_of_several_sequences() -> None:
    """It makes the heads of a group rows by a transposition before and one after."""
    one, several = (lowered(attention(batch=n), target=AMPERE) for n in (1, 2))
    assert [k.name.split("_")[0] for k in one] == ["flash", "combine", "hand"]
    names = [k.name for k in several]
    assert (names[0], names[-2:]) == ("transpose_q", ["transpose_out", "hand_out"])
    assert moved(several[0], "q") == (attention(batch=2).q.size_bytes, 0)


def test_a_window_of_flash_attention_2_gives_every_query_head_a_cta() -> None:
    """The four heads of a group fetch the same keys, so KV is shared by four."""
    op = attention(batch=64, window=512)
    (main,) = lowered(op, target=AMPERE)
    assert main.n_ctas == 64 * 32
    assert only_phase(main).loads[0].sharers == 4
    assert moved(main, "kv")[0] == 4 * op.kv_read_bytes


def test_trtllm_has_no_xqa_for_narrow_heads_before_hopper() -> None:
    """A CTA per query head instead; on Hopper the heads of a group share one."""
    op = attention(batch=64, dim=64)
    ampere, hopper = (lowered(op, target=t, decode=DecodeKernel.XQA)[0] for t in (AMPERE, HOPPER))
    assert (ampere.n_ctas, hopper.n_ctas) == (64 * 32, 64 * 8)


def test_xqa_of_hopper_merges_fp8_splits_in_its_last_cta() -> None:
    """So there is no combine kernel, and every CTA that splits may wait for the merge."""
    op = attention(kv_format="fp8")
    (main,) = lowered(op, decode=DecodeKernel.XQA)
    assert main.n_ctas > 8
    assert moved(main, "attention_out")[1] >= op.out.size_bytes
    assert [k.name[:7] for k in lowered(attention(), decode=DecodeKernel.XQA)][1:] == ["combine"]


def test_helpers_come_first_and_the_merge_follows_whatever_the_split() -> None:
    """vLLM's FlashAttention-3 schedules splits in a kernel of its own and always merges."""
    kernels = lowered(attention(batch=64), decode_helpers=2)
    assert [k.name for k in kernels] == [
        "decode_helper0",
        "decode_helper1",
        "flash_decode_split1",
        "no_merge",
    ]


def test_values_of_fp8_are_widened_by_flashinfer_before_hopper() -> None:
    """One unpacking and conversion for each cached value."""
    op = attention(kv_format="fp8")
    ampere, hopper = (
        lowered(op, FLASH, t, decode=DecodeKernel.FLASHINFER)[0] for t in (AMPERE, HOPPER)
    )
    assert only_phase(hopper).vector_flop == 0
    assert only_phase(ampere).vector_flop * ampere.n_ctas == 24 * op.kv_read_bytes


def test_a_graph_may_hold_no_more_splits_than_it_was_captured_for() -> None:
    """vLLM captures FlashAttention-3 with 32 splits at most."""
    free, captured = (
        lowered(attention(context=65536, heads=(4, 1)), decode_splits=n) for n in (128, 32)
    )
    assert free[0].n_ctas > 32
    assert captured[0].n_ctas == 32


@pytest.mark.parametrize(
    "op",
    [
        attention(q_len=1280, context=1280),
        attention(q_len=100, context=5000, batch=3),
        attention(q_len=8192, context=8192, heads=(8, 8)),
        attention(q_len=4096, context=4096, window=1024),
    ],
    ids=["causal", "after a prefix", "long", "window"],
)
@pytest.mark.parametrize("target", [AMPERE, HOPPER], ids=["ampere", "hopper"])
def test_prefill_covers_all_queries_and_no_less_than_the_visible_pairs(
    op: Attention, target: Target
) -> None:
    """A CTA per block of queries and head; FlashAttention-3 starts the longest of them first.

    FlashAttention-2 starts every head's shortest first, here in up to four turns of heads.
    """
    (kernel,) = lowered(op, NAIVE, target)
    blocks = -(-op.q_len // tile_of(op, target, PrefillKernel.FLASH_ATTENTION).queries)
    assert kernel.n_ctas == op.batch * op.n_q_heads * blocks
    assert len(kernel.kinds) <= 4 * 13
    work = [phase.tensor_flop for _, phase in kernel.phases()]
    assert (work == sorted(work, reverse=True)) is (len(set(work)) == 1 or target is HOPPER)
    pairs = visible_pairs(q_len=op.q_len, context=op.context, window=op.window)
    assert kernel.flop == 2 * op.batch * op.n_q_heads * 256 * pairs
    padded = 2 if op.q_len < 128 else 1.3
    softmax = 1 + SOFTMAX_TENSOR_FLOP / 512 if target is HOPPER else 1
    assert kernel.flop <= kernel.issued_tensor_flop < padded * softmax * kernel.flop
    out = moved(kernel, "attention_out")[1]
    assert op.out.size_bytes <= out < op.out.size_bytes + kernel.n_ctas


def test_warps_that_do_not_specialise_exponentiate_on_the_sfus() -> None:
    """Two operations for every score of a tile, where Hopper's tensor cores wait instead."""
    op = attention(q_len=1280, context=1280)
    (ampere,), (hopper,) = (lowered(op, NAIVE, target) for target in (AMPERE, HOPPER))
    for _, phase in ampere.phases():
        assert phase.sfu_ops * 256 == phase.tensor_flop
    assert all(phase.sfu_ops == 0 for _, phase in hopper.phases())


def test_prefill_without_a_prefix_reads_the_cache_once() -> None:
    """Ten blocks of queries: the last sees all the keys, so all of them are fetched."""
    op = attention(q_len=1280, context=1280)
    (kernel,) = lowered(op)
    sharers = {phase.loads[0].sharers for _, phase in kernel.phases()}
    assert moved(kernel, "kv")[0] // sharers.pop() >= op.kv_read_bytes


def test_prefill_after_a_prefix_reads_the_cache_once() -> None:
    """One block of queries: the four heads of a group share what they read."""
    op = attention(q_len=128, context=8192)
    (kernel,) = lowered(op)
    assert moved(kernel, "kv")[0] // only_phase(kernel).loads[0].sharers == op.kv_read_bytes


def test_a_vector_kernel_has_a_cta_per_query_head_and_no_tensor_work() -> None:
    """Heads of a group read the same keys: one fetches them, the others hit."""
    op = attention(context=64)
    kernels = lowered(op, decode=DecodeKernel.VECTOR)
    phase = only_phase(kernels[0])
    assert kernels[0].n_ctas == op.batch * op.n_q_heads
    assert phase.loads[0].sharers == op.n_q_heads // op.n_kv_heads
    assert phase.tensor_flop == 0
    assert phase.vector_flop > 0


def test_a_few_tokens_share_a_decode_tile_where_queries_are_packed() -> None:
    """Two tokens of a group of 8 heads are 16 rows, and KV is read once for both."""
    op = attention(context=4096, q_len=2)
    packed = replace(engine(decode=DecodeKernel.FLASHINFER), packs_queries=True)
    (kernels,) = lower_attention(op, AMPERE, packed)
    (prefill,) = lowered(op, target=AMPERE)
    assert kernels[0].name.startswith("flash_decode")
    loaded, _ = moved(kernels[0], "kv")
    assert op.kv_read_bytes <= loaded < 1.01 * op.kv_read_bytes
    assert not prefill.name.startswith("flash_decode")


def test_a_whole_prompt_is_prefill_even_where_queries_are_packed() -> None:
    """No token was cached before."""
    op = attention(context=2, q_len=2)
    packed = replace(engine(), packs_queries=True)
    (kernels,) = lower_attention(op, AMPERE, packed)
    assert not kernels[0].name.startswith("flash_decode")
