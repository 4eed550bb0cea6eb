"""The clock of the device: a SimPy environment whose time is an integer number of picoseconds."""

from collections.abc import Callable
from heapq import heappop
from typing import Any, cast

import simpy

# After every normal event of the same instant.
LAST = 3


class Clock(simpy.Environment):
    """A SimPy environment in integer picoseconds, starting at 0.

    `time_ps` is `now` as a plain attribute, which is read millions of times.
    """

    def __init__(self) -> None:
        super().__init__(initial_time=0)
        self.time_ps = 0

    @property
    def now(self) -> int:
        """Return the time in ps."""
        return cast(int, self._now)

    @property
    def events(self) -> int:
        """Return how many events have been scheduled; asking counts as one more."""
        return next(self._eid)

    def run(self) -> None:  # type: ignore[override]
        """Process every event: SimPy's loop without what the device has no use for."""
        queue = self._queue
        while queue:
            time_ps, _, _, event = heappop(queue)
            self._now = self.time_ps = cast(int, time_ps)
            callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
            for callback in callbacks:
                callback(event)
            if not event._ok:
                raise cast(BaseException, event._value)


class Recurring(simpy.Event):
    """An event that happens again and again, after all normal ones of its instant."""

    __slots__ = ("_callbacks",)

    def __init__(self, env: Clock, callback: Callable[[simpy.Event], Any]) -> None:
        super().__init__(env)
        self._callbacks = callback
        self._ok, self._value = True, None

    def call(self) -> None:
        """Happen at the end of this instant; it must not be on its way already."""
        self.callbacks = [self._callbacks]
        self.env.schedule(self, LAST)  # type: ignore[arg-type]
