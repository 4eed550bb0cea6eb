"""`sim.scenario.overrides`: `--set key=value` before any check."""

from decimal import Decimal

import pytest

from sim.scenario.overrides import apply_overrides
from sim.toml_source import Mark, TomlSource, parse_toml

TEXT = 'title = "x"\n[[contestants]]\nmodel = "m"\nrouting = { kind = "zipf" }\n'


def overridden(*overrides: str) -> TomlSource:
    source, problems = apply_overrides(parse_toml(TEXT, file="s.toml"), overrides)
    assert problems == []
    return source


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("fp8", "fp8"),
        ("8 KiB", "8 KiB"),
        ('"fp8"', "fp8"),
        ("3", 3),
        ("1.50", Decimal("1.50")),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("{ kind = 'zipf' }", {"kind": "zipf"}),
        ("a=b", "a=b"),
    ],
)
def test_a_value_is_toml_or_a_bare_word(text: str, value: object) -> None:
    """Only the first equals sign separates."""
    assert overridden(f"k={text}").data["k"] == value


def test_a_path_leads_through_tables_and_lists() -> None:
    """Existing values are replaced, missing tables made."""
    source = overridden("contestants.0.model=n", "grid.batch=[1]")
    assert source.data["contestants"][0]["model"] == "n"
    assert source.data["grid"] == {"batch": [1]}


def test_the_source_itself_is_not_changed() -> None:
    """Overriding gives a new source."""
    before = parse_toml(TEXT, file="s.toml")
    apply_overrides(before, ["contestants.0.model=n"])
    assert before == parse_toml(TEXT, file="s.toml")


def test_an_overridden_value_stands_on_the_command_line() -> None:
    """So does every table made for it and everything inside it, but not its neighbours."""
    source = overridden("contestants.0.routing={kind='even'}", "grid.batch=1")
    mark = Mark(line=None, column=None, file="--set contestants.0.routing", text="{kind='even'}")
    assert source.mark(("contestants", 0, "routing", "kind")) == mark
    assert source.mark(("grid",)).file == "--set grid.batch"
    assert source.mark(("contestants", 0, "model")).line == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nonsense", "--set nonsense: is no change (expected KEY=VALUE)"),
        ("=3", "--set : is no change (expected KEY=VALUE)"),
        ("k=", "--set k: has a value that is not TOML: nothing"),
        ("k=[1", "--set k: has a value that is not TOML: [1"),
        (
            "contestants.1.kv=fp8",
            "--set contestants.1.kv: has no entry 1: contestants is a list of 1 "
            "(expected an index from 0 to 0)",
        ),
        (
            "contestants.first=3",
            "--set contestants.first: has no entry first: contestants is a list of 1 "
            "(expected an index from 0 to 0)",
        ),
        (
            "title.x.y=3",
            "--set title.x.y: leads into title, which is not a table or a list",
        ),
    ],
)
def test_an_impossible_override_is_a_problem(override: str, message: str) -> None:
    """The others are applied nevertheless."""
    source, problems = apply_overrides(parse_toml(TEXT, file="s.toml"), [override, "seed=7"])
    assert [str(problem) for problem in problems] == [message]
    assert source.data["seed"] == 7
