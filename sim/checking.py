"""Checks of TOML tables: pydantic finds what is wrong, `Checker` says where it stands.

A `Checker` collects the Problems of one file from any number of tables and hand-written checks,
so that a person sees all of them at once and in file order.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final, Generic, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from sim.errors import InputError, Problem, nearest
from sim.toml_source import KeyPath, TomlSource, dotted
from sim.units import BYTES, BYTES_PER_S, FLOP_PER_S, HERTZ, TIME_PS, QuantityError, parse_quantity

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
E = TypeVar("E", bound=InputError)

KINDS: Final = ("spec", "measured", "calibrated", "derived", "estimate")
CITED_FORM: Final = "{ value = ..., kind = ..., source = ... }"


class Table(BaseModel):
    """A TOML table: no unknown keys, no conversions, no changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def wrong(message: str, expected: str, likely: str | None = None) -> PydanticCustomError:
    """Return the error to raise in a validator; its parts become those of a Problem."""
    context = {"message": message, "expected": expected, "nearest": likely}
    return PydanticCustomError("checked", "{message}", context)


def one_of(what: str, names: Sequence[str]) -> AfterValidator:
    """Return a validator that accepts only `names`."""
    names = tuple(str(name) for name in names)

    def check(value: str) -> str:
        if value not in names:
            expected = f"one of {', '.join(names)}"
            raise wrong(f"unknown {what}", expected, nearest(value, names))
        return value

    return AfterValidator(check)


def read_quantity(value: object, units: dict[str, int]) -> int:
    """Return text with one of `units` as an integer of the base unit, for use in a validator."""
    if not isinstance(value, str):
        raise wrong("is not a quantity", f"in quotes, a number and one of {', '.join(units)}")
    try:
        return parse_quantity(value, units)
    except QuantityError as error:
        message = f"unknown unit {error.unit!r}" if error.unit else "is not a quantity"
        raise wrong(message, error.expected, _nearest_unit(error.unit, units)) from None


def _quantity(units: dict[str, int]) -> BeforeValidator:
    def check(value: object) -> int:
        return read_quantity(value, units)

    return BeforeValidator(check)


def _nearest_unit(unit: str, units: dict[str, int]) -> str | None:
    same = [known for known in units if known.lower() == unit.lower()]
    return same[0] if same else nearest(unit, tuple(units))


def _ratio(value: object) -> Fraction:
    number = isinstance(value, Decimal | int) and not isinstance(value, bool)
    if not number or not Decimal(str(value)).is_finite() or not 0 < Decimal(str(value)) <= 1:
        raise wrong("is not a ratio", "a number above 0, at most 1")
    return Fraction(str(value))


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise wrong("is not a number", "a number")
    if not Decimal(value).is_finite():
        raise wrong("is not finite", "a number")
    return float(value)


Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Ratio = Annotated[Fraction, BeforeValidator(_ratio)]
Real = Annotated[float, BeforeValidator(_real)]
Size = Annotated[int, Field(gt=0), _quantity(BYTES)]
Bandwidth = Annotated[int, Field(gt=0), _quantity(BYTES_PER_S)]
FlopRate = Annotated[int, Field(gt=0), _quantity(FLOP_PER_S)]
Clock = Annotated[int, Field(gt=0), _quantity(HERTZ)]
Duration = Annotated[int, Field(ge=0), _quantity(TIME_PS)]


class Cited(Table, Generic[T]):
    """A number with where it comes from; a number without its source is refused."""

    value: T
    kind: Annotated[str, one_of("kind", KINDS)]
    source: Text


class Checker:
    """Collects the Problems of one TOML source."""

    def __init__(self, source: TomlSource) -> None:
        self.source = source
        self.problems: list[Problem] = []

    def table(self, model: type[M], path: KeyPath = ()) -> M | None:
        """Return the table at `path` as `model`, or None after noting all that is wrong in it."""
        try:
            return model.model_validate(self.source.get(path))
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._note(model, path, detail)
            return None

    def valid(self, model: type[M], path: KeyPath) -> M | None:
        """Return the table at `path` as `model`, or None without noting why."""
        try:
            return model.model_validate(self.source.get(path))
        except ValidationError:
            return None

    def wrong(
        self,
        path: KeyPath,
        message: str,
        *,
        expected: str | None = None,
        likely: str | None = None,
        at_key: bool = False,
    ) -> None:
        """Note that the value at `path` is wrong, or with `at_key` that the key itself is."""
        exact = (self.source.keys if at_key else self.source.values).get(path)
        mark = exact or self.source.mark(path)
        self.problems.append(
            Problem(
                file=mark.file or self.source.file,
                message=message,
                key=dotted(path),
                value=None if at_key else self._written(path),
                expected=expected,
                nearest=likely,
                line=mark.line,
                column=mark.column,
            )
        )

    def _written(self, path: KeyPath) -> str | None:
        """Return the value at `path` as written, None for a table or a missing value."""
        if exact := self.source.values.get(path):
            return exact.text
        value = self.source.get(path)
        return str(value) if isinstance(value, str | int | Decimal) else None

    def refer(self, path: KeyPath, written: str, error: InputError) -> None:
        """Note that what the value at `path` refers to is wrong, one Problem for each of its own.

        `written` is the reference: a Problem about the reference itself, and not about something
        inside the file it names, has `written` as its file.
        """
        for problem in error.problems:
            if problem.file == written and problem.line is None and not problem.key:
                self.wrong(path, problem.message, expected=problem.expected, likely=problem.nearest)
            else:
                self.wrong(path, str(problem))

    def error(self, kind: type[E]) -> E:
        """Return an error of `kind` with every Problem in file order."""
        return kind(sorted(self.problems, key=_place))

    def _note(self, model: type[BaseModel], path: KeyPath, detail: ErrorDetails) -> None:
        where = (*path, *detail["loc"])
        if detail["type"] == "extra_forbidden":
            known = _names(_model_at(model, detail["loc"][:-1]))
            self.wrong(
                where,
                "unknown key",
                expected=f"one of {', '.join(known)}",
                likely=nearest(str(where[-1]), known),
                at_key=True,
            )
            return
        message, expected, likely = _told(detail, _model_at(model, detail["loc"]))
        self.wrong(where, message, expected=expected, likely=likely)


def _place(problem: Problem) -> tuple[bool, int, int]:
    return (problem.line is None, problem.line or 0, problem.column or 0)


_TOLD: Final[dict[str, tuple[str, str | None]]] = {
    "string_type": ("is not text", "text in quotes"),
    "int_type": ("is not an integer", "an integer"),
    "bool_type": ("is not a boolean", "true or false"),
    "list_type": ("is not a list", "a list in brackets"),
    "greater_than_equal": ("is too small", "{ge} or more"),
    "greater_than": ("is too small", "more than {gt}"),
    "less_than_equal": ("is too large", "at most {le}"),
    "too_short": ("is too short", "{min_length} or more values"),
    "string_too_short": ("is empty", "some text"),
}


def _told(
    detail: ErrorDetails, model: type[BaseModel] | None
) -> tuple[str, str | None, str | None]:
    """Return message, expected and nearest match of a pydantic error."""
    context: dict[str, Any] = detail.get("ctx", {})
    kind = detail["type"]
    if kind == "checked":
        return context["message"], context["expected"], context["nearest"]
    if kind == "missing":
        return "is missing", _form(model), None
    if kind in {"model_type", "model_attributes_type"}:
        return "is not a table", _form(model) or "a table", None
    message, expected = _TOLD.get(kind, (detail["msg"], None))
    return message, expected and expected.format(**context), None


def _form(model: type[BaseModel] | None) -> str | None:
    if model is None:
        return None
    if issubclass(model, Cited):
        return CITED_FORM
    return f"a table of {', '.join(_names(model))}"


def _names(model: type[BaseModel] | None) -> tuple[str, ...]:
    return tuple(model.model_fields) if model else ()


def _model_at(model: type[BaseModel], loc: Iterable[str | int]) -> type[BaseModel] | None:
    """Return the model that describes the table at `loc` below `model`, if one does."""
    found: type[BaseModel] | None = model
    for step in loc:
        if isinstance(step, int):
            continue
        field = found.model_fields.get(step) if found else None
        annotation = field.annotation if field else None
        found = next((a for a in (annotation, *get_args(annotation)) if _is_model(a)), None)
    return found


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
