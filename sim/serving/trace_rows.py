"""Rows of a trace file: what a reader returns, and the checks that all readers share.

Numbers are read as integers or decimals, never as binary floats, so that a picosecond of a clock
that counts since 1970 survives.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final, NamedTuple, TypeGuard

from sim.errors import InputError, Problem, nearest

PREFIX_BLOCK_TOKENS: Final = 512
"""Tokens of a prefix block where a file does not say (Mooncake's `hash_ids`)."""

MAX_TOKENS: Final = 10**9
"""Longest believable prompt or answer; what is above is a mistake, and would run for years."""

_MAX_CLOCK: Final = 10**15
_HUGE: Final = Decimal(MAX_TOKENS + 1)
_HASH_DIGITS: Final = 40
_FEW_DIGITS: Final = 9
_SHOWN_CHARACTERS: Final = 60


class Row(NamedTuple):
    """One request as a file states it, on the clock that its reader chose.

    `served_ps` are the times at which a real server queued it, scheduled it, gave its first token
    and its last one, where the file is a measurement.
    """

    arrival_ps: int
    input_tokens: int
    output_tokens: int
    prefix: tuple[int, ...] = ()
    served_ps: tuple[int, int, int, int] | None = None


class Reading:
    """Where the reading of one file stands, and what was wrong so far.

    A check that fails notes a Problem at the current `line` and returns None; the reader must then
    leave the row out.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.line = 0
        self.prefix_block_tokens = PREFIX_BLOCK_TOKENS
        self.problems: list[Problem] = []

    def wrong(
        self,
        message: str,
        *,
        key: str = "",
        value: object = None,
        expected: str | None = None,
        likely: str | None = None,
    ) -> None:
        """Note what is wrong in the current line."""
        self.problems.append(
            Problem(
                file=self.file,
                line=self.line,
                key=key,
                value=None if value is None or value == "" else shown(value),
                message=message,
                expected=expected,
                nearest=likely,
            )
        )

    def numbered(self, lines: Iterable[str]) -> Iterator[str]:
        """Return the lines that are not blank, with `line` at each of them in turn."""
        for number, text in enumerate(lines, start=1):
            if text and not text.isspace():
                self.line = number
                yield text

    def tokens(self, key: str, value: object, least: int) -> int | None:
        """Return `value` as a number of tokens, `least` or more."""
        number = value if type(value) is int else _digits(value)
        if number is None:
            missing = value is None or value == ""
            self.wrong("is missing" if missing else "is not an integer", key=key, value=value)
        elif number < least:
            self.wrong("is too small", key=key, value=value, expected=f"{least} or more")
        elif number > MAX_TOKENS:
            self.wrong("is too large", key=key, value=value, expected=f"at most {MAX_TOKENS}")
        else:
            return number
        return None

    def time_ps(self, key: str, value: object, unit_ps: int) -> int | None:
        """Return `value`, a time in units of `unit_ps`, 0 or more, to the nearest picosecond."""
        number = decimal(value)
        if number is None:
            missing = value is None or value == ""
            self.wrong("is missing" if missing else "is not a number", key=key, value=value)
        elif not number.is_finite():
            self.wrong("is not finite", key=key, value=value)
        elif number < 0:
            self.wrong("is too small", key=key, value=value, expected="0 or more")
        elif number > _MAX_CLOCK:
            self.wrong("is too large", key=key, value=value, expected=f"at most {_MAX_CLOCK}")
        else:
            return int((number * unit_ps).to_integral_value())
        return None

    def hashes(
        self, key: str, values: Sequence[object], input_tokens: int
    ) -> tuple[int, ...] | None:
        """Return the content hashes of a prompt's leading blocks, no more than it has."""
        if _all_integers(values):
            found = tuple(values)
        else:
            found = tuple(known for value in values if (known := _hash(value)) is not None)
        if len(found) < len(values):
            wrong = next(value for value in values if _hash(value) is None)
            self.wrong("is not a hash", key=key, value=wrong, expected="integers")
            return None
        blocks = -(-input_tokens // self.prefix_block_tokens)
        if len(found) > blocks:
            self.wrong(
                f"has {len(found)} blocks of {self.prefix_block_tokens} tokens",
                key=key,
                expected=f"at most {blocks} for {input_tokens} input tokens",
            )
            return None
        return found


def objects(lines: Iterable[str], reading: Reading) -> Iterator[dict[str, object]]:
    """Return the JSON objects of `lines`, one a line."""
    for text in reading.numbered(lines):
        found = json_object(text)
        if found is None:
            reading.wrong("is not a JSON object", expected="one JSON object a line")
        else:
            yield found


def json_object(text: str) -> dict[str, object] | None:
    """Return the JSON object that `text` is, its fractions as Decimal, or None."""
    try:
        found = _JSON.decode(text)
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def table(
    lines: Iterable[str], reading: Reading, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Return the cells of a CSV's `columns`, then of those `optional` ones that it has.

    Columns may stand in any order among others. Rows cannot span lines. Raises InputError if a
    column is missing from the header.
    """
    rows = reading.numbered(lines)
    first = next(rows, None)
    if first is None:
        return
    header = [name.strip() for name in csv_cells(first)]
    if missing := [name for name in columns if name not in header]:
        for name in missing:
            reading.wrong(
                "is missing from the header",
                key=name,
                expected=f"columns {', '.join(columns)}",
                likely=nearest(name, [other for other in header if other not in columns]),
            )
        raise InputError(reading.problems)
    places = [header.index(name) for name in (*columns, *optional) if name in header]
    for text in rows:
        cells = csv_cells(text)
        if len(cells) == len(header):
            yield [cells[place].strip() for place in places]
        else:
            reading.wrong(f"has {len(cells)} fields", expected=f"{len(header)} as in the header")


def csv_cells(text: str) -> list[str]:
    """Return the cells of one line of CSV."""
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text]), [])
    except csv.Error:  # a cell of more than 128 KiB
        return []


def decimal(value: object) -> Decimal | None:
    """Return a number of a file, as written, as a Decimal; None if it is none."""
    if isinstance(value, Decimal):
        return value
    if type(value) is int:
        return Decimal(value)
    if not isinstance(value, str):
        return None
    try:
        return Decimal(value)
    except ArithmeticError:
        return None


def shown(value: object) -> str:
    """Return a value as its file would have it, cut where it is long."""
    plain = isinstance(value, str | int | Decimal) and not isinstance(value, bool)
    text = str(value) if plain else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _digits(value: object) -> int | None:
    """Return what `_whole` returns; the common case, a few digits, quickly."""
    if isinstance(value, str) and len(value) <= _FEW_DIGITS and value.isdecimal():
        return int(value)
    return _whole(value)


def _whole(value: object) -> int | None:
    """Return an integer, in whatever way it is written; a huge one stays as large as matters."""
    number = decimal(value)
    if number is None or not number.is_finite() or number != number.to_integral_value():
        return None
    return int(max(-_HUGE, min(_HUGE, number)))


def _all_integers(values: Sequence[object]) -> TypeGuard[Sequence[int]]:
    """Return whether every one is an int, quickly: a long prompt has hundreds of hashes."""
    return set(map(type, values)) <= {int}


def _hash(value: object) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, str) and len(value) <= _HASH_DIGITS and value.isascii():
        return int(value) if value.removeprefix("-").isdecimal() else None
    return None


_JSON: Final = json.JSONDecoder(parse_float=Decimal, parse_constant=Decimal)
