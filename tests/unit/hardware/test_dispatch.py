"""`sim.hardware.dispatch`: which CTAs run on which SM."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.dispatch import Slots, SmClass, dispatch
from sim.kernel.kernel import Kernel, Phase
from tests.unit.hardware.chips import cta, kernel, load, segment


def grid(kinds: Sequence[tuple[int, int]], *, ctas_per_sm: int = 1) -> Kernel:
    """Return a kernel with kinds of (count, bytes)."""
    return kernel(
        [cta(Phase(loads=(load(size),)), count=count) for count, size in kinds],
        [segment("w", 10**9)],
        ctas_per_sm=ctas_per_sm,
    )


def placed(kernel_: Kernel, sm_count: int) -> list[Slots]:
    """Return the slots of every SM that has any."""
    return [one.slots for one in dispatch(kernel_, sm_count, symmetry=False)]


def test_ctas_of_equal_work_go_round_robin() -> None:
    """Ten CTAs on four SMs: three, three, two, two."""
    assert placed(grid([(10, 1000)]), 4) == [
        ((0, 0, 0),),
        ((0, 0, 0),),
        ((0, 0),),
        ((0, 0),),
    ]


def test_the_second_slot_of_an_sm_comes_after_the_first_of_all() -> None:
    """Five CTAs on two SMs of two slots: places 0 to 3, then place 0 again."""
    assert placed(grid([(5, 1000)], ctas_per_sm=2), 2) == [((0, 0), (0,)), ((0,), (0,))]


def test_a_grid_smaller_than_the_chip_leaves_sms_out() -> None:
    """Three CTAs of a chip with four SMs, two slots each, take one slot of three."""
    assert placed(grid([(3, 1000)], ctas_per_sm=2), 4) == [((0,),), ((0,),), ((0,),)]


def test_kinds_keep_their_place_in_launch_order() -> None:
    """Kinds of about equal work: three of kind 0, then three of kind 1, over two SMs."""
    assert placed(grid([(3, 1000), (3, 1200)]), 2) == [((0, 0, 1),), ((0, 1, 1),)]


@pytest.mark.parametrize(
    ("size", "slots"),
    [
        # 4096 + 20480 is 1.5 x (4096 + 12288): about equal, so round robin.
        (20_480, [((0, 1, 1),), ((1, 1),)]),
        # A byte more and the second SM, with less work so far, gets the next CTA each time.
        (20_481, [((0, 1),), ((1, 1, 1),)]),
    ],
)
def test_unequal_work_goes_to_the_slot_with_the_least_so_far(size: int, slots: list[Slots]) -> None:
    """The switch is at a factor of 1.5 between the lightest and the heaviest CTA."""
    assert placed(grid([(1, size), (4, 12_288)]), 2) == slots


def test_greedy_hand_out_fills_first_slots_first() -> None:
    """Two SMs of two slots: the big CTA keeps SM 0's first slot, the rest go to free slots."""
    placed_slots = placed(grid([(1, 100_000), (5, 1000)], ctas_per_sm=2), 2)
    assert placed_slots == [((0,), (1, 1)), ((1, 1), (1,))]


def test_equal_sms_are_one_class() -> None:
    """Ten CTAs on four SMs are two classes of two."""
    assert dispatch(grid([(10, 1000)]), 4, symmetry=True) == (
        SmClass(multiplicity=2, slots=((0, 0, 0),)),
        SmClass(multiplicity=2, slots=((0, 0),)),
    )


def test_without_symmetry_every_sm_is_a_class() -> None:
    """The same work, one process each."""
    assert (
        dispatch(grid([(4, 1000)]), 4, symmetry=False)
        == (SmClass(multiplicity=1, slots=((0,),)),) * 4
    )


@given(
    kinds=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 10**6)), min_size=1, max_size=5),
    sm_count=st.integers(1, 9),
    ctas_per_sm=st.integers(1, 4),
)
def test_every_cta_runs_exactly_once(
    kinds: list[tuple[int, int]], sm_count: int, ctas_per_sm: int
) -> None:
    """Classes times multiplicity hold the grid, on no more SMs and slots than there are."""
    whole = grid(kinds, ctas_per_sm=ctas_per_sm)
    classes = dispatch(whole, sm_count, symmetry=True)
    counts = [0] * len(kinds)
    for one in classes:
        assert 0 < len(one.slots) <= ctas_per_sm
        for slot in one.slots:
            assert slot
            for index in slot:
                counts[index] += one.multiplicity
    assert counts == [count for count, _ in kinds]
    assert sum(one.multiplicity for one in classes) <= sm_count
