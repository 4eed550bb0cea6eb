"""Batches that stand for all of one number, mean and spread."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.serving.lengths import spread_behind, spread_of, unequal


@given(count=st.integers(1, 300), mean=st.floats(50.0, 20_000.0), spread=st.floats(0.0, 1.5))
def test_sequences_and_tokens_are_conserved(count: int, mean: float, spread: float) -> None:
    groups = unequal(count, mean, spread)
    assert sum(group.count for group in groups) == count
    total = sum(group.count * group.context for group in groups)
    assert total == pytest.approx(count * mean, abs=count)


def test_without_a_spread_all_are_one_group() -> None:
    (group,) = unequal(7, 100.0, 0.0)
    assert (group.count, group.q_len, group.context) == (7, 1, 100)


def test_contexts_rise_and_the_longest_is_alone() -> None:
    groups = unequal(40, 1000.0, 0.6)
    contexts = [group.context for group in groups]
    assert contexts == sorted(contexts)
    assert groups[-1].count == 1


@pytest.mark.parametrize("count", [4, 8])
def test_few_sequences_have_the_spread_that_was_asked_for(count: int) -> None:
    groups = unequal(count, 10_000.0, 0.5)
    total = sum(group.count * group.context for group in groups)
    squares = sum(group.count * group.context**2 for group in groups)
    assert spread_of(count, total, squares) == pytest.approx(0.5, abs=0.01)


def test_the_spread_of_equal_numbers_is_none() -> None:
    assert spread_of(5, 500, 50_000) == 0.0


def test_of_two_sequences_the_longest_tells_the_spread() -> None:
    """3 and 1: mean 2, deviation 1."""
    assert spread_behind(2, 1.5) == pytest.approx(spread_of(2, 4, 10), rel=0.01)


@pytest.mark.parametrize("count", [8, 50, 200])
def test_the_longest_of_usual_lengths_tells_about_their_spread(count: int) -> None:
    groups = unequal(count, 1000.0, 0.5)
    assert spread_behind(count, groups[-1].context / 1000.0) == pytest.approx(0.5, rel=0.4)


def test_the_longest_tells_nothing_of_one_sequence() -> None:
    assert spread_behind(1, 1.0) == 0.0
