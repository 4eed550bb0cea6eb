"""`--set key=value`: changes to a scenario from the command line, before any check.

An overridden value keeps the place it came from, so that a problem with it names `--set key` and
not a line of the file that the person never wrote.
"""

import copy
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from sim.errors import Problem
from sim.toml_source import KeyPath, Mark, TomlSource, dotted, shown

_OPENS_TOML: Final = ("[", "{", '"', "'")


def apply_overrides(
    source: TomlSource, overrides: Iterable[str]
) -> tuple[TomlSource, list[Problem]]:
    """Return `source` with every `key=value` applied in order, and the Problems of doing so.

    A key is a dotted path whose numbers index lists; missing tables are made. A value is TOML,
    or a bare word that is taken as text.
    """
    problems: list[Problem] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        place = f"--set {key.strip()}"
        if not equals or not key.strip():
            problems.append(Problem(file=place, message="is no change", expected="KEY=VALUE"))
            continue
        mark = Mark(line=None, column=None, text=shown(text), file=place)
        try:
            source = _overridden(source, _path_of(key), _value_of(text), mark)
        except _OverrideError as error:
            problems.append(replace(error.problem, file=place))
    return source, problems


class _OverrideError(Exception):
    def __init__(self, message: str, expected: str | None = None) -> None:
        self.problem = Problem(file="", message=message, expected=expected)
        super().__init__(message)


def _path_of(key: str) -> KeyPath:
    steps = [step.strip() for step in key.split(".")]
    return tuple(int(step) if step.isdecimal() else step for step in steps)


def _value_of(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}", parse_float=Decimal)["value"]
    except tomllib.TOMLDecodeError as error:
        if text.strip().startswith(_OPENS_TOML) or not text.strip():
            message = f"has a value that is not TOML: {shown(text) or 'nothing'}"
            raise _OverrideError(message) from error
        return text.strip()


def _overridden(source: TomlSource, path: KeyPath, value: object, mark: Mark) -> TomlSource:
    data = copy.deepcopy(source.data)
    parent: Any = data
    for depth, step in enumerate(path[:-1]):
        parent = _entered(parent, step, path[:depth])
    _put(parent, path[-1], value, path[:-1])
    depth = len(path)
    made = {path[:n]: replace(mark, text=None) for n in range(1, depth)}
    values = {at: m for at, m in source.values.items() if at[:depth] != path}
    keys = {at: m for at, m in source.keys.items() if at[:depth] != path}
    return replace(
        source, data=data, values=made | values | {path: mark}, keys=made | keys | {path: mark}
    )


def _entered(parent: Any, step: str | int, path: KeyPath) -> Any:  # noqa: ANN401  (TOML data)
    if isinstance(parent, dict):
        return parent.setdefault(str(step), {})
    return parent[_index(parent, step, path)]


def _put(parent: Any, step: str | int, value: object, path: KeyPath) -> None:  # noqa: ANN401
    if isinstance(parent, dict):
        parent[str(step)] = value
    else:
        parent[_index(parent, step, path)] = value


def _index(parent: object, step: str | int, path: KeyPath) -> int:
    where = dotted(path)
    if not isinstance(parent, list):
        raise _OverrideError(f"leads into {where}, which is not a table or a list")
    if not isinstance(step, int) or step >= len(parent):
        message = f"has no entry {step}: {where} is a list of {len(parent)}"
        raise _OverrideError(message, f"an index from 0 to {len(parent) - 1}")
    return step
