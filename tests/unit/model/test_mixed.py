"""Steps of unlike sequences, over all shipped models."""

from collections.abc import Callable

import pytest

from sim.kernel.formats import BF16, KV_FORMATS
from sim.kernel.operators import Operator, Traffic
from sim.kernel.work import operator_flop
from sim.model.architecture import Model
from sim.model.mixed import Group, StepFormats, build_mixed_step, token_wise_names
from sim.model.step import Draws, StepGraph

FORMATS = StepFormats(weight_format=BF16, kv_format=KV_FORMATS["bf16"], merge_projections=True)
DECODES = Group(count=3, q_len=1, context=100)
LONG = Group(count=2, q_len=1, context=5000)
CHUNK = Group(count=1, q_len=40, context=140)
BATCHES = {
    "two lengths": (DECODES, LONG),
    "beside a chunk": (DECODES, LONG, CHUNK),
    "two chunks": (CHUNK, Group(count=2, q_len=8, context=8)),
}


def draws(model: Model, tokens: int) -> Draws:
    """Return a routing that sends all tokens to the first experts."""
    moe = model.moe
    if moe is None:
        return ()
    return ((tokens,) * moe.top_k + (0,) * (moe.n_experts - moe.top_k),)


def mixed(model: Model, *groups: Group, padded: int | None = None) -> StepGraph:
    """Return the step of these groups."""
    tokens = padded or sum(group.tokens for group in groups)
    return build_mixed_step(
        model, groups, FORMATS, padded_tokens=padded, draws=draws(model, tokens)
    )


def kinds(graph: StepGraph) -> list[tuple[Operator, ...]]:
    """Return the operators of each kind of block."""
    return list({id(block.operators): block.operators for block in graph.blocks}.values())


def weight_bytes(graph: StepGraph) -> int:
    """Return the bytes of weights that a step reads, experts included."""
    return sum(
        tensor.size_bytes
        for block in graph.blocks
        for op in block.operators
        for tensor in op.reads()
        if tensor.traffic in (Traffic.WEIGHTS, Traffic.EXPERTS)
    )


def sequence_flop(graph: StepGraph, token_wise: frozenset[str]) -> int:
    """Return the FLOP of what does not see tokens, the head left out."""
    return sum(
        operator_flop(op)
        for block in graph.blocks[:-1]
        for op in block.operators
        if op.name not in token_wise
    )


@pytest.mark.parametrize("batch", BATCHES)
def test_names_within_a_block_are_unique(model: Model, batch: str) -> None:
    for operators in kinds(mixed(model, *BATCHES[batch])):
        names = [op.name for op in operators]
        assert len(names) == len(set(names))


def test_one_group_is_the_step_of_equal_sequences(
    model: Model, step: Callable[..., StepGraph]
) -> None:
    uniform = step(model, batch=3, q_len=1, context=100, routing_draws=draws(model, DECODES.tokens))
    assert mixed(model, DECODES) == uniform


@pytest.mark.parametrize("batch", BATCHES)
def test_token_wise_operators_are_those_of_a_step_of_as_many_tokens(
    model: Model, batch: str
) -> None:
    """Each is there once, with the FLOP of all tokens; nothing else has its name."""
    groups = BATCHES[batch]
    token_wise = token_wise_names(model, groups, FORMATS)
    tokens = sum(group.tokens for group in groups)
    decodes = any(group.q_len == 1 for group in groups)
    like = (
        Group(count=tokens, q_len=1, context=1)
        if decodes
        else Group(count=1, q_len=tokens, context=tokens)
    )
    whole, one = mixed(model, *groups), mixed(model, like)
    for mine, theirs in zip(whole.blocks[:-1], one.blocks[:-1], strict=True):
        expected = {op.name: operator_flop(op) for op in theirs.operators if op.name in token_wise}
        found = {op.name: operator_flop(op) for op in mine.operators if op.name in token_wise}
        assert found == expected


@pytest.mark.parametrize("batch", BATCHES)
def test_operators_that_see_sequences_do_the_work_of_each_group(model: Model, batch: str) -> None:
    groups = BATCHES[batch]
    token_wise = token_wise_names(model, groups, FORMATS)
    apart = sum(sequence_flop(mixed(model, group), token_wise) for group in groups)
    together = sequence_flop(mixed(model, *groups), token_wise)
    # Latent caches have one call for decodes of their mean length, rounded up.
    assert together == pytest.approx(apart, rel=0.01)


def test_a_dense_mixed_step_reads_each_weight_once(model: Model) -> None:
    if model.moe is not None:
        pytest.skip("experts follow the routing")
    one = weight_bytes(mixed(model, DECODES))
    both = weight_bytes(mixed(model, DECODES, LONG))
    rows = [op for op in mixed(model, DECODES).blocks[0].operators if op.name == "embedding"]
    looked_up = sum(t.size_bytes for op in rows for t in op.reads() if t.traffic is Traffic.WEIGHTS)
    assert one - looked_up <= both <= one + looked_up


def test_the_head_has_a_row_for_every_sequence(model: Model) -> None:
    sequences = Group(count=6, q_len=1, context=1)
    head = mixed(model, DECODES, LONG, CHUNK).blocks[-1].operators
    assert head == mixed(model, sequences).blocks[-1].operators


def test_padding_changes_token_wise_operators_only(
    load: Callable[[str], Model],
) -> None:
    llama = load("llama-3.1-8b")
    token_wise = token_wise_names(llama, (DECODES,), FORMATS)
    plain, wide = mixed(llama, DECODES), mixed(llama, DECODES, padded=8)
    for mine, theirs in zip(plain.blocks[1].operators, wide.blocks[1].operators, strict=True):
        if mine.name in token_wise:
            assert 3 * operator_flop(theirs) == 8 * operator_flop(mine)
        else:
            assert operator_flop(theirs) == operator_flop(mine)


def test_fewer_rows_than_tokens_are_refused(load: Callable[[str], Model]) -> None:
    with pytest.raises(ValueError, match=r"padded_tokens \(= 2\) must be at least the 3"):
        mixed(load("llama-3.1-8b"), DECODES, padded=2)


def test_blocks_built_alike_share_their_operators(load: Callable[[str], Model]) -> None:
    graph = mixed(load("llama-3.1-8b"), DECODES, LONG, CHUNK)
    assert len(kinds(graph)) <= 4
