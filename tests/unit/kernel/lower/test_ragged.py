"""One kernel for decodes of unequal lengths, and one grid for several chunks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel.kernel import Kernel
from sim.kernel.lower import lower
from sim.kernel.lower.decode import decode_splits, lower_decode
from sim.kernel.lower.ragged import as_one, lower_ragged
from sim.kernel.operators import Attention, MixedAttention
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from tests.unit.kernel.samples import AMPERE, HOPPER, attention, engine

ENGINE = engine()


def parts(*lengths: tuple[int, int]) -> list[Attention]:
    """Return decodes as (number, context), each with caches of its own."""
    made = []
    for number, (batch, context) in enumerate(lengths):
        op = attention(batch=batch, context=context)
        made.append(replace(op, kv=replace(op.kv, name=f"kv.{number}")))
    return made


def main(kernels: tuple[Kernel, ...]) -> Kernel:
    """Return the attention among its helpers."""
    return max(kernels, key=lambda kernel: kernel.flop)


def ragged(ops: list[Attention], target: Target, *, split_kv: bool = True) -> Kernel:
    """Return the attention of one call over batches of equal sequences."""
    return main(lower_ragged(ops, target, ENGINE, split_kv=split_kv))


def kv_asked(kernel: Kernel) -> int:
    """Return the bytes of KV that the CTAs of a kernel ask for, once for each group of sharers."""
    names = [segment.name for segment in kernel.segments]
    return sum(
        kind.count * load.size_bytes // load.sharers
        for kind, phase in kernel.phases()
        for load in phase.loads
        if names[load.segment].startswith("kv")
    )


@pytest.mark.parametrize("target", [AMPERE, HOPPER])
def test_equal_parts_are_the_work_of_one_batch(target: Target) -> None:
    """Four times 8 sequences are 32."""
    apart = ragged(parts(*[(8, 2048)] * 4), target)
    (op,) = parts((32, 2048))
    whole = main(lower_decode(op, target, ENGINE, split_kv=True))
    assert apart.flop == whole.flop
    assert sum(kind.count for kind in apart.kinds) == sum(kind.count for kind in whole.kinds)
    assert kv_asked(apart) == pytest.approx(kv_asked(whole), rel=1e-3)
    assert sum(s.size_bytes for s in apart.segments) == sum(s.size_bytes for s in whole.segments)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9000)), min_size=2, max_size=6),
    hopper=st.booleans(),
)
def test_all_of_the_caches_is_read_and_all_flop_are_done(
    lengths: list[tuple[int, int]], hopper: bool
) -> None:
    ops = parts(*lengths)
    kernel = ragged(ops, HOPPER if hopper else AMPERE)
    assert kernel.flop == sum(operator_flop(op) for op in ops)
    asked, stored = kv_asked(kernel), sum(op.kv_read_bytes for op in ops)
    ctas = sum(kind.count for kind in kernel.kinds)
    assert stored <= asked <= stored + ctas


def test_flash_attention_2_splits_all_by_the_longest() -> None:
    """One sequence of 8,192 and one of 512: both are cut as often as two of 8,192 would be."""
    ops = parts((1, 512), (1, 8192))
    whole = replace(as_one(ops), context=8192)
    splits = decode_splits(whole, AMPERE, ENGINE, split_kv=True)
    assert splits > 1
    kernel = ragged(ops, AMPERE)
    assert sum(kind.count for kind in kernel.kinds) == 2 * 8 * splits


def test_hopper_splits_by_length_and_starts_with_the_longest_split() -> None:
    ops = parts((1, 512), (1, 8192))
    kernel = ragged(ops, HOPPER)
    short, long = sorted(kind.count for kind in kernel.kinds)
    assert long >= 8 * short
    walked = [phase.steps for _, phase in kernel.phases()]
    assert walked == sorted(walked, reverse=True)


def test_on_hopper_no_cta_walks_much_more_than_a_fair_share() -> None:
    """A tenth more, and what rounding to blocks adds."""
    ops = parts((3, 400), (2, 1500), (1, 6000))
    whole = as_one(ops)
    splits = decode_splits(whole, HOPPER, ENGINE, split_kv=True)
    fair = whole.context / splits
    kernel = ragged(ops, HOPPER)
    blocks = max(phase.tensor_flop for _, phase in kernel.phases()) / (64 * (4 * 128 + 133))
    assert blocks <= 1.1 * fair + 2 * 128


def test_without_split_kv_nothing_is_split() -> None:
    for target in (AMPERE, HOPPER):
        kernel = ragged(parts((1, 512), (1, 8192)), target, split_kv=False)
        assert sum(kind.count for kind in kernel.kinds) == 16


def test_lengths_take_turns_in_flash_attention_2() -> None:
    """Short and long ones alternate, as heads are the slowest dimension of the grid."""
    kernel = ragged(parts((32, 512), (32, 4096)), AMPERE)
    walked = [phase.steps for _, phase in kernel.phases()]
    assert walked[::2] == [min(walked)] * 4
    assert walked[1::2] == [max(walked)] * 4


def test_the_order_of_the_batch_does_not_matter_on_hopper() -> None:
    forth = ragged(parts((4, 512), (2, 3000), (1, 9000)), HOPPER)
    back = ragged(parts((1, 9000), (2, 3000), (4, 512)), HOPPER)
    assert [kind.count for kind in forth.kinds] == [kind.count for kind in back.kinds]


def test_several_chunks_are_one_grid_with_the_work_of_each() -> None:
    chunks = tuple(
        replace(op, kv=replace(op.kv, name=f"kv.{number}"))
        for number, op in enumerate(
            (attention(q_len=256, context=256), attention(q_len=100, context=900))
        )
    )
    op = MixedAttention(name="attention", part="attention", attentions=chunks)
    for target in (AMPERE, HOPPER):
        (kernel,) = next(iter(lower(op, target, ENGINE)))
        alone = [next(iter(lower(chunk, target, ENGINE)))[0] for chunk in chunks]
        assert kernel.flop == sum(operator_flop(chunk) for chunk in chunks)
        ctas = [sum(kind.count for kind in k.kinds) for k in (kernel, *alone)]
        assert ctas[0] == ctas[1] + ctas[2]
