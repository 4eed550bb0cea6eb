"""`sim.serving.router`: which replica a request goes to."""

from collections.abc import Sequence

from sim.serving.router import RouterView, least_loaded, prefix_aware, round_robin


def view(loads: Sequence[int], hits: Sequence[int] = (), routed: int = 0) -> RouterView:
    return RouterView(routed=routed, loads=loads, hit_tokens=lambda n: hits[n] if hits else 0)


def test_round_robin_takes_each_in_turn_whatever_its_load() -> None:
    assert [round_robin(view([9, 0, 5], routed=n)) for n in range(5)] == [0, 1, 2, 0, 1]


def test_least_loaded_takes_the_first_of_the_idlest() -> None:
    assert least_loaded(view([4, 2, 2])) == 1


def test_prefix_aware_follows_the_longest_hit() -> None:
    assert prefix_aware(view([5, 0, 5], hits=[16, 0, 64])) == 2


def test_prefix_aware_takes_the_idler_of_equal_hits() -> None:
    assert prefix_aware(view([5, 3, 9], hits=[64, 64, 64])) == 1


def test_prefix_aware_takes_the_idlest_where_nothing_is_found() -> None:
    assert prefix_aware(view([5, 3, 9])) == 1


def test_prefix_aware_leaves_a_hit_alone_that_is_more_than_eight_requests_busier() -> None:
    assert prefix_aware(view([8, 0], hits=[64, 0])) == 0
    assert prefix_aware(view([9, 0], hits=[64, 0])) == 1
