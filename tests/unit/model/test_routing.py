"""Routing draws and their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.model.routing import ROUTINGS, check_counts, draw_routing, expected_distinct_experts


@st.composite
def routings(draw: st.DrawFn) -> dict[str, int]:
    """Draw how many tokens choose how many of how many experts."""
    n_experts = draw(st.integers(1, 64))
    return {
        "tokens": draw(st.integers(1, 200)),
        "n_experts": n_experts,
        "top_k": draw(st.integers(1, n_experts)),
    }


@given(
    name=st.sampled_from(sorted(ROUTINGS)),
    sizes=routings(),
    exponent=st.floats(0, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_draw_conserves_tokens_and_gives_no_expert_more_than_all(
    name: str, sizes: dict[str, int], exponent: float, seed: int
) -> None:
    """The counts sum to tokens times top-k; experts of one token are distinct."""
    counts = draw_routing(name, **sizes, rng=np.random.default_rng(seed), exponent=exponent)
    assert sum(counts) == sizes["tokens"] * sizes["top_k"]
    assert len(counts) == sizes["n_experts"]
    assert all(0 <= count <= sizes["tokens"] for count in counts)
    check_counts(counts, **sizes)


@given(sizes=routings())
def test_balanced_counts_differ_by_one_at_most(sizes: dict[str, int]) -> None:
    """No routing is more even."""
    counts = draw_routing("balanced", **sizes, rng=np.random.default_rng(0))
    assert max(counts) - min(counts) <= 1


@given(sizes=routings(), seed=st.integers(0, 2**32 - 1))
def test_the_same_seed_draws_the_same_counts(sizes: dict[str, int], seed: int) -> None:
    """A draw depends on its generator and nothing else."""
    first, second = (
        draw_routing("uniform", **sizes, rng=np.random.default_rng(seed)) for _ in range(2)
    )
    assert first == second


def test_uniform_draws_hit_as_many_experts_as_the_closed_form_says() -> None:
    """E(1 - (1 - k/E)^n) for 128 experts, top-8, 16 tokens: 82.4."""
    sizes = {"tokens": 16, "n_experts": 128, "top_k": 8}
    rng = np.random.default_rng(7)
    distinct = [np.count_nonzero(draw_routing("uniform", **sizes, rng=rng)) for _ in range(400)]
    expected = expected_distinct_experts(**sizes)
    assert expected == pytest.approx(82.42, abs=0.01)
    assert np.mean(distinct) == pytest.approx(expected, rel=0.01)


def test_zipf_favours_the_first_experts_and_exponent_zero_none() -> None:
    """Counts fall with the rank; without an exponent the draw is uniform."""
    sizes = {"tokens": 20_000, "n_experts": 16, "top_k": 2}
    skewed = draw_routing("zipf", **sizes, rng=np.random.default_rng(1), exponent=1.2)
    assert list(skewed) == sorted(skewed, reverse=True)
    flat = draw_routing("zipf", **sizes, rng=np.random.default_rng(1), exponent=0.0)
    assert flat == draw_routing("uniform", **sizes, rng=np.random.default_rng(1))
    assert max(flat) / min(flat) < 1.1


@pytest.mark.parametrize(
    ("routing", "message"),
    [
        ("random", "unknown routing 'random': expected one of uniform, balanced, zipf"),
        ((1, 1), "has 2 counts for 4 experts"),
        ((1, 1, 1, 1), "holds 4 tokens, not 3 tokens x top-2"),
        ((4, 2, 0, 0), "gives an expert 4 (least 0) of 3 tokens: expected 0 to 3"),
    ],
)
def test_a_routing_that_cannot_be_is_refused(routing: str | tuple[int, ...], message: str) -> None:
    """Given counts are checked by the same laws that draws obey."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        draw_routing(routing, tokens=3, n_experts=4, top_k=2, rng=np.random.default_rng(0))
    assert message in str(caught.value)


def test_given_counts_are_taken_as_they_are() -> None:
    """Measured routings can be replayed."""
    counts = draw_routing([3, 2, 1, 0], tokens=3, n_experts=4, top_k=2, rng=np.random.default_rng())
    assert counts == (3, 2, 1, 0)


def test_more_choices_than_experts_are_refused() -> None:
    """top_k is named with its bound."""
    with pytest.raises(ValueError, match=r"top_k \(= 5\) must be between 1 and 4 experts"):
        draw_routing("uniform", tokens=1, n_experts=4, top_k=5, rng=np.random.default_rng(0))
