"""`sim.hardware.slices`: the slice that most bytes lie behind decides."""

from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.slices import slices_of

SHARES = st.lists(
    st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any), min_size=2, max_size=4
)


def test_even_shares_need_no_slices() -> None:
    """Whatever the number of chunks a slice."""
    assert slices_of(((3, 3, 3), (1, 1, 1))) is None


def test_bytes_behind_one_of_four_slices_count_four_times() -> None:
    """Beside them, 400 B over all slices add their quarter to the same slice."""
    slices = slices_of(((0, 1, 0, 0), (1, 1, 1, 1)))
    assert slices is not None
    assert slices.equivalent([(0, 100)]) == 400
    assert slices.equivalent([(0, 100), (1, 400)]) == 800
    assert slices.equivalent([(1, 400)]) == 400
    assert slices.equivalent([]) == 0


@given(SHARES, st.lists(st.integers(0, 10**6), min_size=4, max_size=4))
def test_uneven_bytes_take_at_least_as_long_and_at_most_as_one_slice(
    shares: list[list[int]], sizes: list[int]
) -> None:
    """Between all bytes spread evenly and all of them behind one of four slices."""
    slices = slices_of(tuple(tuple(row) for row in shares))
    moved = [*enumerate(sizes[: len(shares)])]
    total = sum(size for _, size in moved)
    if slices is not None:
        assert total <= slices.equivalent(moved) <= 4 * total
