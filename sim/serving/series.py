"""A run over time: a few hundred buckets of equal width, for files and figures.

What a step did is spread evenly over the step, so sums over buckets are sums over steps; levels
(running, waiting, KV) are means over the bucket, weighted by time, and count as 0 between steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.measure.causes import CAUSES
from sim.serving.emissions import Floats
from sim.serving.metrics import start_ps
from sim.serving.record import ReplicaLog, ServeRun
from sim.units import PS_PER_S

BUCKETS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Arrays with one entry per bucket, over all replicas; `edges_ps` has one more.

    Token rates are per second. `kv`, `mbu` and `mfu` are means over replicas from 0 to 1, the
    latter two of peak rates over the whole time, idle time included. `stalls` has a row per cause
    of `sim.measure.causes.CAUSES`: its share of the time in which replicas stepped, all 0 where
    none did.
    """

    edges_ps: Floats
    running: Floats
    waiting: Floats
    kv: Floats
    prompt_tokens_per_s: Floats
    output_tokens_per_s: Floats
    mbu: Floats
    mfu: Floats
    stalls: Floats


def series(
    run: ServeRun, peak_bytes_per_s: float, peak_flop_per_s: float, buckets: int = BUCKETS
) -> Series:
    """Return `run` in `buckets` from its first request to the end of its last step."""
    end = max((log.end_ps[-1] for log in run.replicas if log.end_ps), default=0)
    begin = min(start_ps(run), end)
    edges = np.linspace(begin, max(end, begin + 1), buckets + 1)
    width_s = float(edges[1] - edges[0]) / PS_PER_S
    n = max(1, len(run.replicas))

    def total(amounts: Callable[[ReplicaLog], Floats]) -> Floats:
        parts = [_per_bucket(log, amounts(log), edges) for log in run.replicas if log.end_ps]
        summed: Floats = np.sum([np.zeros(buckets), *parts], axis=0)
        return summed

    def level(values: Callable[[ReplicaLog], Floats]) -> Floats:
        return total(lambda log: values(log) * _lengths_s(log)) / width_s

    return Series(
        edges_ps=edges,
        running=level(lambda log: _floats(log.running)),
        waiting=level(lambda log: _floats(log.waiting)),
        kv=level(lambda log: _floats(log.kv_blocks) / max(1, log.kv_blocks_total)) / n,
        prompt_tokens_per_s=total(lambda log: _floats(log.prefill_tokens)) / width_s,
        output_tokens_per_s=total(lambda log: _floats(log.generated)) / width_s,
        mbu=total(lambda log: _floats(log.hbm_bytes)) / width_s / peak_bytes_per_s / n,
        mfu=total(lambda log: _floats(log.flop)) / width_s / peak_flop_per_s / n,
        stalls=stall_shares(run, edges),
    )


def stall_shares(run: ServeRun, edges_ps: Floats) -> Floats:
    """Return the share of step time by cause (rows) in each bucket, from the sampled ledgers."""
    spent = np.zeros((len(CAUSES), edges_ps.size - 1))
    for log in run.replicas:
        if log.ledger_at:
            times = np.array([log.start_ps[0], *(at for at, _ in log.ledger_at)], dtype=float)
            table = np.array([(0,) * len(CAUSES), *(row for _, row in log.ledger_at)], dtype=float)
            spent += [np.diff(np.interp(edges_ps, times, column)) for column in table.T]
    whole = spent.sum(axis=0)
    shares: Floats = np.divide(spent, whole, out=np.zeros_like(spent), where=whole > 0)
    return shares


def _floats(values: object) -> Floats:
    return np.array(values, dtype=np.float64)


def _lengths_s(log: ReplicaLog) -> Floats:
    return (_floats(log.end_ps) - _floats(log.start_ps)) / PS_PER_S


def _per_bucket(log: ReplicaLog, amounts: Floats, edges_ps: Floats) -> Floats:
    """Return how much of `amounts`, one a step, falls between the edges."""
    times = np.stack([_floats(log.start_ps), _floats(log.end_ps)], axis=1).ravel()
    sums = np.cumsum(amounts)
    reached = np.stack([sums - amounts, sums], axis=1).ravel()
    return np.diff(np.interp(edges_ps, times, reached))
