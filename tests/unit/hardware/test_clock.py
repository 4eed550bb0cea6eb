"""`sim.hardware.clock`: integer picoseconds from zero, and a count of events."""

from sim.hardware.clock import Clock


def test_time_starts_at_zero_and_stays_an_integer() -> None:
    """A timeout of n ps ends n ps later, as an int."""
    clock = Clock()
    assert clock.now == 0
    clock.timeout(7)
    clock.run()
    assert clock.now == 7
    assert type(clock.now) is int


def test_times_beyond_the_precision_of_floats_are_exact() -> None:
    """One picosecond still counts after two weeks, where a float would have lost it."""
    clock = Clock()
    fortnight_ps = 14 * 86_400 * 10**12
    clock.timeout(fortnight_ps)
    clock.run()
    clock.timeout(1)
    clock.run()
    assert clock.now == fortnight_ps + 1


def test_every_scheduled_event_is_counted() -> None:
    """Two timeouts are two events; asking is one more each time."""
    clock = Clock()
    clock.timeout(1)
    clock.timeout(2)
    assert clock.events == 2
    assert clock.events == 3
