"""When a server was busy: a log of merged intervals that answers overlap questions."""

from bisect import bisect_right


class BusyLog:
    """Busy intervals of one first-come-first-served server, in ps, appended in time order."""

    __slots__ = ("_before", "_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._before: list[int] = []

    def add(self, start_ps: int, end_ps: int) -> None:
        """Append a busy interval; it must not start before the last one ended."""
        if self._ends and start_ps <= self._ends[-1]:
            self._ends[-1] = end_ps
            return
        total = self._before[-1] + self._ends[-1] - self._starts[-1] if self._ends else 0
        self._starts.append(start_ps)
        self._ends.append(end_ps)
        self._before.append(total)

    def until(self, time_ps: int) -> int:
        """Return the busy time before `time_ps`."""
        last = len(self._starts) - 1
        late = last >= 0 and time_ps >= self._starts[last]
        i = last if late else bisect_right(self._starts, time_ps) - 1
        if i < 0:
            return 0
        return self._before[i] + min(time_ps, self._ends[i]) - self._starts[i]

    def between(self, start_ps: int, end_ps: int) -> int:
        """Return the busy time within [start_ps, end_ps).

        >>> log = BusyLog(); log.add(10, 20); log.add(30, 40); log.between(15, 35)
        10
        """
        if self._ends and self._starts[-1] <= start_ps and end_ps <= self._ends[-1]:
            return end_ps - start_ps
        return self.until(end_ps) - self.until(start_ps)
