"""From a microscope scenario's TOML to a `MicroScenario`, or to every problem at once."""

from pathlib import Path
from typing import Any, Final

from sim.checking import Checker
from sim.errors import ScenarioError, nearest
from sim.scenario.microscope_channels import Channels, Pattern, device_at
from sim.scenario.microscope_scenario import (
    MicroPoint,
    MicroScenario,
    Value,
    table_of,
)
from sim.scenario.microscope_schema import (
    KINDS,
    ChannelTable,
    MicroTable,
    PatternTable,
)
from sim.scenario.microscope_source import as_lists, as_written, swept_tables
from sim.toml_source import KeyPath

MIN_BYTES: Final = 4096
_DEFAULT: Final[dict[str, list[Value]]] = {"device": ["hbm3-5200"], "map": ["bglow_x"]}


def load_microscope(written: Checker, path: Path) -> MicroScenario:
    """Return the microscope scenario that `written`'s source describes; `path` is its file.

    Raises ScenarioError with every problem of the file and of the devices that it names.
    """
    checker = Checker(as_lists(written.source))
    table = checker.table(MicroTable)
    if table is not None and table.bytes < MIN_BYTES:
        checker.wrong(("bytes",), "is too small", expected=f"{MIN_BYTES} B or more")
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
            channels = Channels(checker, place, name, said, table.bytes)
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


def _refer_all(checker: Checker) -> None:
    """Note what is wrong with the devices of a file that is wrong elsewhere."""
    for place in swept_tables(checker.source):
        devices = checker.source.get((*place, "device"))
        for index, text in enumerate(devices if isinstance(devices, list) else []):
            if isinstance(text, str) and text:
                device_at(checker, (*place, "device", index), text)


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
