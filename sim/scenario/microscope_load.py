"""From a microscope scenario's TOML to a `MicroScenario`, or to every problem at once."""

from dataclasses import replace
from itertools import product
from math import gcd
from pathlib import Path
from typing import Any, Final

from sim.checking import Checker
from sim.errors import InputError, ScenarioError, nearest
from sim.hardware.dram.address import MAPS, DramMap, check_order
from sim.hardware.dram.controller import Controller
from sim.hardware.dram.timing import DramSpec, dram_files, load_dram
from sim.hardware.spec import load_chip
from sim.resources import chip_dirs, is_path, named_files
from sim.scenario.microscope_scenario import (
    Axis,
    MicroPoint,
    MicroScenario,
    PatternSpec,
    Value,
    table_of,
)
from sim.scenario.microscope_schema import (
    ELEMENT_BITS,
    KINDS,
    PRESETS,
    ChannelTable,
    MicroTable,
    PatternTable,
)
from sim.scenario.microscope_source import as_lists, as_written, swept_tables
from sim.toml_source import KeyPath, shown

MAX_AXES: Final = 2
MAX_POINTS: Final = 1000
_DEFAULT: Final[dict[str, list[Value]]] = {"device": ["hbm3-5200"], "map": ["bglow_x"]}
# The device whose table stands for a chip's type of memory: the fastest one with a public table.
_OF_TYPE: Final = {
    "HBM2": "hbm2-2400", "HBM2e": "hbm2e-3200", "HBM3": "hbm3-5200", "HBM3e": "hbm3e-9200",
    "GDDR6": "gddr6-14000", "GDDR6X": "gddr6x-19000", "LPDDR5": "lpddr5-6400", "DDR5": "ddr5-4800",
}  # fmt: skip
_TIMES: Final = {"row_timeout": "row_timeout_ps", "age_bound": "age_bound_ps"}
_NOT_CONTROLLER: Final = ("device", "map", "order", "hash", "preset", "name")


def load_microscope(written: Checker, path: Path) -> MicroScenario:
    """Return the microscope scenario that `written`'s source describes; `path` is its file.

    Raises ScenarioError with every problem of the file and of the devices that it names.
    """
    checker = Checker(as_lists(written.source))
    table = checker.table(MicroTable)
    patterns = _patterns(checker)
    places: list[KeyPath] = (
        [("contestants", i) for i in range(len(table.contestants))] if table else []
    )
    if table is not None:
        _check_names(checker, table)
    if table is None or None in patterns:
        _refer_all(checker)
    points: list[MicroPoint] = []
    if table is not None and None not in patterns:
        for index in range(max(1, len(places))):
            place = places[index] if places else ("channel",)
            own = table.contestants[index] if places else None
            said = _said(table.channel, own)
            name = own.name if own else str(said["device"][0])
            channels = _Channels(checker, place, name, said)
            points += channels.points([p for p in patterns if p is not None])
    found = [*written.problems, *(as_written(p, written.source) for p in checker.problems)]
    if table is None or found or not points:
        written.problems[:] = list(dict.fromkeys(found))
        raise written.error(ScenarioError)
    return MicroScenario(
        name=path.stem,
        title=table.title,
        seed=table.seed,
        total_bytes=table.bytes,
        contestants=tuple(dict.fromkeys(point.contestant for point in points)),
        patterns=tuple(dict.fromkeys(point.pattern.name for point in points)),
        points=tuple(points),
        report=table.report.report,
        timeline=table.report.timeline,
    )


def _said(channel: ChannelTable, own: ChannelTable | None) -> dict[str, list[Any]]:
    """Return what is said of a channel, by the contestant or else by `[channel]`."""
    common = channel.model_dump(exclude_none=True)
    mine = own.model_dump(exclude_none=True, exclude={"name"}) if own else {}
    if "order" in mine:
        common.pop("map", None)
    if "map" in mine:
        common.pop("order", None)
        common.pop("hash", None)
    said = common | mine
    if "order" in said:
        return {"device": _DEFAULT["device"], "hash": ["none"], **said}
    return {**_DEFAULT, **said}


Pattern = tuple[int, str, str, dict[str, list[Value]]]


def _patterns(checker: Checker) -> list[Pattern | None]:
    """Return place, kind, name and values of every pattern, None where one is wrong."""
    entries = checker.source.get(("patterns",))
    found: list[Pattern | None] = []
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        place = ("patterns", index)
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or kind not in KINDS:
            likely = nearest(kind, tuple(KINDS)) if isinstance(kind, str) else None
            message = "is missing" if kind is None else "unknown kind of pattern"
            expected = f"one of {', '.join(KINDS)}"
            checker.wrong((*place, "kind"), message, expected=expected, likely=likely)
            found.append(None)
            continue
        table = checker.table(KINDS[kind], place)
        found.append(_pattern(checker, index, kind, table) if table else None)
    return found


def _pattern(checker: Checker, index: int, kind: str, table: PatternTable) -> Pattern:
    values = table_of(table)
    place = ("patterns", index)
    if "touched" in values:
        most = min(int(n) for n in values["experts"])
        if any(int(n) > most for n in values["touched"]):
            message, expected = "is more than there are experts", f"at most {most}"
            checker.wrong((*place, "touched"), message, expected=expected)
    for key, listed in values.items():
        if len(set(listed)) < len(listed) or not listed:
            expected = "different values, one at least"
            checker.wrong((*place, key), "is not an axis", expected=expected)
    return index, kind, table.name or kind, values


def _device(checker: Checker, path: KeyPath, text: str) -> DramSpec | None:
    """Return the device of that name, or of a chip's memory; None after noting why not."""
    known, chips = dram_files(), named_files(chip_dirs())
    try:
        if text in known or is_path(text):
            return load_dram(text)
        if text in chips:
            kind = load_chip(text, chip_dirs()).hbm_type
            if kind in _OF_TYPE:
                return load_dram(_OF_TYPE[kind])
            message = f"has {kind}, of which there is no timing table"
            checker.wrong(path, message, expected=f"one of {', '.join(known)}")
            return None
    except InputError as error:
        checker.refer(path, text, error)
        return None
    expected = f"a chip, a path or one of {', '.join(known)}"
    likely = nearest(text, (*known, *chips))
    checker.wrong(path, "unknown DRAM device", expected=expected, likely=likely)
    return None


def _refer_all(checker: Checker) -> None:
    """Note what is wrong with the devices of a file that is wrong elsewhere."""
    for place in swept_tables(checker.source):
        devices = checker.source.get((*place, "device"))
        for index, text in enumerate(devices if isinstance(devices, list) else []):
            if isinstance(text, str) and text:
                _device(checker, (*place, "device", index), text)


def _check_names(checker: Checker, table: MicroTable) -> None:
    names = [contestant.name for contestant in table.contestants]
    for index, name in enumerate(names):
        if name in names[:index]:
            checker.wrong(("contestants", index, "name"), "is used twice", expected="another name")
    entries: Any = table.patterns
    called = [e.get("name") or e.get("kind") for e in entries if isinstance(e, dict)]
    for index, called_name in enumerate(called):
        if called_name in called[:index]:
            path = ("patterns", index, "name" if "name" in entries[index] else "kind")
            checker.wrong(path, "is used twice", expected="another name")


class _Channels:
    """The channels of one contestant, along what is swept of them, and what they are asked."""

    def __init__(
        self, checker: Checker, place: KeyPath, name: str, said: dict[str, list[Any]]
    ) -> None:
        self._checker, self._place, self._name, self._said = checker, place, name, said
        self._specs = [self._device(index, text) for index, text in enumerate(said["device"])]
        self._order = tuple(said.get("order", ()))
        wrong = check_order(self._order) if self._order else None
        if "map" in said and "order" in said:
            checker.wrong(self._at("order"), "stands beside map", expected="one of them")
        elif wrong:
            checker.wrong(self._at("order"), wrong)
        elif "map" in said and "hash" in said:
            checker.wrong(self._at("hash"), "stands beside map", expected="an order, or no hash")

    def points(self, patterns: list[Pattern]) -> list[MicroPoint]:
        """Return the points of all patterns; nothing where something is wrong."""
        swept = {key: values for key, values in self._said.items() if key != "order"}
        found: list[MicroPoint] = []
        for index, kind, name, values in patterns:
            place: KeyPath = ("patterns", index)
            both = {**swept, **values}
            axes = [key for key, listed in both.items() if len(listed) > 1]
            if len(axes) > MAX_AXES:
                message = f"is swept along {len(axes)} axes: {', '.join(axes)}"
                self._checker.wrong(place, message, expected=f"at most {MAX_AXES} lists")
                continue
            combinations = [dict(zip(both, c, strict=True)) for c in product(*both.values())]
            for chosen in combinations:
                at = tuple(
                    Axis(key=k, value=chosen[k], label=self._label(place, k, both[k], chosen[k]))
                    for k in axes
                )
                spec = PatternSpec(kind=kind, name=name, values={k: chosen[k] for k in values})
                if point := self._point(spec, chosen, at, place):
                    found.append(point)
        return found

    def _at(self, key: str) -> KeyPath:
        own = (*self._place, key)
        return own if self._checker.source.get(own) is not None else ("channel", key)

    def _device(self, index: int, text: str) -> DramSpec | None:
        return _device(self._checker, (*self._at("device"), index), text)

    def _label(self, place: KeyPath, key: str, listed: list[Any], value: Any) -> str:  # noqa: ANN401
        index = listed.index(value)
        for path in ((*place, key, index), (*self._at(key), index)):
            if mark := self._checker.source.values.get(path):
                return (mark.text or str(value)).strip("\"'")
        return shown(str(value))

    def _point(
        self, pattern: PatternSpec, chosen: dict[str, Any], axes: tuple[Axis, ...], place: KeyPath
    ) -> MicroPoint | None:
        spec = self._specs[self._said["device"].index(chosen["device"])]
        controller = self._controller(chosen)
        if spec is None or controller is None or not self._fits(pattern, spec, place):
            return None
        own = DramMap(order=self._order, hash=chosen["hash"]) if self._order else None
        return MicroPoint(
            contestant=self._name,
            spec=spec,
            address_map=own or MAPS[chosen["map"]],
            map_label=f"own order, hash {chosen['hash']}" if own else chosen["map"],
            controller=controller,
            pattern=pattern,
            axes=axes,
        )

    def _controller(self, chosen: dict[str, Any]) -> Controller | None:
        base = PRESETS[chosen.get("preset", "default")]
        keys = [k for k in ChannelTable.model_fields if k in chosen and k not in _NOT_CONTROLLER]
        try:
            return replace(base, **{_TIMES.get(key, key): chosen[key] for key in keys})
        except ValueError as error:
            at = next((k for k in keys if k.startswith("write_")), "write_queue")
            self._checker.wrong(self._at(at), str(error).rstrip("."))
            return None

    def _fits(self, pattern: PatternSpec, spec: DramSpec, place: KeyPath) -> bool:
        """Note where a granule is no whole number of the device's accesses."""
        access, o = spec.organisation.access_bytes, spec.organisation
        for key in ("chunk", "interleave"):
            size = pattern.values.get(key)
            if size is not None and int(size) % access:
                self._checker.wrong(
                    (*place, key), "is no whole number of accesses",
                    expected=f"a multiple of {access} B, what {spec.name} moves at once",
                )  # fmt: skip
                return False
        if int(pattern.values.get("chunk", 0)) > o.row_bytes * o.banks:
            self._checker.wrong(
                (*place, "chunk"), "is too large", expected="less than a row of all banks"
            )
            return False
        width = pattern.values.get("tile_k") or pattern.values.get("head_dim")
        bits = ELEMENT_BITS[pattern.text("format")] if "format" in pattern.values else 0
        if width is not None and gcd(int(width) * bits, 8 * access) < 8 * access:
            key = "tile_k" if "tile_k" in pattern.values else "head_dim"
            self._checker.wrong(
                (*place, key), "makes rows that are no whole number of accesses",
                expected=f"a multiple of {8 * access // bits} elements",
            )  # fmt: skip
            return False
        return True
