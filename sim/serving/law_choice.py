"""A law with the values of its parameters, as a person chooses it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from inspect import Parameter, signature

import numpy as np

from sim.errors import Problem, nearest
from sim.serving.laws import Integers, Law, LawError

Number = Decimal | float | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A law by its name in `ARRIVALS` or `LENGTHS`, with the values of its parameters."""

    law: str
    values: tuple[tuple[str, Number], ...] = ()

    def draw(self, laws: Mapping[str, Law], n: int, rng: np.random.Generator) -> Integers:
        """Return `n` draws. Raises LawError for a value that makes no sense."""
        kinds = _parameters(laws[self.law])
        values = {
            key: value if kinds[key].annotation is int else _real(value)
            for key, value in self.values
        }
        return laws[self.law](n, rng, **values)


def choose(law: str, **values: Number) -> Choice:
    """Return the choice of a law with its parameters: `choose("poisson", rate_per_s=2)`."""
    return Choice(law=law, values=tuple(values.items()))


def choice_problems(
    laws: Mapping[str, Law], choice: Choice, file: str, key: str
) -> Iterator[Problem]:
    """Yield what is wrong in the choice at `key`: its name, else its parameters, else a value."""
    if choice.law not in laws:
        yield Problem(
            file=file,
            key=f"{key}.law",
            value=choice.law,
            message="unknown law",
            expected=f"one of {', '.join(laws)}",
            nearest=nearest(choice.law, tuple(laws)),
        )
        return
    given = dict(choice.values)
    wrong = [*_parameter_problems(_parameters(laws[choice.law]), given, file, key)]
    yield from wrong
    if not wrong:
        try:
            choice.draw(laws, 0, np.random.default_rng(0))
        except LawError as error:
            yield Problem(
                file=file,
                key=f"{key}.{error.key}",
                value=str(given.get(error.key)),
                message="is out of range",
                expected=error.expected,
            )


def _parameters(law: Law) -> dict[str, Parameter]:
    found = signature(law).parameters
    return {key: p for key, p in found.items() if p.kind is Parameter.KEYWORD_ONLY}


def _parameter_problems(
    known: Mapping[str, Parameter], given: Mapping[str, Number], file: str, key: str
) -> Iterator[Problem]:
    expected = f"parameters {', '.join(known)}" if known else "no parameters"
    for name in given:
        if name not in known:
            yield Problem(
                file=file,
                key=f"{key}.{name}",
                message="unknown parameter",
                expected=expected,
                nearest=nearest(name, tuple(known)),
            )
    for name, parameter in known.items():
        kind = "an integer" if parameter.annotation is int else "a number"
        if name not in given:
            if parameter.default is Parameter.empty:
                yield Problem(file=file, key=f"{key}.{name}", message="is missing", expected=kind)
        elif not _is_a(given[name], parameter.annotation):
            yield Problem(
                file=file, key=f"{key}.{name}", value=str(given[name]), message=f"is not {kind}"
            )


def _real(value: Number) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_a(value: object, kind: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (kind is float and isinstance(value, Decimal | float))
