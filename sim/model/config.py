"""A config.json as a typed mapping that collects every problem instead of raising at the first."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sim.errors import ModelError, Problem, nearest

PLACEHOLDER: Final = 1
"""Stands in for a value that is missing or wrong, so that reading can go on."""


class _Required:
    """The absence of a default."""


REQUIRED: Final = _Required()

SHOWN_CHARACTERS: Final = 60
"""Longer values are cut in messages."""


class Config:
    """Reads fields of one file; every accessor names the key and what was expected.

    Problems pile up in `problems`; whoever builds from a Config must call `finish` and must not
    use what was built if it raises.
    """

    def __init__(
        self, data: Mapping[str, Any], *, file: str, name: str = "", prefix: str = ""
    ) -> None:
        self.file = file
        self.name = name
        self.problems: list[Problem] = []
        self._data = data
        self._prefix = prefix

    def __contains__(self, key: str) -> bool:
        """Tell whether the key is there with a value that is not null."""
        return self._data.get(key) is not None

    def is_null(self, key: str) -> bool:
        """Tell whether the key is there with the value null, which is not the same as absent."""
        return key in self._data and self._data[key] is None

    def with_defaults(self, **defaults: object) -> "Config":
        """Return this file with class defaults for absent keys; problems stay shared."""
        config = Config(
            defaults | dict(self._data), file=self.file, name=self.name, prefix=self._prefix
        )
        config.problems = self.problems
        return config

    def integer(self, *keys: str, default: int | _Required = REQUIRED, least: int = 1) -> int:
        """Return the first of `keys` that is there as an integer of at least `least`."""
        expected = f"an integer of at least {least}"
        key = self._first(keys)
        if key is None:
            return self._absent(keys, default, expected)
        value = self._data[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.wrong(key, f"is not {expected}", expected=expected)
            return PLACEHOLDER
        return value

    def integer_or_auto(self, key: str, *, default: int) -> int:
        """Return an integer, and `default` if the key is absent or the text "auto"."""
        return default if self._data.get(key) == "auto" else self.integer(key, default=default)

    def fraction(self, key: str, *, default: float) -> float:
        """Return a number that is not negative."""
        if key not in self:
            return default
        value = self._data[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < math.inf:
            self.wrong(key, "is not a number of at least 0", expected="a number of at least 0")
            return default
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        if key not in self:
            return default
        value = self._data[key]
        if not isinstance(value, bool):
            self.wrong(key, "is not a boolean", expected="true or false")
            return default
        return value

    def word(self, key: str, *, default: str) -> str:
        """Return a text."""
        if key not in self:
            return default
        value = self._data[key]
        if not isinstance(value, str):
            self.wrong(key, "is not a text", expected="a text")
            return default
        return value

    def words(self, *keys: str, known: Sequence[str]) -> tuple[str, ...] | None:
        """Return a list of texts out of `known`, None if no such key is there."""
        key = self._first(keys)
        if key is None:
            return None
        value = self._data[key]
        expected = f"a list of {', '.join(known)}"
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            self.wrong(key, "is not a list of texts", expected=expected)
            return None
        for word in sorted({word for word in value if word not in known}):
            self.wrong(key, f"{word!r} is unknown", expected=expected, near=nearest(word, known))
        return tuple(word if word in known else known[0] for word in value)

    def integers(self, key: str, *, default: Sequence[int] = ()) -> tuple[int, ...]:
        """Return a list of integers."""
        if key not in self:
            return tuple(default)
        value = self._data[key]
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            self.wrong(key, "is not a list of integers", expected="a list of integers")
            return tuple(default)
        return tuple(value)

    def section(self, key: str) -> "Config":
        """Return a nested object; its problems are told with this file's."""
        value = self._data.get(key, {})
        if not isinstance(value, dict):
            self.wrong(key, "is not an object", expected="an object")
            value = {}
        section = Config(value, file=self.file, prefix=f"{self._prefix}{key}.")
        section.problems = self.problems
        return section

    def wrong(
        self, key: str, message: str, *, expected: str | None = None, near: str | None = None
    ) -> None:
        """Note a problem with a key that is there."""
        self.problems.append(
            Problem(
                file=self.file,
                key=self._prefix + key,
                value=_shown(self._data.get(key)),
                message=message,
                expected=expected,
                nearest=near,
            )
        )

    def finish(self) -> None:
        """Raise ModelError with every problem that was noted, if any."""
        if self.problems:
            raise ModelError(dict.fromkeys(self.problems))

    def _first(self, keys: Sequence[str]) -> str | None:
        return next((key for key in keys if key in self), None)

    def _absent(self, keys: Sequence[str], default: int | _Required, expected: str) -> int:
        if not isinstance(default, _Required):
            return default
        self.problems.append(
            Problem(
                file=self.file,
                key=self._prefix + keys[0],
                message="is missing"
                if len(keys) == 1
                else f"is missing (or {', '.join(keys[1:])})",
                expected=expected,
            )
        )
        return PLACEHOLDER


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def read_config(path: Path) -> Config:
    """Return the language model part of a config.json.

    Multimodal files nest it under `text_config`; keys that stand only outside are seen too.
    Raises ModelError if the file cannot be read or is no JSON object; a bare `Infinity` or `NaN`
    is accepted, as the files on the hub hold them.
    """
    file = str(path)
    data = _parse(path)
    if not isinstance(data, dict):
        raise ModelError(
            [Problem(file=file, message="is not a JSON object", expected='{"model_type": ...}')]
        )
    nested = data.get("text_config")
    if isinstance(nested, dict):
        outside = {key: value for key, value in data.items() if key != "text_config"}
        return Config(outside | nested, file=file, name=path.parent.name)
    return Config(data, file=file, name=path.parent.name)


def _parse(path: Path) -> Any:  # noqa: ANN401 - JSON is any
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        problem = Problem(
            file=str(path),
            line=error.lineno,
            column=error.colno,
            message=f"is not JSON: {error.msg}",
        )
        raise ModelError([problem]) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError([Problem(file=str(path), message=f"cannot be read: {reason}")]) from error
