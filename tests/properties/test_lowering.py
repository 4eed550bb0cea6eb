"""Law: tilings differ in time, never in arithmetic or in the tensors they read and write."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu
from sim.hardware.spec import ChipSpec
from sim.kernel.engine import AttentionVariant
from sim.kernel.kernel import Kernel, Load, Store
from sim.kernel.lower import lower
from sim.kernel.lower.gemm import build_gemm
from sim.kernel.lower.tiling import Pipeline
from sim.kernel.operators import (
    Attention,
    ChunkedScan,
    Elementwise,
    Gemm,
    GroupedGemm,
    MixedAttention,
    MlaAttention,
    Operator,
    StateUpdate,
)
from sim.units import ceil_div
from tests.strategies import (
    ENGINE,
    attention,
    chips,
    decode_attentions,
    elementwises,
    gemm,
    gemms,
    grouped_gemm,
    grouped_gemms,
    mixed_attentions,
    mlas,
    operators,
    prefill_attentions,
    real_chip,
    scans,
    small_chip,
    state_updates,
)

CHIPS = st.sampled_from(("h100-sxm", "a100-sxm-80gb", "l40s", "b200")).map(real_chip) | chips()
SMALLEST_TILE_M = 16


def loads_of(kernel: Kernel, tensor: str) -> list[tuple[int, Load]]:
    """Return every load of a tensor with the number of CTAs that do it."""
    names = [segment.name for segment in kernel.segments]
    return [
        (kind.count, load)
        for kind, phase in kernel.phases()
        for load in phase.loads
        if names[load.segment] == tensor
    ]


def requested(kernels: Sequence[Kernel], tensor: str) -> int:
    """Return the bytes of a tensor that all CTAs ask for."""
    return sum(n * load.size_bytes for kernel in kernels for n, load in loads_of(kernel, tensor))


def distinct(kernels: Sequence[Kernel], tensor: str) -> Fraction:
    """Return the bytes of a tensor that sharers leave to be fetched at least once."""
    return sum(
        (Fraction(n * load.size_bytes, load.sharers)
        for kernel in kernels for n, load in loads_of(kernel, tensor)),
        start=Fraction(0),
    )  # fmt: skip


def written(kernels: Sequence[Kernel], tensor: str) -> int:
    """Return the bytes that all CTAs write to a tensor."""
    total = 0
    for kernel in kernels:
        names = [segment.name for segment in kernel.segments]
        stores: list[tuple[int, Store]] = [
            (kind.count, store) for kind, phase in kernel.phases() for store in phase.stores
        ]
        total += sum(n * s.size_bytes for n, s in stores if names[s.segment] == tensor)
    return total


def n_ctas(kernels: Sequence[Kernel]) -> int:
    """Return the phases of all CTAs of all kernels, each of which may round by a byte."""
    return sum(kind.count for kernel in kernels for kind, _ in kernel.phases())


def candidates(op: Operator, gpu: Gpu) -> list[tuple[Kernel, ...]]:
    """Return every candidate of `lower`."""
    return list(lower(op, gpu.target(), ENGINE))


def useful_flop(op: Operator) -> int:
    """Return the arithmetic of an operator, from its shape alone."""
    match op:
        case Gemm():
            flop = 2 * op.m * op.n * op.k
        case GroupedGemm():
            flop = 2 * sum(op.tokens_per_expert) * op.n * op.k
        case MlaAttention():
            flop = 2 * op.batch * op.n_heads * op.context * (2 * op.kv_lora + op.rope_dim)
        case Attention():
            first = op.context - op.q_len + 1
            pairs = sum(min(seen, op.window or seen) for seen in range(first, op.context + 1))
            flop = 2 * op.batch * op.n_q_heads * (op.qk_dim + op.v_dim) * pairs
        case MixedAttention():
            flop = sum(useful_flop(part) for part in op.attentions)
        case ChunkedScan():
            flop = op.tensor_flop + op.vector_flop
        case Elementwise() | StateUpdate():
            flop = op.vector_flop
        case _:
            raise NotImplementedError(op)
    return flop


@given(operators, CHIPS)
def test_every_candidate_does_the_useful_arithmetic_of_its_operator(
    op: Operator, spec: ChipSpec
) -> None:
    """The FLOP of a sequence of kernels depend on the shape, not on tiles, splits or chip."""
    sequences = candidates(op, Gpu(spec=spec))
    assert sequences
    for kernels in sequences:
        assert sum(kernel.flop for kernel in kernels) == useful_flop(op)


@given(st.one_of(gemms, grouped_gemms(), decode_attentions(), prefill_attentions(), mlas), CHIPS)
def test_padding_adds_tensor_flop_and_never_saves_any(op: Operator, spec: ChipSpec) -> None:
    """The FLOP issued to the tensor cores cover the useful ones."""
    for kernels in candidates(op, Gpu(spec=spec)):
        issued = sum(kernel.issued_tensor_flop for kernel in kernels)
        assert issued >= sum(kernel.flop for kernel in kernels)


@given(gemms, CHIPS)
def test_a_gemm_reads_its_weight_once_per_row_of_tiles(op: Gemm, spec: ChipSpec) -> None:
    """All weight bytes are asked for, by one CTA per row of token tiles, and rounded once a CTA."""
    for kernels in candidates(op, Gpu(spec=spec)):
        asked, size = requested(kernels, "w"), op.weight.size_bytes
        rows = asked // size
        assert 1 <= rows <= ceil_div(op.m, SMALLEST_TILE_M)
        assert asked < size * rows + n_ctas(kernels)
        assert distinct(kernels, "w") >= size
        assert distinct(kernels, "a") >= op.a.size_bytes


@given(
    gemms,
    st.tuples(st.sampled_from((64, 128, 256)), st.sampled_from((16, 64, 128))),
    st.integers(1, 9),
    st.booleans(),
)
def test_a_given_tiling_reads_and_writes_what_its_tiles_cover(
    op: Gemm, tile: tuple[int, int], split: int, bulk_copy: bool
) -> None:
    """Each row of tiles reads the weight, each column the tokens, and splits leave partials.

    With bulk copies two columns may fetch their tokens together: half of the bytes at least.
    """
    target = replace(Gpu(spec=small_chip()).target(), bulk_copy=bulk_copy)
    tile_n, tile_m = tile
    pipeline = Pipeline(ctas_per_sm=1, buffer_bytes=32 * 1024)
    kernel, *reduction = build_gemm(op, target, (tile_n, tile_m), split, pipeline)
    rows, columns = ceil_div(op.m, tile_m), ceil_div(op.n, tile_n)
    slack = kernel.n_ctas
    assert kernel.n_ctas == rows * columns * split
    assert 0 <= requested([kernel], "w") - rows * op.weight.size_bytes < slack
    asked, together = requested([kernel], "a"), 2 if bulk_copy and columns > 1 else 1
    assert columns * op.a.size_bytes <= together * asked
    assert asked - columns * op.a.size_bytes < slack
    partials = 4 * op.m * op.n * split if split > 1 else 0
    assert written([kernel], "splitk_workspace") == partials
    adders = n_ctas(reduction)
    assert 0 <= requested(reduction, "splitk_workspace") - partials <= adders
    assert 0 <= written([kernel, *reduction], "out") - op.out.size_bytes < slack + adders


@given(grouped_gemms(), CHIPS)
def test_a_grouped_gemm_reads_each_hit_expert_and_no_other(op: GroupedGemm, spec: ChipSpec) -> None:
    """Every candidate reads all bytes of the experts with tokens, once per block of tokens."""
    hit = sum(tokens > 0 for tokens in op.tokens_per_expert)
    size = op.experts.size_bytes // len(op.tokens_per_expert) * hit
    for kernels in candidates(op, Gpu(spec=spec)):
        fetched, asked = distinct(kernels, "experts"), requested(kernels, "experts")
        assert kernels[0].segments[0].size_bytes == size
        assert size <= fetched < size + n_ctas(kernels)
        assert fetched <= asked <= fetched * max(op.tokens_per_expert)


@given(st.one_of(decode_attentions(), mlas), CHIPS)
def test_decode_reads_the_visible_cache_once(op: Attention | MlaAttention, spec: ChipSpec) -> None:
    """However the context is split, the fetched KV bytes are the visible ones, rounded by CTA."""
    for kernels in candidates(op, Gpu(spec=spec)):
        fetched = distinct(kernels, "kv")
        assert op.kv_read_bytes <= fetched < op.kv_read_bytes + n_ctas(kernels)
        assert distinct(kernels, "q") >= op.q.size_bytes
        partials = sum(s.size_bytes for s in kernels[0].segments if s.name == "attention_partials")
        assert requested(kernels, "attention_partials") >= partials
        assert written(kernels, "attention_partials") >= partials


@given(decode_attentions(), st.sampled_from(AttentionVariant), CHIPS)
def test_every_attention_variant_reads_and_computes_the_same(
    op: Attention, variant: AttentionVariant, spec: ChipSpec
) -> None:
    """Naive, flash and flash-decoding differ in what they spill, not in KV bytes or FLOP."""
    target = Gpu(spec=spec).target()
    (kernels,) = lower(op, target, replace(ENGINE, attention=variant))
    assert sum(kernel.flop for kernel in kernels) == useful_flop(op)
    # The naive kernels read keys and values apart. Heads of a group that are CTAs of their own
    # share what they read.
    read = distinct(kernels, "kv") + distinct(kernels, "kv.values")
    assert op.kv_read_bytes <= read <= op.kv_read_bytes + n_ctas(kernels)


@given(prefill_attentions(), CHIPS)
def test_prefill_asks_for_every_visible_key_and_value(op: Attention, spec: ChipSpec) -> None:
    """All blocks of queries together ask for no less than the cache that they see."""
    for kernels in candidates(op, Gpu(spec=spec)):
        assert requested(kernels, "kv") >= op.kv_read_bytes


@given(prefill_attentions(), CHIPS)
def test_prefill_fetches_every_visible_key_and_value_once(op: Attention, spec: ChipSpec) -> None:
    """Sharing between blocks of queries never hides bytes that nobody fetched."""
    for kernels in candidates(op, Gpu(spec=spec)):
        assert distinct(kernels, "kv") >= op.kv_read_bytes


@given(mixed_attentions(), CHIPS)
def test_a_mixed_batch_fetches_the_cache_of_every_decode(
    op: MixedAttention, spec: ChipSpec
) -> None:
    """Heads that share reads, and turns of heads, hide no bytes that nobody fetched."""
    for kernels in candidates(op, Gpu(spec=spec)):
        for part in op.attentions[1:]:
            names = {s.name for k in kernels for s in k.segments if s.name.startswith(part.kv.name)}
            assert sum(distinct(kernels, name) for name in names) >= part.kv_read_bytes


@pytest.mark.parametrize("context", [257, 4096])
def test_prefill_behind_a_window_reads_what_the_window_shows(context: int) -> None:
    """A cached prefix that the window hides makes the visible part no smaller."""
    op = attention(1, context, 8, 8, q_len=2, window=128)
    for kernels in candidates(op, Gpu(spec=real_chip("h100-sxm"))):
        assert distinct(kernels, "kv") >= op.kv_read_bytes


@given(st.one_of(elementwises, state_updates, scans), CHIPS)
def test_a_streaming_kernel_reads_each_input_once(
    op: Elementwise | StateUpdate | ChunkedScan, spec: ChipSpec
) -> None:
    """Every input is read once, up to a byte per CTA."""
    for kernels in candidates(op, Gpu(spec=spec)):
        for tensor in op.reads():
            excess = requested(kernels, tensor.name) - tensor.size_bytes
            assert 0 <= excess < n_ctas(kernels)


@given(operators, CHIPS)
def test_every_candidate_writes_its_outputs_once(op: Operator, spec: ChipSpec) -> None:
    """Outputs are written whole and once, up to the rounding of every CTA."""
    sizes: Counter[str] = Counter()
    for tensor in op.writes():
        sizes[tensor.name] += tensor.size_bytes
    for kernels in candidates(op, Gpu(spec=spec)):
        for name, size in sizes.items():
            assert 0 <= written(kernels, name) - size < 2 * n_ctas(kernels)


@pytest.mark.parametrize(
    ("op", "tensor"),
    [
        (gemm(7, 320, 448), "w"),
        (grouped_gemm((3, 0, 9), 320, 448), "experts"),
        (attention(3, 777, 8, 2), "kv"),
    ],
)
def test_counting_sees_a_load_that_is_a_byte_short(op: Operator, tensor: str) -> None:
    """The measures of these laws drop when one load of a candidate loses a byte."""
    for kernels in candidates(op, Gpu(spec=small_chip())):
        kind = kernels[0].kinds[0]
        phase = kind.phases[0]
        loads = (
            replace(phase.loads[0], size_bytes=phase.loads[0].size_bytes - 1),
            *phase.loads[1:],
        )
        phases = (replace(phase, loads=loads), *kind.phases[1:])
        kinds = (replace(kind, phases=phases), *kernels[0].kinds[1:])
        short = (replace(kernels[0], kinds=kinds), *kernels[1:])
        assert requested(short, tensor) == requested(kernels, tensor) - kind.count
        assert distinct(short, tensor) < distinct(kernels, tensor)
