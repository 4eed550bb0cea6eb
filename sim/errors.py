"""The error tree, and how a problem is told to a person.

    TokenstallError
    ├── InputError          what a person wrote is wrong: a list of Problems, exit code 2
    │   ├── ScenarioError   a scenario TOML or a --set override
    │   ├── SpecError       a hardware spec TOML
    │   ├── EngineError     an engine profile TOML
    │   └── ModelError      a Hugging Face config.json
    └── InvariantError      the simulator broke one of its own laws: a bug, never swallowed

Readers collect every Problem of a file before they raise, so that a person sees all of them at
once.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class TokenstallError(Exception):
    """Root of every error that this package raises on purpose."""


class InvariantError(TokenstallError):
    """A law of the simulation does not hold; this is a bug in tokenstall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in an input file.

    `file` is as the person wrote it, `line` and `column` count from 1 (None if the format has
    no positions), `key` is the dotted path, `value` the offending text as written.
    """

    file: str
    message: str
    key: str = ""
    value: str | None = None
    expected: str | None = None
    nearest: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """Return `file:line:column: key = value: message (expected ...; did you mean ...?)`."""
        place = ":".join(str(p) for p in (self.file, self.line, self.column) if p is not None)
        subject = self.key if self.value is None else f"{self.key} = {self.value}"
        hints = []
        if self.expected:
            hints.append(f"expected {self.expected}")
        if self.nearest:
            hints.append(f"did you mean {self.nearest!r}?")
        tail = f" ({'; '.join(hints)})" if hints else ""
        return ": ".join(part for part in (place, subject, self.message) if part) + tail


class InputError(TokenstallError):
    """What a person wrote cannot be used; carries every Problem found, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ScenarioError(InputError):
    """A scenario file or an override of one of its keys is wrong."""


class SpecError(InputError):
    """A hardware spec is wrong."""


class EngineError(InputError):
    """An engine profile is wrong."""


class ModelError(InputError):
    """A model configuration is wrong or of an unsupported family."""


def nearest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that `word` most likely misspells or begins, or None.

    >>> nearest("qwen3-32", ["qwen3-32b", "llama-2-7b"])
    'qwen3-32b'
    >>> nearest("h200", ["b200", "h100-sxm", "h200-sxm"])
    'h200-sxm'
    """
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    begun = [name for name in known if len(word) > 1 and name.startswith(word)]
    among = difflib.get_close_matches(word, begun, n=1, cutoff=0) or close
    return among[0] if among else None
