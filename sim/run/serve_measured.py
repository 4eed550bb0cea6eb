"""A simulated run beside the real one: the same numbers of both, and the error."""

from dataclasses import dataclass

import numpy as np

from sim.run.serve_result import Served
from sim.serving.emissions import Floats
from sim.serving.metrics import Spread, finished, spread
from sim.units import PS_PER_S

PS_PER_MS = 1e9
FOUR_DIGITS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One number of both runs; `error` is the simulated over the measured one, less 1."""

    name: str
    unit: str
    measured: float
    simulated: float

    @property
    def error(self) -> float:
        """Return the relative error, 0.1 where the simulated number is 10 % too high."""
        return self.simulated / self.measured - 1 if self.measured else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Latencies of the real run, in ps; NaN where a request has none.

    They are counted from the arrival of a request in the trace; the queue of a request ends when
    it is first put into a batch, and is empty if the real run does not tell.
    """

    queue_ps: Floats
    ttft_ps: Floats
    tpot_ps: Floats
    e2e_ps: Floats
    duration_ps: int
    output_tokens: int


def digits(value: float) -> str:
    """Return a number of a comparison with four digits, and no exponent.

    >>> digits(14752.3), digits(14.7523)
    ('14,752', '14.75')
    """
    return f"{value:,.0f}" if abs(value) >= FOUR_DIGITS else f"{value:.4g}"


def measured_times(one: Served) -> Measured | None:
    """Return the latencies of the real run of the requests that finished in the simulated one."""
    real = one.trace.measured
    done = finished(one.run)
    if real is None or not done.any():
        return None
    arrival = np.array([r.arrival_ps for r in one.trace.requests], dtype=np.float64)[done]
    tokens = np.array([r.output_tokens for r in one.trace.requests], dtype=np.float64)[done]
    first = np.array(real.first_token_ps, dtype=np.float64)[done]
    last = np.array(real.last_token_ps, dtype=np.float64)[done]
    scheduled = np.array(real.scheduled_ps, dtype=np.float64)
    return Measured(
        queue_ps=scheduled[done] - arrival if scheduled.size else scheduled,
        ttft_ps=np.where(tokens > 0, first - arrival, np.nan),
        tpot_ps=np.where(tokens > 1, (last - first) / np.maximum(tokens - 1, 1), np.nan),
        e2e_ps=last - arrival,
        duration_ps=int(last.max() - arrival.min()),
        output_tokens=int(tokens.sum()),
    )


def compared(one: Served) -> tuple[Compared, ...]:
    """Return the numbers of the simulated run beside those of the real one, if there is one."""
    real = measured_times(one)
    if real is None:
        return ()
    ttft, tpot, e2e = spread(real.ttft_ps), spread(real.tpot_ps), spread(real.e2e_ps)
    rate = real.output_tokens * PS_PER_S / max(1, real.duration_ps)
    return (
        *_queue(one, real),
        *_latency("TTFT", ttft, one.ttft),
        *_latency("TPOT", tpot, one.tpot),
        *_latency("E2E", e2e, one.e2e),
        Compared(
            name="duration",
            unit="s",
            measured=real.duration_ps / PS_PER_S,
            simulated=one.headline.duration_ps / PS_PER_S,
        ),
        Compared(
            name="output throughput",
            unit="tokens/s",
            measured=rate,
            simulated=one.headline.output_tokens_per_s,
        ),
    )


def _queue(one: Served, real: Measured) -> tuple[Compared, ...]:
    if not real.queue_ps.size:
        return ()
    waits = [r.scheduled_ps - r.sent_ps for r in one.run.requests if r.scheduled_ps is not None]
    mean = spread(np.array(waits, dtype=np.int64)).mean
    measured = spread(real.queue_ps).mean / PS_PER_MS
    row = Compared(name="mean queue", unit="ms", measured=measured, simulated=mean / PS_PER_MS)
    return (row,)


def _latency(name: str, real: Spread, simulated: Spread) -> tuple[Compared, ...]:
    pairs = (
        ("mean", real.mean, simulated.mean),
        ("median", real.p50, simulated.p50),
        ("p99", real.p99, simulated.p99),
    )
    return tuple(
        Compared(name=f"{word} {name}", unit="ms", measured=a / PS_PER_MS, simulated=b / PS_PER_MS)
        for word, a, b in pairs
    )
