"""Synthetic serving runs for tests of metrics, files and figures: consistent, never simulated.

A toy replica with continuous batching and chunked prompts: the times of its steps are a straight
line in their tokens and mean nothing, but every record agrees with the log of its replica, and
causes sum to the life of their request exactly.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf

import numpy as np
from hypothesis import strategies as st

from sim.measure.causes import CAUSES, REQUEST_CAUSES
from sim.run.serve_result import Served, ServeInfo, served
from sim.serving.config import ServeConfig, Slo
from sim.serving.record import Outcome, ReplicaLog, RequestRecord, ServeRun
from sim.serving.request import MeasuredTimes, Request, Trace

PS_PER_S = 10**12
BLOCK_TOKENS = 16
_HOST_PS, _WEIGHTS_PS, _DECODE_PS, _PREFILL_PS = 300_000_000, 9 * 10**9, 25_000_000, 12_000_000
_NAMES = tuple(REQUEST_CAUSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """The few settings of a toy replica."""

    replicas: int = 1
    max_num_seqs: int = 64
    chunk_tokens: int = 2048
    kv_blocks: int = 8_000
    slowness: int = 1


@dataclass(slots=True)
class _Sequence:
    request: Request
    record: RequestRecord
    prompt_left: int
    left: int
    started: int = 0
    parked_ps: int = 0
    waits: list[tuple[int, int]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Return the tokens it holds in the cache, at most."""
        return self.request.input_tokens + self.request.output_tokens

    @property
    def blocks(self) -> int:
        return -(-self.tokens // BLOCK_TOKENS)


class _Replica:
    """One toy replica; `serve` plays its requests from the first to the last."""

    def __init__(self, toy: Toy, index: int) -> None:
        self.toy, self.index = toy, index
        self.log = ReplicaLog(kv_blocks_total=toy.kv_blocks)
        self.now_ps = 0
        self.used = 0
        self.ledgers: list[tuple[int, ...]] = []
        self.queue: deque[_Sequence] = deque()
        self.prefills: deque[_Sequence] = deque()
        self.ending: dict[int, list[_Sequence]] = {}
        self.decoding: dict[int, _Sequence] = {}

    def serve(self, requests: Sequence[Request]) -> list[RequestRecord]:
        coming = deque(requests)
        records = []
        while coming or self.queue or self.prefills or self.decoding:
            if not (self.queue or self.prefills or self.decoding):
                self.now_ps = max(self.now_ps, coming[0].arrival_ps)
            while coming and coming[0].arrival_ps <= self.now_ps:
                records.append(self._arrive(coming.popleft()))
            self._admit()
            if self.prefills or self.decoding:
                self._step()
        self._close_ledger()
        return records

    def _arrive(self, request: Request) -> RequestRecord:
        record = RequestRecord(
            index=request.index, sent_ps=request.arrival_ps, input_tokens=request.input_tokens,
            output_tokens=request.output_tokens, replica=self.index,
        )  # fmt: skip
        sequence = _Sequence(request, record, request.input_tokens, request.output_tokens)
        if sequence.blocks > self.toy.kv_blocks:
            record.outcome, record.reason = Outcome.REJECTED, "needs more KV than there is"
        else:
            self.queue.append(sequence)
        return record

    def _admit(self) -> None:
        while self.queue and len(self.prefills) + len(self.decoding) < self.toy.max_num_seqs:
            if self.used + self.queue[0].blocks > self.toy.kv_blocks:
                return
            sequence = self.queue.popleft()
            self.used += sequence.blocks
            record = sequence.record
            if record.scheduled_ps is None:
                record.scheduled_ps = self.now_ps
                if sequence.request.prefix:
                    hit = sequence.request.input_tokens // 2
                    record.prefix_hit_tokens = hit
                    sequence.prompt_left -= hit
            else:
                sequence.waits.append((sequence.parked_ps, self.now_ps))
            self.prefills.append(sequence)

    def _step(self) -> None:
        log, step = self.log, len(self.log.start_ps)
        for values, value in (
            (log.start_ps, self.now_ps), (log.decodes, len(self.decoding)),
            (log.running, len(self.decoding) + len(self.prefills)),
            (log.waiting, len(self.queue)), (log.kv_blocks, self.used),
        ):  # fmt: skip
            values.append(value)
        decodes, done, tokens = len(self.decoding), [], self.toy.chunk_tokens
        while self.prefills and tokens:
            took = min(tokens, self.prefills[0].prompt_left)
            tokens -= took
            self.prefills[0].prompt_left -= took
            if self.prefills[0].prompt_left == 0:
                done.append(self.prefills.popleft())
        tokens = self.toy.chunk_tokens - tokens
        self._charge(decodes, tokens)
        self.now_ps = self.now_ps + sum(self.ledgers[-1])
        log.end_ps.append(self.now_ps)
        log.prefill_tokens.append(tokens)
        log.generated.append(decodes + sum(s.left > 0 for s in done))
        self._emit(step, done)

    def _charge(self, decodes: int, tokens: int) -> None:
        """Make up the ledger of a step: weights and KV by bandwidth, prompts by tensor cores."""
        tensor = _PREFILL_PS * tokens * self.toy.slowness
        memory = (_WEIGHTS_PS + _DECODE_PS * decodes) * self.toy.slowness
        parts = {
            "tensor": tensor, "vector": tensor // 5 + memory // 40, "hbm_bandwidth": memory,
            "hbm_latency": memory // 9, "launch": memory // 30, "tail": memory // 12,
            "host": _HOST_PS,
        }  # fmt: skip
        self.ledgers.append(tuple(parts.get(cause, 0) for cause in CAUSES))
        self.log.hbm_bytes.append(memory * 3 // self.toy.slowness)
        self.log.flop.append(tensor * 600 // self.toy.slowness)

    def _emit(self, step: int, done: list[_Sequence]) -> None:
        for sequence in done:
            if sequence.left == 0:
                self._finish(sequence)
                continue
            if sequence.record.first_token_ps is None:
                sequence.record.first_token_ps = self.now_ps
            sequence.started = step
            self.decoding[sequence.request.index] = sequence
            self.ending.setdefault(step + sequence.left - 1, []).append(sequence)
        for sequence in self.ending.pop(step, []):
            sequence.record.emitted.append((sequence.started, step))
            del self.decoding[sequence.request.index]
            self._finish(sequence)
        if step % 31 == 30 and len(self.decoding) > 1 and self.queue:
            self._preempt(step)

    def _preempt(self, step: int) -> None:
        """Throw out the youngest decoding request; it comes back to compute its prompt anew."""
        sequence = self.decoding.popitem()[1]
        self.ending[sequence.started + sequence.left - 1].remove(sequence)
        sequence.record.emitted.append((sequence.started, step))
        made = step - sequence.started + 1
        sequence.left -= made
        sequence.prompt_left = sequence.request.input_tokens + made
        sequence.record.preemptions += 1
        sequence.parked_ps = self.now_ps
        self.used -= sequence.blocks
        self.queue.append(sequence)

    def _finish(self, sequence: _Sequence) -> None:
        sequence.record.finished_ps = self.now_ps
        self.used -= sequence.blocks
        self.waits_of = getattr(self, "waits_of", {})
        self.waits_of[sequence.request.index] = sequence.waits

    def _close_ledger(self) -> None:
        """Fill in what needs the whole log: the sampled ledger, and the causes of requests."""
        if not self.ledgers:
            return
        table = np.array(self.ledgers, dtype=np.int64)
        self.sums = np.vstack([np.zeros((1, len(CAUSES)), dtype=np.int64), table.cumsum(axis=0)])
        ends = list(self.log.end_ps)
        due = PS_PER_S
        for step, end_ps in enumerate(ends):
            if end_ps >= due or step == len(ends) - 1:
                self.log.ledger_at.append((end_ps, tuple(map(int, self.sums[step + 1]))))
                due = end_ps + PS_PER_S
        self.place = {start: i for i, start in enumerate(self.log.start_ps)}
        self.place[ends[-1]] = len(ends)

    def causes(self, record: RequestRecord) -> tuple[int, ...]:
        """Return how a finished request spent its life: steps, less what it waited."""
        assert record.scheduled_ps is not None
        assert record.finished_ps is not None
        waits = self.waits_of[record.index]
        spent = self._between(record.scheduled_ps, record.finished_ps)
        for start_ps, end_ps in waits:
            spent = spent - self._between(start_ps, end_ps)
        shared = spent // 4
        found = dict(zip(CAUSES, map(int, spent - shared), strict=True))
        return tuple(
            (found | {
                "queue": record.scheduled_ps - record.sent_ps,
                "prefill_wait": 0,
                "preempted": sum(end - start for start, end in waits),
                "interference": int(shared.sum()),
                "kv_transfer": 0,
            })[name]
            for name in _NAMES
        )  # fmt: skip

    def _between(self, start_ps: int, end_ps: int) -> np.ndarray:
        if start_ps == end_ps:
            return self.sums[0]
        last = self.place.get(end_ps)
        if last is None:  # the end of the last step before the replica fell idle
            last = int(np.searchsorted(np.asarray(self.log.end_ps), end_ps)) + 1
        return self.sums[last] - self.sums[self.place[start_ps]]


def serve_run(trace: Trace, toy: Toy | None = None) -> ServeRun:
    """Return a toy replay of `trace`, its requests dealt to the replicas in turn."""
    toy = toy or Toy()
    replicas = [_Replica(toy, index) for index in range(toy.replicas)]
    records: list[RequestRecord] = []
    for replica in replicas:
        mine = [r for r in trace.requests if r.index % toy.replicas == replica.index]
        found = replica.serve(mine)
        for record in found:
            if record.outcome is Outcome.FINISHED:
                record.causes_ps = replica.causes(record)
        records += found
    records.sort(key=lambda record: record.index)
    logs = tuple(replica.log for replica in replicas)
    return ServeRun(
        requests=tuple(records), replicas=logs, events=sum(len(log.end_ps) for log in logs)
    )


def trace_of(
    rows: Sequence[tuple[int, int, int]], *, name: str = "toy", shared: bool = False
) -> Trace:
    """Return a trace of (arrival in ps, input tokens, output tokens)."""
    requests = tuple(
        Request(
            index=index, arrival_ps=arrival, input_tokens=inputs, output_tokens=outputs,
            prefix=(1, index) if shared and index % 3 == 0 else (),
        )
        for index, (arrival, inputs, outputs) in enumerate(sorted(rows, key=lambda row: row[0]))
    )  # fmt: skip
    return Trace(name=name, requests=requests)


def poisson_trace(count: int, rate: float, seed: int = 0, mean_output: int = 200) -> Trace:
    """Return `count` requests at `rate` a second with skewed lengths."""
    rng = np.random.default_rng(seed)
    arrivals = list(accumulate(int(gap * PS_PER_S) for gap in rng.exponential(1 / rate, count)))
    inputs = np.clip(rng.lognormal(6.2, 1.0, count), 8, 12_000).astype(int)
    outputs = np.clip(rng.gamma(1.2, mean_output / 1.2, count), 1, 2_000).astype(int)
    rows = zip(arrivals, map(int, inputs), map(int, outputs), strict=True)
    return trace_of(list(rows), name="poisson", shared=True)


def measured(trace: Trace, run: ServeRun, factor: float = 1.05) -> Trace:
    """Return `trace` with measured times that are `factor` times the simulated ones."""
    first, last = [], []
    for record in run.requests:
        one, end = record.first_token_ps or record.sent_ps, record.finished_ps or record.sent_ps
        first.append(record.sent_ps + int(factor * (one - record.sent_ps)))
        last.append(record.sent_ps + int(factor * (end - record.sent_ps)))
    # When the real server scheduled a request is left open, as some runs leave it.
    times = MeasuredTimes(first_token_ps=tuple(first), last_token_ps=tuple(last))
    return Trace(name=trace.name, requests=trace.requests, measured=times)


@st.composite
def serve_runs(draw: st.DrawFn) -> tuple[Trace, ServeRun]:
    """Draw a small trace and its toy replay: ties, no and one token, preemption, rejection."""
    row = st.tuples(
        st.integers(0, 3 * PS_PER_S), st.integers(1, 6_000), st.sampled_from((0, 1, 2, 9, 150))
    )
    trace = trace_of(draw(st.lists(row, min_size=1, max_size=25)), shared=draw(st.booleans()))
    toy = Toy(
        replicas=draw(st.integers(1, 3)),
        max_num_seqs=draw(st.sampled_from((1, 3, 64))),
        kv_blocks=draw(st.sampled_from((330, 2_000))),
    )
    return trace, serve_run(trace, toy)


def info(name: str = "Toy-8B", slo: Slo | None = None, rate: float = inf) -> ServeInfo:
    """Return the setting of a toy run on a toy chip."""
    return ServeInfo(
        scenario="toy_serving",
        title="Which toy answers first?",
        contestant=name,
        model="toy-8b",
        chip="h100-sxm",
        chip_title="NVIDIA H100 SXM 80 GB",
        engine="vllm",
        config=ServeConfig(max_num_seqs=64),
        seed=7,
        trace="poisson",
        request_rate=rate,
        peak_bytes_per_s=3_350 * 10**9,
        peak_flop_per_s=989 * 10**12,
        slo=slo,
        version="0.1.0",
    )


def toy_served(
    count: int = 40,
    rate: float = 9.0,
    toy: Toy | None = None,
    *,
    name: str = "Toy-8B",
    slo: Slo | None = None,
    real: bool = False,
) -> Served:
    """Return a toy run with its numbers; `real` adds measured times 5 % above the simulated."""
    trace = poisson_trace(count, rate, seed=3)
    run = serve_run(trace, toy)
    return served(info(name, slo, rate), run, measured(trace, run) if real else trace)
