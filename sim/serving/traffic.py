"""Synthetic traces: requests whose arrivals and lengths are drawn from laws."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np

from sim.errors import InputError, Problem
from sim.serving.law_choice import Choice, choice_problems
from sim.serving.laws import ARRIVALS, LENGTHS, Integers
from sim.serving.request import Request, Trace
from sim.serving.trace_cut import check_span
from sim.serving.trace_rows import MAX_TOKENS, PREFIX_BLOCK_TOKENS

MAX_REQUESTS: Final = 10**7
"""Most requests of a synthetic trace; more would fill the memory first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a synthetic trace is like.

    Lengths are drawn from the laws `input_tokens` and `output_tokens`, or together from `pairs` of
    both, each as likely (`lengths_of` a trace: its empirical law). With `prefix_groups` each prompt
    begins with one of so many system prompts of `prefix_tokens` tokens, which come on top of its
    own. `concurrency` is that of `Trace`: with arrivals "at_once" it makes a closed loop.
    """

    requests: int
    arrivals: Choice
    input_tokens: Choice | None = None
    output_tokens: Choice | None = None
    pairs: tuple[tuple[int, int], ...] = ()
    prefix_groups: int = 0
    prefix_tokens: int = 0
    concurrency: int | None = None


def lengths_of(trace: Trace) -> tuple[tuple[int, int], ...]:
    """Return the (input tokens, output tokens) of every request, for `Traffic.pairs`."""
    return tuple((request.input_tokens, request.output_tokens) for request in trace.requests)


def draw_trace(traffic: Traffic, rng: np.random.Generator, *, name: str = "synthetic") -> Trace:
    """Return a trace drawn from `traffic`; a fresh `rng` of the same seed gives the same trace.

    Arrivals, lengths and prefixes are drawn from streams of their own, so that changing one of them
    leaves the others as they were. Raises InputError with all that is wrong in `traffic`, and if
    the last request arrives too late.
    """
    if problems := [*traffic_problems(traffic, name)]:
        raise InputError(problems)
    for_arrivals, for_inputs, for_outputs, for_prefixes = rng.spawn(4)
    n, shared = traffic.requests, traffic.prefix_tokens
    arrivals = list(accumulate(traffic.arrivals.draw(ARRIVALS, n, for_arrivals).tolist()))
    check_span(arrivals[-1] if arrivals else 0, name)
    inputs, outputs = _lengths(traffic, for_inputs, for_outputs)
    groups = for_prefixes.integers(max(1, traffic.prefix_groups), size=n)
    drawn = zip(arrivals, inputs.tolist(), outputs.tolist(), groups.tolist(), strict=True)
    return Trace(
        name=name,
        requests=tuple(
            Request(
                index=index,
                arrival_ps=arrival_ps,
                input_tokens=own + shared,
                output_tokens=answer,
                prefix=(group,) if shared else (),
            )
            for index, (arrival_ps, own, answer, group) in enumerate(drawn)
        ),
        # A system prompt is one block, so that exactly all of it is shared.
        prefix_block_tokens=shared or PREFIX_BLOCK_TOKENS,
        concurrency=traffic.concurrency,
    )


def traffic_problems(traffic: Traffic, file: str) -> Iterator[Problem]:
    """Yield everything that is wrong in `traffic`, told as of `file`."""
    yield from choice_problems(ARRIVALS, traffic.arrivals, file, "arrivals")
    yield from _length_problems(traffic, file)
    shared = traffic.prefix_groups > 0
    limits: dict[str, tuple[int | None, int, int]] = {
        "requests": (traffic.requests, 0, MAX_REQUESTS),
        "prefix_groups": (traffic.prefix_groups, 0, MAX_REQUESTS),
        "prefix_tokens": (traffic.prefix_tokens, int(shared), MAX_TOKENS if shared else 0),
        "concurrency": (traffic.concurrency, 1, MAX_REQUESTS),
    }
    for key, (value, least, most) in limits.items():
        if value is not None and not least <= value <= most:
            groups = f" with {traffic.prefix_groups} groups" if key == "prefix_tokens" else ""
            yield Problem(
                file=file,
                key=key,
                value=str(value),
                message="is out of range",
                expected=f"{least} to {most}{groups}",
            )


def _length_problems(traffic: Traffic, file: str) -> Iterator[Problem]:
    for pair in traffic.pairs:
        if not (1 <= pair[0] <= MAX_TOKENS and 0 <= pair[1] <= MAX_TOKENS):
            expected = "1 or more input tokens and 0 or more output tokens"
            message = "are no lengths of a request"
            yield Problem(
                file=file, key="pairs", value=str(pair), message=message, expected=expected
            )
    laws = {"input_tokens": traffic.input_tokens, "output_tokens": traffic.output_tokens}
    for key, choice in laws.items():
        if traffic.pairs and choice is not None:
            message = "cannot be given beside pairs"
            yield Problem(file=file, key=key, message=message, expected="one of the two")
        elif choice is not None:
            yield from choice_problems(LENGTHS, choice, file, key)
        elif not traffic.pairs:
            expected = f"a law of {', '.join(LENGTHS)}"
            yield Problem(file=file, key=key, message="is missing", expected=expected)


def _lengths(
    traffic: Traffic, for_inputs: np.random.Generator, for_outputs: np.random.Generator
) -> tuple[Integers, Integers]:
    n = traffic.requests
    if traffic.input_tokens is None or traffic.output_tokens is None:
        pairs = np.array(traffic.pairs, dtype=np.int64)
        drawn = pairs[for_inputs.integers(len(pairs), size=n)]
        return drawn[:, 0], drawn[:, 1]
    inputs = traffic.input_tokens.draw(LENGTHS, n, for_inputs)
    return inputs, traffic.output_tokens.draw(LENGTHS, n, for_outputs)
