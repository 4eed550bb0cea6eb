"""The clock of the device: a SimPy environment whose time is an integer number of picoseconds."""

from typing import cast

import simpy


class Clock(simpy.Environment):
    """A SimPy environment in integer picoseconds, starting at 0."""

    def __init__(self) -> None:
        super().__init__(initial_time=0)

    @property
    def now(self) -> int:
        """Return the time in ps."""
        return cast(int, self._now)

    @property
    def events(self) -> int:
        """Return how many events have been scheduled; asking counts as one more."""
        return next(self._eid)
