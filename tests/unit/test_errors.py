"""`sim.errors`: how a problem is told."""

import pytest

from sim.errors import (
    EngineError,
    InputError,
    InvariantError,
    ModelError,
    Problem,
    ScenarioError,
    SpecError,
    TokenstallError,
    nearest,
)


def test_a_problem_is_told_on_one_line() -> None:
    """Place, key, value, message, and in brackets what would be right."""
    problem = Problem(
        file="s.toml",
        line=3,
        column=9,
        key="grid.batch",
        value="0",
        message="is too small",
        expected="1 or more",
        nearest="1",
    )
    assert str(problem) == (
        "s.toml:3:9: grid.batch = 0: is too small (expected 1 or more; did you mean '1'?)"
    )


def test_what_a_problem_lacks_is_left_out() -> None:
    """No position, no key, no value, no hint."""
    assert str(Problem(file="s.toml", message="cannot be read")) == "s.toml: cannot be read"


def test_an_error_tells_all_its_problems() -> None:
    """One line each, in the order given."""
    problems = [Problem(file="a", message="one"), Problem(file="b", message="two")]
    error = ScenarioError(iter(problems))
    assert str(error) == "a: one\nb: two"
    assert error.problems == tuple(problems)


@pytest.mark.parametrize("kind", [ScenarioError, SpecError, EngineError, ModelError])
def test_errors_of_input_form_a_tree(kind: type[InputError]) -> None:
    """Whoever catches InputError catches them all, and no broken invariant."""
    assert issubclass(kind, InputError)
    assert issubclass(kind, TokenstallError)
    assert not issubclass(InvariantError, InputError)


def test_the_nearest_word_is_misspelt_or_begun() -> None:
    """A single letter begins too much to mean anything."""
    known = ["h100-sxm", "h200-sxm", "a100-sxm-80gb"]
    found = [nearest(word, known) for word in ("h10-sxm", "a100", "h20", "h", "tpu")]
    assert found == ["h100-sxm", "a100-sxm-80gb", "h200-sxm", None, None]
