"""Numbers of a serving run, defined as `vllm bench serve` defines them.

TTFT is from when a request was sent to its first token, TPOT the mean gap after it (none for a
request of one token), E2E until it is done. Percentiles interpolate linearly. Times are ps; a run
lasts from its first request sent to its last one done.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.serving.config import Slo
from sim.serving.emissions import Emissions, Floats, Integers
from sim.serving.record import Outcome, ReplicaLog, ServeRun
from sim.units import PS_PER_S

Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Latencies of all requests, in ps and in the order of the run; NaN where there is none."""

    finished: Booleans
    ttft_ps: Floats
    tpot_ps: Floats
    e2e_ps: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a metric is spread over `count` values; all zero if there is no value."""

    count: int
    mean: float
    std: float
    least: float
    p50: float
    p90: float
    p95: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """What a run is judged by.

    `goodput` counts requests a second that keep the SLO, None without one. `kv_peak` is the
    fullest that the KV cache of a replica got, `prefix_hit` the share of prompt tokens that were
    found cached; both from 0 to 1.
    """

    duration_ps: int
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int
    requests_per_s: float
    goodput: float | None
    output_tokens_per_s: float
    total_tokens_per_s: float
    most_tokens_per_s: int
    most_concurrent: int
    preemptions: int
    prefix_hit: float
    kv_peak: float


def latencies(run: ServeRun) -> Latencies:
    """Return the latencies of every request of `run`."""
    sent = np.array([r.sent_ps for r in run.requests], dtype=np.float64)
    one = _or_nan([r.first_token_ps for r in run.requests])
    end = _or_nan([r.finished_ps for r in run.requests])
    tokens = np.array([r.output_tokens for r in run.requests], dtype=np.int64)
    gaps = np.where(tokens > 1, tokens - 1, 1)
    return Latencies(
        finished=finished(run),
        ttft_ps=one - sent,
        tpot_ps=np.where(tokens > 1, (end - one) / gaps, np.nan),
        e2e_ps=end - sent,
    )


def finished(run: ServeRun) -> Booleans:
    """Return which requests of `run` finished."""
    return np.array([r.outcome is Outcome.FINISHED for r in run.requests], dtype=bool)


def spread(values: Floats | Integers) -> Spread:
    """Return the spread of `values`, NaN left out."""
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if not known.size:
        return Spread(count=0, mean=0, std=0, least=0, p50=0, p90=0, p95=0, p99=0, most=0)
    least, p50, p90, p95, p99, most = map(float, np.percentile(known, [0, 50, 90, 95, 99, 100]))
    return Spread(
        count=known.size,
        # A mean outside of least and most would be rounding; it must not show.
        mean=min(max(float(known.mean()), least), most),
        std=float(known.std()),
        least=least,
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        most=most,
    )


def good(times: Latencies, slo: Slo) -> Booleans:
    """Return which requests finished and kept `slo`; a latency that a request lacks is kept."""
    kept = times.finished.copy()
    for values, limit in (
        (times.ttft_ps, slo.ttft_ps),
        (times.tpot_ps, slo.tpot_ps),
        (times.e2e_ps, slo.e2e_ps),
    ):
        if limit is not None:
            kept &= ~(values > limit)
    return kept


def start_ps(run: ServeRun) -> int:
    """Return when the first request was sent, 0 if there is none."""
    return min((r.sent_ps for r in run.requests), default=0)


def duration_ps(run: ServeRun) -> int:
    """Return the time from the first request sent to the last one done, 0 if none is done."""
    ends = [r.finished_ps for r in run.requests if r.finished_ps is not None]
    return max(ends) - start_ps(run) if ends else 0


def headline(
    run: ServeRun, times: Latencies, emitted: Emissions, slo: Slo | None = None
) -> Headline:
    """Return what `run` is judged by; rates are 0 for a run that takes no time."""
    done = [r for r in run.requests if r.outcome is Outcome.FINISHED]
    inputs, outputs = sum(r.input_tokens for r in done), sum(r.output_tokens for r in done)
    took_ps = duration_ps(run)
    seconds = took_ps / PS_PER_S or float("inf")
    hits = sum(r.prefix_hit_tokens for r in done)
    return Headline(
        duration_ps=took_ps,
        completed=len(done),
        failed=len(run.requests) - len(done),
        input_tokens=inputs,
        output_tokens=outputs,
        requests_per_s=len(done) / seconds,
        goodput=None if slo is None else int(good(times, slo).sum()) / seconds,
        output_tokens_per_s=outputs / seconds,
        total_tokens_per_s=(inputs + outputs) / seconds,
        most_tokens_per_s=emitted.most_a_second(min((r.sent_ps for r in done), default=0)),
        most_concurrent=most_concurrent(run),
        preemptions=sum(r.preemptions for r in run.requests),
        prefix_hit=hits / max(1, inputs),
        kv_peak=max(map(_fullest, run.replicas), default=0.0),
    )


def most_concurrent(run: ServeRun) -> int:
    """Return the most finished requests that were in flight at once.

    One that ends at the instant at which another is sent makes room for it.
    """
    done = [r for r in run.requests if r.finished_ps is not None]
    starts = np.sort(np.array([r.sent_ps for r in done], dtype=np.int64))
    ends = np.sort(np.array([r.finished_ps for r in done], dtype=np.int64))
    if not done:
        return 0
    gone = np.searchsorted(ends, starts, side="right")
    return int((np.arange(1, starts.size + 1) - gone).max())


def cause_totals(run: ServeRun) -> tuple[int, ...]:
    """Return the ps of all finished requests by REQUEST_CAUSES."""
    rows = [r.causes_ps for r in run.requests if r.causes_ps]
    return tuple(map(sum, zip(*rows, strict=True)))


def step_totals(run: ServeRun) -> tuple[int, ...]:
    """Return the ps of all steps of all replicas by CAUSES."""
    rows = [log.ledger_at[-1][1] for log in run.replicas if log.ledger_at]
    return tuple(map(sum, zip(*rows, strict=True)))


def _or_nan(values: list[int | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _fullest(log: ReplicaLog) -> float:
    return max(log.kv_blocks, default=0) / max(1, log.kv_blocks_total)
