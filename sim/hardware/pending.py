"""An answer that comes later: what a bank-level memory returns."""

from collections.abc import Callable

from sim.measure.busy import BusyLog

Answered = Callable[[int, BusyLog], None]


class Pending:
    """A request in `parts` channels; `then` is called when the last one's end is known."""

    __slots__ = ("_busy", "_done_ps", "_parts", "_then")

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._done_ps = -1
        self._busy: BusyLog | None = None
        self._then: Answered | None = None

    def then(self, answered: Answered) -> None:
        """Set who is told when the last read is done, and the log of the channel it was in."""
        self._then = answered

    def part_done(self, busy: BusyLog, done_ps: int) -> None:
        """Take the end of one channel's part."""
        if done_ps > self._done_ps:
            self._done_ps, self._busy = done_ps, busy
        self._parts -= 1
        if not self._parts and self._then is not None and self._busy is not None:
            self._then(self._done_ps, self._busy)
