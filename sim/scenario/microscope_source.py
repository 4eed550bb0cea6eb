"""Single values of a microscope scenario as lists of one, so that any of them may be swept."""

from dataclasses import replace
from typing import Any, Final

from sim.errors import Problem
from sim.toml_source import KeyPath, TomlSource

_PLAIN: Final = ("kind", "name")
Tables = list[KeyPath]


def swept_tables(source: TomlSource) -> Tables:
    """Return the places of the tables whose values may be lists."""
    found: Tables = [("channel",)]
    for listed in ("contestants", "patterns"):
        entries = source.get((listed,))
        if isinstance(entries, list):
            found += [(listed, index) for index in range(len(entries))]
    return [path for path in found if isinstance(source.get(path), dict)]


def as_lists(source: TomlSource) -> TomlSource:
    """Return `source` with a list of one in place of every single value that could be swept."""
    values = dict(source.values)
    data = _copied(source.data)
    for path in swept_tables(source):
        table: Any = data
        for step in path:
            table = table[step]
        for key, value in list(table.items()):
            if key in _PLAIN or isinstance(value, list | dict):
                continue
            table[key] = [value]
            if mark := values.get((*path, key)):
                values[(*path, key, 0)] = mark
    return replace(source, data=data, values=values)


def as_written(problem: Problem, source: TomlSource) -> Problem:
    """Return `problem` without the index of a value that stands alone in the file."""
    key, _, last = problem.key.rpartition(".")
    if last != "0":
        return problem
    path: KeyPath = tuple(int(step) if step.isdigit() else step for step in key.split("."))
    value = source.get(path)
    return problem if value is None or isinstance(value, list) else replace(problem, key=key)


def _copied(data: Any) -> Any:  # noqa: ANN401 - any TOML value
    if isinstance(data, dict):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list) else data
