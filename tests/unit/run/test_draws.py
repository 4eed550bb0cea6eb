"""`sim.run.draws`: routing from the seed, the same whenever it is asked for."""

import pytest

from sim.run.draws import routing_draws
from sim.scenario.scenario import Routing, RoutingKind
from tests.unit.run.scenarios import contestant

MOE = "olmoe-1b-7b-0924"  # 64 experts, 8 a token


def test_a_dense_model_has_no_draws() -> None:
    """Nothing is drawn where nothing is routed."""
    assert routing_draws(0, contestant("qwen2.5-0.5b"), 16) == ()


def test_every_draw_routes_all_tokens() -> None:
    """Eight experts for each of 16 tokens, among 64, as many draws as asked for."""
    draws = routing_draws(0, contestant(MOE, routing=Routing(draws=5)), 16)
    assert len(draws) == 5
    assert all(len(draw) == 64 and sum(draw) == 128 and max(draw) <= 16 for draw in draws)
    assert len(set(draws)) == 5


def test_draws_depend_on_seed_and_tokens_and_on_nothing_else() -> None:
    """The same question has the same answer, in any order and process."""
    first = routing_draws(0, contestant(MOE), 16)
    assert routing_draws(1, contestant(MOE), 16) != first
    # Of 17 tokens, the first 16 do not choose as the 16 did.
    more = routing_draws(0, contestant(MOE), 17)
    assert any(b - a not in (0, 1) for a, b in zip(first[0], more[0], strict=True))
    assert routing_draws(0, contestant(MOE, name="another label"), 16) == first


def test_more_draws_begin_with_the_same_ones() -> None:
    """A finer average does not change what was drawn before."""
    few = routing_draws(0, contestant(MOE, routing=Routing(draws=2)), 16)
    many = routing_draws(0, contestant(MOE, routing=Routing(draws=4)), 16)
    assert many[:2] == few


def test_the_exponent_of_a_zipf_routing_skews_it() -> None:
    """The first expert gets more tokens than with an even routing."""
    steep = Routing(kind=RoutingKind.ZIPF, exponent=2.0, draws=1)
    flat = Routing(kind=RoutingKind.ZIPF, exponent=0.0, draws=1)
    (skewed,) = routing_draws(0, contestant(MOE, routing=steep), 256)
    (even,) = routing_draws(0, contestant(MOE, routing=flat), 256)
    assert skewed[0] > 200
    assert even[0] < 100


def test_given_counts_are_the_one_draw() -> None:
    """Measured routings are taken as they are."""
    counts = (16,) * 8 + (0,) * 56
    given = Routing(kind=RoutingKind.COUNTS, counts=counts)
    assert routing_draws(0, contestant(MOE, routing=given), 16) == (counts,)


def test_given_counts_that_do_not_add_up_are_refused() -> None:
    """The message has both sums."""
    given = Routing(kind=RoutingKind.COUNTS, counts=(16,) * 8 + (0,) * 56)
    with pytest.raises(ValueError, match=r"holds 128 tokens, not 15 tokens x top-8"):
        routing_draws(0, contestant(MOE, routing=given), 15)
