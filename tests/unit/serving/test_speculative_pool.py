"""`sim.serving.speculative_pool`: several tokens a step."""

import math

import pytest

from sim.serving.config import Speculation
from sim.serving.request import Request
from sim.serving.sequence import ServedSequence
from sim.serving.speculative_pool import SpeculativePool


def sequence(index: int, prompt: int, limit: int) -> ServedSequence:
    request = Request(index=index, arrival_ps=0, input_tokens=prompt, output_tokens=limit)
    found = ServedSequence(request, 0, limit)
    found.emitted, found.order = 1, index
    return found


def pool_of(tokens: int, *acceptance: float, seed: int = 0) -> SpeculativePool:
    return SpeculativePool(Speculation(draft_tokens=tokens, acceptance=acceptance), seed)


def drain(pool: SpeculativePool, *sequences: ServedSequence) -> list[list[int]]:
    for one in sequences:
        pool.join(one)
    while len(pool):
        pool.advance()
    return [one.record.tokens_per_step for one in sequences]


def test_if_no_guess_holds_a_step_gives_one_token() -> None:
    assert drain(pool_of(3, 0.0), sequence(0, 5, 6)) == [[1] * 5]


def test_if_all_guesses_hold_a_step_gives_one_more_than_was_guessed() -> None:
    assert drain(pool_of(3, 1.0), sequence(0, 5, 9)) == [[4, 4]]


def test_no_sequence_gets_more_than_it_asks_for() -> None:
    one = sequence(0, 5, 7)
    assert drain(pool_of(3, 1.0), one) == [[4, 2]]
    assert (one.emitted, one.computed) == (7, 11)


def test_each_guess_has_its_own_chance() -> None:
    assert drain(pool_of(3, 1.0, 0.0), sequence(0, 5, 7)) == [[2, 2, 2]]


def test_contexts_count_the_guesses() -> None:
    pool = pool_of(3, 0.0)
    one, two = sequence(0, 5, 9), sequence(1, 10, 3)
    pool.join(one)
    pool.join(two)
    assert pool.context_of(one) == 9
    assert pool.advance() == (9 + 14, 14, 81 + 196, 2, [])
    assert pool.advance() == (10 + 15, 15, 100 + 225, 2, [two])
    assert pool.advance() == (11, 11, 121, 1, [])


def test_those_that_may_need_a_block_come_first_admitted_first() -> None:
    pool = pool_of(2, 0.5)
    early, late = sequence(1, 5, 9), sequence(2, 5, 9)
    pool.join(late)
    pool.join(early)
    assert pool.needing() == [early, late]


def test_which_guesses_hold_does_not_depend_on_who_else_decodes() -> None:
    alone = drain(pool_of(4, 0.7), sequence(3, 5, 200))[0]
    beside = drain(pool_of(4, 0.7), sequence(1, 9, 100), sequence(3, 5, 200))[1]
    assert alone == beside
    assert drain(pool_of(4, 0.7, seed=1), sequence(3, 5, 200))[0] != alone


def test_a_sequence_that_leaves_and_comes_back_goes_on_with_its_draws() -> None:
    straight = drain(pool_of(4, 0.7), sequence(0, 5, 100))[0]
    pool, one = pool_of(4, 0.7), sequence(0, 5, 100)
    pool.join(one)
    pool.advance()
    pool.leave(one)
    assert one.computed == 5 + straight[0]
    one.target = one.computed
    assert drain(pool, one)[0] == straight


@pytest.mark.parametrize("chance", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("tokens", [1, 3, 7])
def test_the_mean_is_that_of_a_geometric_law_cut_off(chance: float, tokens: int) -> None:
    """(1 - a^(n + 1)) / (1 - a) for n guesses: Leviathan et al., arXiv:2211.17192, equation 1."""
    given = drain(pool_of(tokens, chance), sequence(0, 5, 20_000))[0][:-1]
    mean = sum(given) / len(given)
    error = math.sqrt(sum((n - mean) ** 2 for n in given) / len(given) / len(given))
    assert mean == pytest.approx((1 - chance ** (tokens + 1)) / (1 - chance), abs=4 * error)
    assert error < 0.01 * mean
