"""What all figures share: their record, and ways to look into a result."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from matplotlib.figure import Figure

from sim.run.answer import cells, representative
from sim.run.result import PointResult, Result

TIME_UNITS: Final = MappingProxyType({"us": 10**6, "ms": 10**9, "s": 10**12})


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One kind of figure: how to draw it, and what it shows in one computed sentence.

    `draw` must not change global state; it is called inside `analysis.style.styled`.
    """

    name: str
    draw: Callable[[Result], Figure]
    caption: Callable[[Result], str]


class Board:
    """A result by contestant, batch and context."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.names = tuple(c.name for c in result.contestants)
        self.batches = tuple(sorted(set(result.batches)))
        self.contexts = tuple(sorted(set(result.contexts)))
        self._points = {(p.contestant, p.batch, p.context): p for p in result.points}
        self.fitting = tuple(p for p in result.points if p.fits)

    def at(self, name: str, batch: int, context: int) -> PointResult | None:
        """Return a point, or None if the run does not have it."""
        return self._points.get((name, batch, context))

    def middle_context(self) -> int:
        """Return the context to show when only one can be shown."""
        return representative(self.result.points, 1) if self.result.points else 0

    def middle_batch(self) -> int:
        """Return the batch to show when only one can be shown."""
        return representative(self.result.points, 0) if self.result.points else 0

    def shown_contexts(self) -> tuple[int, ...]:
        """Return up to three contexts: smallest, middle and largest at which anything fits."""
        fitting = sorted({p.context for p in self.fitting}) or list(self.contexts)
        if not fitting:
            return ()
        middle = self.middle_context()
        if middle in (fitting[0], fitting[-1]):
            middle = fitting[(len(fitting) - 1) // 2]
        return tuple(sorted({fitting[0], middle, fitting[-1]}))

    def along_batches(self, name: str, context: int) -> tuple[PointResult, ...]:
        """Return the fitting points of one contestant at one context, by batch."""
        found = cells(self.result.points, name)
        return tuple(point for (_, c), point in found.items() if c == context)

    def heading(self) -> str:
        """Return what every figure says under its title."""
        result = self.result
        return f"{result.chip.title} · {result.engine} · {result.phase}"


def time_unit(times_ps: Iterable[int]) -> tuple[str, int]:
    """Return the unit in which most of `times_ps` read well, and its picoseconds."""
    ordered = sorted(times_ps)
    middle = ordered[len(ordered) // 2] if ordered else TIME_UNITS["ms"]
    unit = "us" if middle < TIME_UNITS["ms"] // 10 else "ms" if middle < TIME_UNITS["s"] else "s"
    return unit, TIME_UNITS[unit]


def three_digits(value: float) -> str:
    """Return a number with three significant digits, below 1 with two, and no exponent.

    >>> three_digits(0.0123), three_digits(13), three_digits(12345.6)
    ('0.012', '13.0', '12,346')
    """
    if value >= 99.95:  # noqa: PLR2004
        return f"{value:,.0f}"
    text = f"{value:#.3g}" if value >= 1 else f"{value:#.2g}"
    return text if "e" not in text else f"{value:.5f}"


def bytes_by_class(point: PointResult) -> dict[str, int]:
    """Return the HBM bytes of a step by traffic class, both directions together."""
    sizes: dict[str, int] = {}
    for row in point.traffic:
        if row.level == "hbm":
            sizes[row.traffic] = sizes.get(row.traffic, 0) + row.size_bytes
    return sizes


def largest(shares: dict[str, int]) -> tuple[str, float]:
    """Return the key with the largest value, and its share of the sum (0 if all are 0)."""
    if not shares:
        return "", 0.0
    key = max(shares, key=lambda k: shares[k])
    return key, shares[key] / max(1, sum(shares.values()))


def sentence(clauses: Sequence[str], start: str) -> str:
    """Join clauses to one sentence after `start`."""
    return f"{start} {'; '.join(clauses)}." if clauses else "No point fits, so there is no bar."
