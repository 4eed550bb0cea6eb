"""`sim.serving.traffic`: traces that are drawn, the same from the same seed."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from sim.serving.law_choice import Choice, choose
from sim.serving.request import Request, Trace
from sim.serving.trace import read_trace
from sim.serving.trace_csv import write_csv
from sim.serving.traffic import Traffic, draw_trace, lengths_of
from sim.units import PS_PER_S

PLAIN = Traffic(
    requests=50,
    arrivals=choose("poisson", rate_per_s=Decimal("2.5")),
    input_tokens=choose("lognormal", median=500, p90=2000, most=4000),
    output_tokens=choose("uniform", least=1, most=300),
)


def drawn(traffic: Traffic, seed: int = 0) -> Trace:
    return draw_trace(traffic, np.random.default_rng(seed))


def test_a_trace_of_fixed_laws_is_known_beforehand() -> None:
    """Two bursts, one length, one system prompt on top of it."""
    traffic = Traffic(
        requests=3,
        arrivals=choose("bursts", size=2, every_s=1),
        input_tokens=choose("fixed", tokens=10),
        output_tokens=choose("fixed", tokens=4),
        prefix_groups=1,
        prefix_tokens=100,
        concurrency=2,
    )
    assert draw_trace(traffic, np.random.default_rng(1), name="mine") == Trace(
        name="mine",
        requests=tuple(
            Request(index=index, arrival_ps=at_ps, input_tokens=110, output_tokens=4, prefix=(0,))
            for index, at_ps in enumerate([0, 0, PS_PER_S])
        ),
        prefix_block_tokens=100,
        concurrency=2,
    )


@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    """And another seed another one."""
    trace = drawn(PLAIN, seed)
    assert trace == drawn(PLAIN, seed)
    assert trace != drawn(PLAIN, seed + 1)
    arrivals = [r.arrival_ps for r in trace.requests]
    assert arrivals == sorted(arrivals)
    assert [r.index for r in trace.requests] == list(range(50))


def test_what_is_changed_leaves_the_rest_as_it_was() -> None:
    """Two rates are compared with the same lengths, two lengths at the same times."""
    trace = drawn(PLAIN)
    faster = drawn(replace(PLAIN, arrivals=choose("poisson", rate_per_s=5)))
    assert lengths_of(faster) == lengths_of(trace)
    assert [2 * r.arrival_ps for r in faster.requests] == pytest.approx(
        [r.arrival_ps for r in trace.requests], abs=2 * len(trace.requests), rel=0
    )
    together = drawn(replace(PLAIN, arrivals=choose("at_once")))
    assert lengths_of(together) == lengths_of(trace)
    longer = drawn(replace(PLAIN, output_tokens=choose("fixed", tokens=9)))
    assert [r.arrival_ps for r in longer.requests] == [r.arrival_ps for r in trace.requests]
    assert [r.input_tokens for r in longer.requests] == [r.input_tokens for r in trace.requests]
    shared = drawn(replace(PLAIN, prefix_groups=3, prefix_tokens=64))
    assert [r.input_tokens - 64 for r in shared.requests] == [
        r.input_tokens for r in trace.requests
    ]


def test_pairs_of_lengths_are_drawn_together() -> None:
    """A short prompt keeps its long answer; each pair is as likely."""
    pairs = ((1, 100), (100, 1), (50, 0))
    traffic = Traffic(requests=3000, arrivals=choose("at_once"), pairs=pairs)
    counts = Counter(lengths_of(drawn(traffic)))
    assert set(counts) == set(pairs)
    # Five standard errors of a binomial law: 5 * sqrt(3000 * 1/3 * 2/3).
    assert all(abs(count - 1000) < 130 for count in counts.values())


def test_every_group_has_its_system_prompt() -> None:
    """Each as likely."""
    traffic = replace(PLAIN, requests=2000, prefix_groups=2, prefix_tokens=32)
    counts = Counter(r.prefix for r in drawn(traffic).requests)
    assert set(counts) == {(0,), (1,)}
    assert abs(counts[0,] - 1000) < 112


def test_no_requests_are_a_trace() -> None:
    """An empty one."""
    for traffic in (PLAIN, Traffic(requests=0, arrivals=choose("at_once"), pairs=((1, 1),))):
        assert drawn(replace(traffic, requests=0)).requests == ()


def test_a_drawn_trace_can_be_written_and_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its system prompts too."""
    path = tmp_path_factory.mktemp("drawn") / "synthetic.csv"
    trace = drawn(replace(PLAIN, prefix_groups=2, prefix_tokens=100))
    write_csv(trace, path)
    assert read_trace(path) == trace


def test_everything_that_is_wrong_is_told_at_once() -> None:
    """Each with its key."""
    traffic = Traffic(
        requests=-1,
        arrivals=choose("poison", rate_per_s=1),
        input_tokens=choose("fixed", token=5),
        output_tokens=choose("uniform", least=1.5, most=True),
        prefix_tokens=5,
        concurrency=0,
    )
    with pytest.raises(InputError) as caught:
        drawn(traffic)
    assert str(caught.value).splitlines() == [
        f"synthetic: {each}"
        for each in (
            "arrivals.law = poison: unknown law (expected one of poisson, gamma, constant, "
            "bursts, at_once; did you mean 'poisson'?)",
            "input_tokens.token: unknown parameter "
            "(expected parameters tokens; did you mean 'tokens'?)",
            "input_tokens.tokens: is missing (expected an integer)",
            "output_tokens.least = 1.5: is not an integer",
            "output_tokens.most = True: is not an integer",
            "requests = -1: is out of range (expected 0 to 10000000)",
            "prefix_tokens = 5: is out of range (expected 0 to 0 with 0 groups)",
            "concurrency = 0: is out of range (expected 1 to 10000000)",
        )
    ]


def complaint(traffic: Traffic) -> str:
    with pytest.raises(InputError) as caught:
        drawn(traffic)
    return str(caught.value)


@pytest.mark.parametrize(
    ("arrivals", "message"),
    [
        (
            choose("gamma", rate_per_s=1, cv=0),
            "synthetic: arrivals.cv = 0: is out of range (expected 0.001 to 100)",
        ),
        (
            choose("gamma", rate_per_s=-(10**400), cv=1),
            f"synthetic: arrivals.rate_per_s = -1{'0' * 400}: is out of range "
            "(expected more than 0)",
        ),
        (
            choose("at_once", rate_per_s=1),
            "synthetic: arrivals.rate_per_s: unknown parameter (expected no parameters)",
        ),
        (choose("poisson"), "synthetic: arrivals.rate_per_s: is missing (expected a number)"),
        (
            Choice(law="poisson", values=(("rate_per_s", "2"),)),  # type: ignore[arg-type]
            "synthetic: arrivals.rate_per_s = 2: is not a number",
        ),
        (
            choose("constant", interval_s=2_000_000),
            "synthetic: its last request arrives 1,134 days after its start (expected at most 90)",
        ),
    ],
)
def test_arrivals_that_make_no_sense_are_told(arrivals: Choice, message: str) -> None:
    """Values only where the parameters are right."""
    assert complaint(replace(PLAIN, arrivals=arrivals)) == message


def test_lengths_come_from_laws_or_from_pairs() -> None:
    """Not from both, and not from none."""
    assert complaint(replace(PLAIN, pairs=((1, 1), (0, 1)))).splitlines() == [
        "synthetic: pairs = (0, 1): are no lengths of a request "
        "(expected 1 or more input tokens and 0 or more output tokens)",
        "synthetic: input_tokens: cannot be given beside pairs (expected one of the two)",
        "synthetic: output_tokens: cannot be given beside pairs (expected one of the two)",
    ]
    assert complaint(replace(PLAIN, output_tokens=None)) == (
        "synthetic: output_tokens: is missing (expected a law of fixed, uniform, lognormal)"
    )
