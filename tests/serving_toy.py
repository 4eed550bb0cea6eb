"""A toy cluster for tests of the serving engine: every step takes 1 ms and 1 µs for each token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from sim.measure.causes import CAUSES, REQUEST_CAUSES
from sim.serving.config import ServeConfig
from sim.serving.emissions import emissions
from sim.serving.engine import ClusterParts, Wire, serve
from sim.serving.kv_cache import KvCache
from sim.serving.kv_layout import CacheKind, KvGroup, KvLayout
from sim.serving.record import Outcome, ReplicaLog, RequestRecord, ServeRun
from sim.serving.request import Request, Trace
from sim.serving.step_cost import BatchShape, Price

US = 10**6
MS = 10**9
BLOCK_TOKENS = 4
PREFIX_TOKENS = 8
FULL = KvGroup(kind=CacheKind.FULL, layers=1, block_tokens=BLOCK_TOKENS)
WINDOW = KvGroup(kind=CacheKind.WINDOW, layers=1, block_tokens=BLOCK_TOKENS, window=8)
STATE = KvGroup(kind=CacheKind.STATE, layers=1, block_tokens=1)
_TENSOR, _MEMORY = (list(CAUSES).index(cause) for cause in ("tensor", "hbm_bandwidth"))


@dataclass(slots=True, kw_only=True)
class ToyCost:
    """`step_ps` go to HBM, `token_ps` a token to tensor cores; `asked` are all questions so far."""

    step_ps: int = MS
    token_ps: int = US
    asked: list[BatchShape] = field(default_factory=list)

    def price(self, shape: BatchShape) -> Price:
        self.asked.append(shape)
        ledger = np.zeros(len(CAUSES), dtype=np.int64)
        tokens = max(shape.tokens, shape.rows)
        ledger[_TENSOR], ledger[_MEMORY] = self.token_ps * tokens, self.step_ps
        return Price(int(ledger.sum()), ledger, hbm_bytes=1000, flop=tokens)


@dataclass(slots=True, kw_only=True)
class Toy:
    """A cluster, and after `serve` the run and every cache of it."""

    config: ServeConfig
    blocks: int = 1000
    groups: tuple[KvGroup, ...] = (FULL,)
    cost: ToyCost = field(default_factory=ToyCost)
    draft: ToyCost | None = None
    seed: int = 0
    peer: Wire = field(default_factory=lambda: Wire(bytes_per_s=10**9, latency_ps=10 * US))
    rows: Callable[[int], int] = int
    caches: list[KvCache] = field(default_factory=list)

    def make_kv(self) -> KvCache:
        layout = KvLayout(groups=self.groups, group_layers=1, block_bytes=100_000)
        cache = KvCache(
            layout,
            self.blocks,
            prefix_caching=self.config.enable_prefix_caching,
            prefix_block_tokens=PREFIX_TOKENS,
        )
        self.caches.append(cache)
        return cache

    def serve(self, trace: Trace) -> ServeRun:
        parts = ClusterParts(
            cost=self.cost,
            make_kv=self.make_kv,
            host=Wire(bytes_per_s=10**9, latency_ps=5 * US),
            peer=self.peer,
            rows=self.rows,
            draft=self.draft,
            seed=self.seed,
        )
        return serve(trace, self.config, parts)


Row = tuple[float, int, int]


def trace_of(
    rows: Sequence[Row],
    *,
    prefixes: Sequence[tuple[int, ...]] = (),
    concurrency: int | None = None,
) -> Trace:
    """Return a trace of (arrival in ms, input tokens, output tokens)."""
    requests = tuple(
        Request(
            index=index,
            arrival_ps=round(arrival_ms * MS),
            input_tokens=inputs,
            output_tokens=outputs,
            prefix=prefixes[index] if prefixes else (),
        )
        for index, (arrival_ms, inputs, outputs) in enumerate(rows)
    )
    return Trace(
        name="toy",
        requests=requests,
        prefix_block_tokens=PREFIX_TOKENS,
        concurrency=concurrency,
    )


def steps(run: ServeRun, log: int = 0) -> list[tuple[float, int, int]]:
    """Return (end in µs, decodes, prompt tokens) of each step of a log."""
    found = run.replicas[log]
    ends = [end / US for end in found.end_ps]
    return list(zip(ends, found.decodes, found.prefill_tokens, strict=True))


def tokens_us(run: ServeRun) -> list[list[float]]:
    """Return when each request got its tokens, in µs."""
    found = emissions(run)
    bounds = found.bounds.tolist()
    times = [time / US for time in found.times_ps.tolist()]
    return [times[a:b] for a, b in pairwise(bounds)]


def causes_us(record: RequestRecord) -> dict[str, float]:
    """Return what a request was charged, in µs, without what it was not."""
    return {
        cause: time / US
        for cause, time in zip(REQUEST_CAUSES, record.causes_ps, strict=True)
        if time
    }


def check_laws(toy: Toy, trace: Trace, run: ServeRun) -> None:
    """Assert what must hold of every run."""
    assert [r.index for r in run.requests] == list(range(len(trace.requests)))
    for record, request in zip(run.requests, trace.requests, strict=True):
        assert record.sent_ps >= request.arrival_ps
        assert (record.outcome is Outcome.REJECTED) == bool(record.reason)
        if record.outcome is Outcome.REJECTED:
            assert (record.finished_ps, record.emitted, record.causes_ps) == (None, [], ())
        else:
            _check_request(record)
    _check_tokens(run)
    for log in run.replicas:
        _check_log(toy, log)
    for cache in toy.caches:
        cache.check()
        assert cache.used_blocks == 0
        assert cache.host_blocks == 0


def _check_request(record: RequestRecord) -> None:
    assert record.scheduled_ps is not None
    assert record.finished_ps is not None
    assert (record.first_token_ps is None) == (record.output_tokens == 0)
    first = record.first_token_ps or record.finished_ps
    assert record.sent_ps <= record.scheduled_ps < first <= record.finished_ps
    assert sum(record.causes_ps) == record.finished_ps - record.sent_ps
    assert min(record.causes_ps) >= 0
    assert 0 <= record.prefix_hit_tokens < record.input_tokens


def _check_tokens(run: ServeRun) -> None:
    """Assert that tokens asked for are given out once, and prompts computed once or anew."""
    finished = [r for r in run.requests if r.outcome is Outcome.FINISHED]
    # `emissions` itself compares the tokens of each request with what it asked for.
    found = emissions(run)
    asked = sum(r.output_tokens for r in finished)
    assert found.tokens.sum() == asked
    assert sum(sum(log.generated) for log in run.replicas) == asked
    for record, (a, b) in zip(run.requests, pairwise(found.bounds.tolist()), strict=True):
        if b > a:
            assert found.times_ps[a] == record.first_token_ps
            assert found.times_ps[b - 1] == record.finished_ps
            assert (np.diff(found.times_ps[a:b]) > 0).all()
    computed = sum(sum(log.prefill_tokens) for log in run.replicas)
    needed = sum(r.input_tokens - r.prefix_hit_tokens for r in finished)
    assert computed == needed if not any(r.preemptions for r in finished) else computed >= needed


def _check_log(toy: Toy, log: ReplicaLog) -> None:
    assert max(log.kv_blocks, default=0) <= toy.blocks
    assert max(log.running, default=0) <= toy.config.max_num_seqs
    assert all(start < end for start, end in zip(log.start_ps, log.end_ps, strict=True))
    assert all(e <= s for e, s in zip(log.end_ps, log.start_ps[1:], strict=False))
