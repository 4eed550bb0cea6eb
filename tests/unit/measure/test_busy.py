"""`sim.measure.busy`: a log of when a server was busy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.measure.busy import BusyLog


def log_of(*spans: tuple[int, int]) -> BusyLog:
    log = BusyLog()
    for start, end in spans:
        log.add(start, end)
    return log


def test_a_server_that_never_served_was_never_busy() -> None:
    """An empty log answers zero."""
    assert log_of().until(10) == 0
    assert log_of().between(0, 10) == 0


@pytest.mark.parametrize(
    ("time", "busy"),
    [(0, 0), (10, 0), (11, 1), (20, 10), (25, 10), (30, 10), (31, 11), (40, 20), (99, 20)],
)
def test_busy_time_counts_up_to_but_not_including_the_end(time: int, busy: int) -> None:
    """Busy in [10, 20) and [30, 40): the last picosecond of each counts, the next does not."""
    assert log_of((10, 20), (30, 40)).until(time) == busy


@pytest.mark.parametrize(
    ("start", "end", "busy"),
    [(0, 10, 0), (10, 20, 10), (15, 35, 10), (12, 18, 6), (20, 30, 0), (0, 100, 20), (7, 7, 0)],
)
def test_an_overlap_is_exact(start: int, end: int, busy: int) -> None:
    """Intervals that begin or end inside a busy span count their part of it."""
    assert log_of((10, 20), (30, 40)).between(start, end) == busy


def test_services_back_to_back_are_one_interval() -> None:
    """A queue that never empties grows one span."""
    log = log_of((0, 10), (10, 25), (25, 26), (27, 30))
    assert log.until(26) == 26
    assert log.between(26, 27) == 0
    assert log.until(100) == 29


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=30))
def test_the_log_agrees_with_counting_every_picosecond(gaps: list[tuple[int, int]]) -> None:
    """Against a set of busy picoseconds, for every interval with an end on either side."""
    log, busy, now = BusyLog(), set[int](), 0
    for gap, length in gaps:
        log.add(now + gap, now + gap + length)
        busy.update(range(now + gap, now + gap + length))
        now += gap + length
    for start in range(0, now + 2, 3):
        for end in range(start, now + 2, 5):
            assert log.between(start, end) == len(busy & set(range(start, end)))
