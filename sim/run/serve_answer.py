"""What limits a serving run, in one or two sentences made of its numbers alone."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sim.measure.causes import CAUSES, REQUEST_CAUSES
from sim.run.answer import CAUSE_LABELS
from sim.run.serve_result import Served
from sim.units import format_time

REQUEST_LABELS: Final = MappingProxyType(
    {
        **CAUSE_LABELS,
        "queue": "queue",
        "prefill_wait": "prompt waiting",
        "preempted": "preempted",
        "interference": "interference",
        "kv_transfer": "KV transfer",
    }
)
ROLES: Final = MappingProxyType(
    {
        "queue": "more capacity or fewer requests would help, not a faster kernel",
        "prefill_wait": "a larger budget of batched tokens would help",
        "preempted": "more room for KV would help",
        "interference": "smaller prompt chunks or separate prefill replicas would help",
        "kv_transfer": "a faster link between prefill and decode would help",
        "hbm_bandwidth": "fewer bytes would help: weights and KV in fewer bits, larger batches",
        "tensor": "fewer FLOP or a faster format would help",
    }
)
"""What a cause that leads asks for."""
_WAYS: Final = MappingProxyType(
    {
        "queue": "in the queue",
        "prefill_wait": "with its prompt waiting",
        "preempted": "thrown out of the cache",
    }
)
NAMED: Final = 3
LEAST: Final = 0.01
"""Causes with less than this share are not named."""


def mean_request_ps(one: Served) -> dict[str, float]:
    """Return where the mean finished request's time goes, in ps by REQUEST_CAUSES.

    Empty if none finished.
    """
    count = max(1, one.headline.completed)
    return {
        cause: total / count
        for cause, total in zip(REQUEST_CAUSES, one.request_causes_ps, strict=False)
    }


def step_causes(one: Served) -> dict[str, int]:
    """Return the ps of all steps by CAUSES; empty if there was no step."""
    return dict(zip(CAUSES, one.step_causes_ps, strict=False))


def serve_answer(results: Sequence[Served]) -> tuple[str, ...]:
    """Return one or two sentences on what limits: the largest causes of the mean request."""
    done = [one for one in results if one.headline.completed]
    if not done:
        return ("No request finished.",)
    if len(done) == 1:
        return (_spends(done[0]), _limit(done[0]))
    best = min(done, key=lambda one: one.e2e.mean)
    others = [one for one in done if one is not best]
    worst = max(others, key=lambda one: one.e2e.mean)
    first = (
        f"{best.info.contestant} answers its mean request first, after "
        f"{format_time(int(best.e2e.mean))}; {worst.info.contestant} takes "
        f"{format_time(int(worst.e2e.mean))}"
    )
    gap = _difference(best, worst)
    return (f"{first}, {gap}." if gap else f"{first}.", _spends(best))


def spent(cause: str) -> str:
    """Return how a sentence says that time went to `cause`: `on HBM bandwidth`."""
    return _WAYS.get(cause, f"on {REQUEST_LABELS[cause]}")


def shares_text(times: Mapping[str, float], most: int = NAMED) -> str:
    """Return the largest of `times` as shares: `52 % on tail and 20 % in the queue`."""
    whole = sum(times.values())
    order = sorted(times, key=lambda cause: -times[cause])[:most]
    parts = [
        f"{100 * times[cause] / whole:.0f} % {spent(cause)}"
        for cause in order
        if whole and times[cause] >= LEAST * whole
    ]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _spends(one: Served) -> str:
    return (
        f"The mean request of {one.info.contestant} spends "
        f"{shares_text(mean_request_ps(one))} of its {format_time(int(one.e2e.mean))}."
    )


def _limit(one: Served) -> str:
    times = mean_request_ps(one)
    cause = max(times, key=lambda name: times[name])
    meaning = REQUEST_CAUSES[cause].split(":")[0]
    hint = f"; {ROLES[cause]}" if cause in ROLES else ""
    return f"What limits it most: {REQUEST_LABELS[cause]} ({meaning}){hint}."


def _difference(best: Served, worst: Served) -> str:
    """Say which cause makes most of the difference between two mean requests."""
    a, b = mean_request_ps(best), mean_request_ps(worst)
    cause = max(a, key=lambda name: b[name] - a[name])
    more, gap = b[cause] - a[cause], worst.e2e.mean - best.e2e.mean
    if more <= 0 or gap <= 0:
        return ""
    return f"{format_time(int(more))} more of it {spent(cause)}"
