"""`sim.serving.sequence`: sequences that decode in step, without work for each."""

import random

import pytest

from sim.serving.request import Request
from sim.serving.sequence import CAUSE_AT, DecodePool, ServedSequence


def sequence(prompt: int, limit: int, order: int = 0) -> ServedSequence:
    """Return a sequence whose prompt is computed and that has given its first token."""
    request = Request(index=order, arrival_ps=0, input_tokens=prompt, output_tokens=limit)
    found = ServedSequence(request, 0, limit)
    found.computed, found.emitted, found.order = prompt, 1, order
    return found


def test_a_step_tells_contexts_with_the_new_tokens_and_who_ends() -> None:
    pool = DecodePool(4)
    short, long = sequence(3, 3, 0), sequence(10, 4, 1)
    pool.join(short)
    pool.join(long)
    assert pool.advance() == (15, 11, 16 + 121, 2, [])
    assert pool.advance() == (17, 12, 25 + 144, 2, [short])
    assert (short.emitted, short.computed) == (3, 5)
    assert pool.advance() == (13, 13, 169, 1, [long])
    assert len(pool) == 0


def test_a_sequence_that_leaves_knows_how_far_it_is_and_can_come_back() -> None:
    pool = DecodePool(4)
    one = sequence(6, 9)
    pool.join(one)
    pool.advance()
    pool.advance()
    pool.leave(one)
    assert (one.emitted, one.computed) == (3, 8)
    one.target = one.computed
    pool.step += 5  # others went on meanwhile
    pool.join(one)
    assert pool.context_of(one) == 9
    ended: list[ServedSequence] = []
    count = 0
    while not ended:
        ended, count = pool.advance().ended, count + 1
    assert count == 6
    assert one.emitted == 9


def test_the_longest_is_forgotten_when_it_leaves() -> None:
    pool = DecodePool(4)
    short, long = sequence(3, 30, 0), sequence(50, 30, 1)
    pool.join(long)
    pool.join(short)
    assert pool.advance().longest == 51
    pool.leave(long)
    assert pool.advance().longest == 5


def test_sequences_need_a_block_when_their_next_token_begins_one_first_admitted_first() -> None:
    pool = DecodePool(4)
    late, early, other = sequence(8, 30, 7), sequence(4, 30, 2), sequence(6, 30, 1)
    for one in (late, early, other):
        pool.join(one)
    assert list(pool.needing()) == [early, late]
    pool.advance()
    assert list(pool.needing()) == []
    pool.advance()
    assert list(pool.needing()) == [other]


def test_a_pool_without_blocks_never_needs_one() -> None:
    pool = DecodePool(None)
    pool.join(sequence(8, 100))
    for _ in range(98):
        assert list(pool.needing()) == []
        pool.advance()


@pytest.mark.parametrize("block", [1, 3, 16])
def test_the_pool_says_what_a_loop_over_all_sequences_would(block: int) -> None:
    rng = random.Random(block)
    pool = DecodePool(block)
    contexts: dict[ServedSequence, int] = {}
    left: dict[ServedSequence, int] = {}
    for order in range(200):
        if rng.random() < 0.5 or not contexts:
            one = sequence(rng.randint(1, 60), rng.randint(2, 25), order)
            pool.join(one)
            contexts[one], left[one] = one.target, one.limit - 1
        elif rng.random() < 0.2:
            one = rng.choice(list(contexts))
            pool.leave(one)
            assert one.computed == contexts.pop(one)
            assert one.limit - one.emitted == left.pop(one)
        if not contexts:
            continue
        needing = sorted((s for s in contexts if contexts[s] % block == 0), key=lambda s: s.order)
        assert list(pool.needing()) == needing
        step = pool.advance()
        contexts = {s: context + 1 for s, context in contexts.items()}
        left = {s: tokens - 1 for s, tokens in left.items()}
        assert step.context == sum(contexts.values())
        assert step.longest == max(contexts.values())
        assert step.generated == len(contexts)
        assert set(step.ended) == {s for s in left if not left[s]}
        for one in step.ended:
            del contexts[one], left[one]


def test_a_sequence_charges_time_to_a_cause_once() -> None:
    one = sequence(3, 3)
    one.charge("queue", 50)
    one.charge("preempted", 70)
    assert one.causes[CAUSE_AT["queue"]] == 50
    assert one.causes[CAUSE_AT["preempted"]] == 20
    assert one.causes.sum() == 70


def test_runs_are_closed_once_and_only_if_one_is_open() -> None:
    one = sequence(3, 3)
    one.close_run(4)
    one.run_from = 5
    one.close_run(7)
    one.close_run(9)
    assert one.record.emitted == [(5, 7)]
