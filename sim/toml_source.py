"""TOML with positions: what a file says, and the line and column of every key and value.

`tomllib` gives values without positions. `TomlSource` keeps both: the parsed data and, for every
dotted path, where its key and its value stand. The locator walks only text that `tomllib` has
accepted, so it can trust the grammar.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from sim.errors import InputError, Problem

KeyPath = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_KEY: Final = re.compile(r"[A-Za-z0-9_-]+|\"(?:\\.|[^\"\\])*\"|'[^']*'")
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|"(?:\\.|[^"\\])*"|\'[^\']*\'', re.DOTALL
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]+")
_WHERE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_SHOWN_CHARS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in a TOML text, counted from 1, and what stands there (None for a whole table).

    A value that does not stand in the file but on the command line has no line, and `file` says
    where it is.
    """

    line: int | None
    column: int | None
    text: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TomlSource:
    """A parsed TOML text: `file` as the person wrote it, its data, and all positions.

    Numbers with a fraction are `Decimal`, so that no digit is lost.
    """

    file: str
    data: dict[str, Any]
    keys: Mapping[KeyPath, Mark]
    values: Mapping[KeyPath, Mark]

    def get(self, path: KeyPath) -> object:
        """Return the value at `path`, or None if there is none."""
        found: Any = self.data
        for step in path:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def mark(self, path: KeyPath) -> Mark:
        """Return the place of the value at `path`, or of the nearest table that would hold it."""
        for length in range(len(path), 0, -1):
            if found := self.values.get(path[:length]):
                return found
        return Mark(line=1, column=1)


def read_toml(path: Path, *, file: str | None = None) -> TomlSource:
    """Return the TOML file at `path`; `file` is how problems name it (default: `path`).

    Raises InputError if it cannot be read or is no TOML.
    """
    name = file or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError([Problem(file=name, message="is not UTF-8 text")]) from error
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise InputError([Problem(file=name, message=message)]) from error
    return parse_toml(text, file=name)


def parse_toml(text: str, *, file: str) -> TomlSource:
    r"""Return `text` with positions. Raises InputError, with line and column, if it is no TOML.

    >>> source = parse_toml("[grid]\nbatch = [1, 2]", file="example.toml")
    >>> source.mark(("grid", "batch", 1))
    Mark(line=2, column=13, text='2', file=None)
    """
    text = text.replace("\r\n", "\n")
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise InputError([_syntax_problem(str(error), text, file)]) from error
    locator = _Locator(text)
    locator.document()
    return TomlSource(file=file, data=data, keys=locator.keys, values=locator.values)


def dotted(path: KeyPath) -> str:
    """Return `path` as a person writes it.

    >>> dotted(("contestants", 0, "weights"))
    'contestants.0.weights'
    """
    return ".".join(str(step) for step in path)


def shown(text: str) -> str:
    """Return `text` on one line, cut after 60 characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARS else f"{flat[: _SHOWN_CHARS - 3]}..."


def _syntax_problem(error: str, text: str, file: str) -> Problem:
    match = _WHERE.search(error)
    reason = error[: match.start()] if match else error
    message = f"is not TOML: {reason[:1].lower()}{reason[1:]}"
    if match and match[1]:
        return Problem(file=file, message=message, line=int(match[1]), column=int(match[2]))
    lines = text.split("\n")
    return Problem(file=file, message=message, line=len(lines), column=len(lines[-1]) + 1)


class _Locator:
    """Walks one valid TOML text and notes where keys and values stand."""

    def __init__(self, text: str) -> None:
        self.keys: dict[KeyPath, Mark] = {}
        self.values: dict[KeyPath, Mark] = {}
        self._text = text
        self._at = 0
        self._line_starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self._lengths: dict[KeyPath, int] = {}

    def document(self) -> None:
        """Walk the whole text."""
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> KeyPath:
        is_array = self._text.startswith("[[", self._at)
        start = self._at
        self._at += 2 if is_array else 1
        path: KeyPath = ()
        names = self._dotted_key()
        for index, (name, mark) in enumerate(names):
            path = (*path, name)
            self.keys.setdefault(path, mark)
            self.values.setdefault(path, mark)
            if is_array and index == len(names) - 1:
                self._lengths[path] = self._lengths.get(path, 0) + 1
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
                self.values.setdefault(path, self._mark(start))
        self._at += 2 if is_array else 1
        return path

    def _pair(self, table: KeyPath) -> None:
        path = table
        for name, mark in self._dotted_key():
            path = (*path, name)
            self.keys.setdefault(path, mark)
            self.values.setdefault(path, mark)
        self._at += 1
        self._skip(_SPACE)
        self._value(path)

    def _dotted_key(self) -> list[tuple[str, Mark]]:
        found = []
        while True:
            self._skip(_SPACE)
            start = self._at
            token = self._skip(_KEY)
            found.append((_unquoted(token), self._mark(start)))
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return found
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        start = self._at
        first = self._text[start]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in "\"'":
            self._skip(_STRING)
        else:
            self._at = start + len(self._skip(_SCALAR).rstrip())
        self.values[path] = self._mark(start, text=shown(self._text[start : self._at]))

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while not self._closes("]"):
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while not self._closes("}"):
            self._pair(path)

    def _closes(self, bracket: str) -> bool:
        """Move past blanks and one comma; return whether `bracket` was next, and pass it."""
        self._skip(_BLANK)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_BLANK)
        if self._text[self._at] != bracket:
            return False
        self._at += 1
        return True

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _mark(self, offset: int, text: str | None = None) -> Mark:
        line = bisect_right(self._line_starts, offset)
        return Mark(line=line, column=offset - self._line_starts[line - 1] + 1, text=text)


def _unquoted(token: str) -> str:
    if token[0] in "\"'":
        return str(tomllib.loads(f"k = {token}")["k"])
    return token
