"""A microscope scenario, checked: points, each a channel and what is asked of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sim.hardware.dram.address import DramMap
from sim.hardware.dram.controller import Controller
from sim.hardware.dram.timing import DramSpec
from sim.scenario.microscope_schema import PatternTable

Value = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternSpec:
    """A pattern at one place of the sweep: its kind and a single value for every key.

    Sizes are in bytes; keys are those of the kind's table in `microscope_schema`.
    """

    kind: str
    name: str
    values: Mapping[str, Value]

    def integer(self, key: str) -> int:
        """Return a whole number."""
        return int(self.values[key])

    def real(self, key: str) -> float:
        """Return a number."""
        return float(self.values[key])

    def text(self, key: str) -> str:
        """Return a word."""
        return str(self.values[key])


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The place of a point on one axis of its sweep: key, value, and the value as written."""

    key: str
    value: Value
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroPoint:
    """One run: a channel of a contestant and a pattern; `axes` has at most two."""

    contestant: str
    spec: DramSpec
    address_map: DramMap
    map_label: str
    controller: Controller
    pattern: PatternSpec
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroScenario:
    """All points in the order of the file: contestants, then patterns, then axes."""

    name: str
    title: str
    seed: int
    total_bytes: int
    contestants: tuple[str, ...]
    patterns: tuple[str, ...]
    points: tuple[MicroPoint, ...]
    report: bool
    timeline: bool


def table_of(pattern: PatternTable) -> dict[str, list[Value]]:
    """Return the values of a pattern's table that may be swept, each a list."""
    return {key: value for key, value in pattern if isinstance(value, list)}
