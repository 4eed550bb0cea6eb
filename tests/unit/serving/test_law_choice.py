"""`sim.serving.law_choice`: a law with its values, and what can be wrong with them."""

import math
from decimal import Decimal

import numpy as np
import pytest

from sim.serving.law_choice import Choice, choice_problems, choose
from sim.serving.laws import ARRIVALS, LENGTHS
from sim.units import PS_PER_S


def test_a_choice_draws_with_its_values() -> None:
    """Decimals of a file become floats, where the law wants such."""
    every_s = choose("constant", interval_s=Decimal("0.5"))
    assert every_s == Choice(law="constant", values=(("interval_s", Decimal("0.5")),))
    assert every_s.draw(ARRIVALS, 2, np.random.default_rng(0)).tolist() == [0, PS_PER_S // 2]


def test_a_right_choice_has_no_problems() -> None:
    """A parameter with a default may be left out, a float may be an integer or infinite."""
    right = [choose("poisson", rate_per_s=math.inf), choose("poisson", rate_per_s=10**400)]
    for choice in right:
        assert not [*choice_problems(ARRIVALS, choice, "f", "arrivals")]
    lengths = choose("lognormal", median=5, p90=9.5)
    assert not [*choice_problems(LENGTHS, lengths, "f", "input_tokens")]


@pytest.mark.parametrize(
    ("choice", "messages"),
    [
        (
            choose("gama"),
            [
                "f: arrivals.law = gama: unknown law (expected one of poisson, gamma, constant, "
                "bursts, at_once; did you mean 'gamma'?)"
            ],
        ),
        (
            choose("gamma", rate=1, cv=0),
            [
                "f: arrivals.rate: unknown parameter "
                "(expected parameters rate_per_s, cv; did you mean 'rate_per_s'?)",
                "f: arrivals.rate_per_s: is missing (expected a number)",
            ],
        ),
        (
            choose("bursts", size=Decimal(2), every_s=True),
            [
                "f: arrivals.size = 2: is not an integer",
                "f: arrivals.every_s = True: is not a number",
            ],
        ),
        (
            choose("bursts", size=0, every_s=1),
            ["f: arrivals.size = 0: is out of range (expected 1 to 1000000000)"],
        ),
    ],
)
def test_what_is_wrong_in_a_choice_is_told(choice: Choice, messages: list[str]) -> None:
    """Values are judged once the parameters are right."""
    assert [str(p) for p in choice_problems(ARRIVALS, choice, "f", "arrivals")] == messages
