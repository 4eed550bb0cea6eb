"""Which part of a trace is replayed, and how fast."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Final

from sim.errors import InputError, Problem
from sim.serving.request import Trace
from sim.units import PS_PER_S

Number = Decimal | Fraction | float | int

MAX_SPAN_PS: Final = 90 * 24 * 3600 * PS_PER_S
"""Latest arrival: it and what follows must stay within 64-bit picoseconds (106 days)."""


def cut_trace(
    trace: Trace,
    *,
    start_s: Number = 0,
    end_s: Number | None = None,
    limit: int | None = None,
    rate_scale: Number = 1,
) -> Trace:
    """Return the requests of `trace` in [start_s, end_s), of these the first `limit`, renumbered.

    Their times count from `start_s` and are divided by `rate_scale`: 2 makes them arrive twice as
    fast. Measured times are dropped with any change, for the server has not seen that trace.
    Raises InputError for a value that makes no sense, and if the result is too long.
    """
    _check(trace.name, start_s=start_s, end_s=end_s, limit=limit, rate_scale=rate_scale)
    start_ps, scale = _ps(start_s), _exact(rate_scale)
    end_ps = None if end_s is None else _ps(end_s)
    inside = [
        request
        for request in trace.requests
        if request.arrival_ps >= start_ps and (end_ps is None or request.arrival_ps < end_ps)
    ]
    chosen = inside if limit is None else inside[:limit]
    if len(chosen) == len(trace.requests) and start_ps == 0 and scale == 1:
        return trace
    requests = tuple(
        replace(request, index=index, arrival_ps=_divided(request.arrival_ps - start_ps, scale))
        for index, request in enumerate(chosen)
    )
    if requests:
        check_span(requests[-1].arrival_ps, trace.name)
    return replace(trace, requests=requests, measured=None)


def check_span(last_ps: int, file: str) -> None:
    """Raise InputError if the last request of a trace arrives later than times can tell."""
    if last_ps > MAX_SPAN_PS:
        day_ps = 24 * 3600 * PS_PER_S
        message = f"its last request arrives {last_ps // day_ps:,} days after its start"
        raise InputError(
            [Problem(file=file, message=message, expected=f"at most {MAX_SPAN_PS // day_ps}")]
        )


def _check(file: str, **values: Number | None) -> None:
    wanted: dict[str, tuple[Callable[[Number], bool], str]] = {
        "start_s": (lambda value: value >= 0, "0 or more"),
        "end_s": (lambda value: value >= 0, "0 or more"),
        "limit": (lambda value: value >= 0 and isinstance(value, int), "an integer, 0 or more"),
        "rate_scale": (lambda value: value > 0, "more than 0"),
    }
    problems = []
    for key, (holds, expected) in wanted.items():
        value = values[key]
        if value is not None and not (isfinite(value) and holds(value)):
            problem = Problem(
                file=file, key=key, value=str(value), message="makes no sense", expected=expected
            )
            problems.append(problem)
    if problems:
        raise InputError(problems)


def _exact(value: Number) -> Fraction:
    """Return a number as it is written: 0.1 is a tenth."""
    return Fraction(str(value))


def _ps(seconds: Number) -> int:
    return round(_exact(seconds) * PS_PER_S)


def _divided(time_ps: int, scale: Fraction) -> int:
    """Return time_ps / scale to the nearest picosecond, halves up."""
    return (2 * time_ps * scale.denominator + scale.numerator) // (2 * scale.numerator)
