"""`sim.serving.speculative_cost`: draft steps before each step."""

from sim.serving.speculative_cost import SpeculativeCost
from sim.serving.step_cost import BatchShape, Chunk
from tests.serving_toy import US, ToyCost

CHUNKS = (Chunk(tokens=10, context=30),)


def asked(shape: BatchShape) -> tuple[int, list[BatchShape]]:
    draft = ToyCost(step_ps=100 * US, token_ps=US)
    cost = SpeculativeCost(target=ToyCost(), draft=draft, draft_tokens=3)
    price = cost.price(shape)
    assert price.time_ps == price.ledger_ps.sum()
    assert price.hbm_bytes == 1000 * (1 + len(draft.asked))
    assert price.flop == shape.tokens + sum(step.tokens for step in draft.asked)
    return price.time_ps, draft.asked


def test_each_guess_is_one_draft_step_with_one_token_more_of_context() -> None:
    shape = BatchShape(decodes=2, context=5 + 4 + 7 + 4, longest=11, decode_tokens=4)
    time_ps, drafts = asked(shape)
    assert drafts == [BatchShape(decodes=2, context=12 + 2 * n, longest=7 + n) for n in (1, 2, 3)]
    assert time_ps == (1008 + 3 * 102) * US


def test_prompts_run_through_the_draft_model_beside_the_first_guess() -> None:
    shape = BatchShape(decodes=1, context=9, longest=9, decode_tokens=4, chunks=CHUNKS)
    time_ps, drafts = asked(shape)
    assert [step.chunks for step in drafts] == [CHUNKS, (), ()]
    assert time_ps == (1014 + 111 + 101 + 101) * US


def test_a_step_of_prompts_alone_runs_them_once_through_the_draft_model() -> None:
    time_ps, drafts = asked(BatchShape(chunks=CHUNKS))
    assert drafts == [BatchShape(chunks=CHUNKS)]
    assert time_ps == (1010 + 110) * US


def test_an_empty_step_drafts_nothing() -> None:
    assert asked(BatchShape())[1] == []
