"""The serving engine as SimPy processes: a client, replicas that step, and links between them.

A replica is one or more ranks that step together (data-parallel attention beside experts that they
share: vLLM steps them in lockstep). Requests go through a router to a replica, or, where prompts
and decodes are apart, to a replica for prompts, whose KV then moves to one that decodes.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from sim.errors import InvariantError
from sim.serving.config import ServeConfig
from sim.serving.kv_cache import KvCache
from sim.serving.kv_layout import blocks_of
from sim.serving.policy import POLICIES
from sim.serving.rank import Rank, finish
from sim.serving.record import Outcome, ReplicaLog, RequestRecord, ServeRun
from sim.serving.request import Request, Trace
from sim.serving.router import ROUTERS, RouterView
from sim.serving.scheduler import Batch, Scheduler
from sim.serving.sequence import ServedSequence
from sim.serving.step_cost import BatchShape, Price, StepCost
from sim.units import transfer_ps

Process = Generator[simpy.Event, Any, None]
Plan = list[Batch | None]
# A rank without work runs one token beside its neighbours (vLLM `execute_dummy_batch`).
_DUMMY = BatchShape(decodes=1, context=1, longest=1)
# vLLM's balancer over data-parallel ranks (`DPLBAsyncMPClient`).
_WAITING_WEIGHT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A link that copies KV: its rate as payload and the time before the first byte."""

    bytes_per_s: int
    latency_ps: int

    def time_ps(self, size_bytes: int) -> int:
        """Return how long `size_bytes` take on an idle wire."""
        return self.latency_ps + transfer_ps(size_bytes, self.bytes_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterParts:
    """What a cluster is built of: what steps cost, a cache per rank, and its wires.

    `host` is the way to the host's memory of one rank, `peer` that from a GPU that computes prompts
    to one that decodes. `rows` tells how many rows a number of tokens is padded to.
    """

    cost: StepCost
    make_kv: Callable[[], KvCache]
    host: Wire
    peer: Wire
    rows: Callable[[int], int]


def serve(trace: Trace, config: ServeConfig, parts: ClusterParts) -> ServeRun:
    """Return what happens when a cluster of replicas serves a trace to its last token."""
    env = simpy.Environment()
    cluster = _Cluster(env, trace, config, parts)
    env.process(cluster.client())
    for replica in cluster.replicas:
        env.process(replica.run())
    env.run()
    return cluster.result()


@dataclass(slots=True, eq=False)
class _Replica:
    """Ranks that step together, as a process."""

    env: simpy.Environment
    ranks: list[Rank]
    parts: ClusterParts
    asynchronous: bool
    on_done: Callable[["_Replica", Rank, ServedSequence], None]
    on_arriving: Callable[["_Replica", Rank, ServedSequence], None]
    events: int = 0
    _wake: simpy.Event | None = None

    @property
    def load(self) -> int:
        """Return the requests that wait or run here."""
        return sum(rank.scheduler.load for rank in self.ranks)

    def submit(self, sequence: ServedSequence) -> None:
        """Let a sequence wait at the rank with the least to do."""
        rank = min(self.ranks, key=_busy)
        rank.scheduler.add(sequence)
        self.wake()

    def wake(self) -> None:
        """Tell an idle replica that there is something to do."""
        if self._wake is not None:
            self._wake.succeed()
            self._wake = None

    def run(self) -> Process:
        """Step for ever; an idle replica sleeps until it is woken."""
        planned = None
        while True:
            planned = planned or self._plan()
            if planned is None:
                self._wake = self.env.event()
                self.events += 1
                yield self._wake
                continue
            start_ps = int(self.env.now)
            prices, swaps = self._begin(planned, start_ps)
            duration_ps = max(p.time_ps + s for p, s in zip(prices, swaps, strict=True))
            following = self._plan() if self.asynchronous else None
            self.events += 1
            yield self.env.timeout(duration_ps)
            self._end(planned, prices, swaps, start_ps)
            planned = following

    def _plan(self) -> Plan | None:
        batches = []
        for rank in self.ranks:
            batches.append(rank.scheduler.plan())
            arriving, rank.scheduler.arriving = rank.scheduler.arriving, []
            for sequence in arriving:
                self.on_arriving(self, rank, sequence)
        return batches if any(batch is not None for batch in batches) else None

    def _begin(self, planned: Plan, start_ps: int) -> tuple[list[Price], list[int]]:
        shapes = [_DUMMY if batch is None else batch.shape for batch in planned]
        if len(shapes) > 1:
            rows = max(self.parts.rows(shape.tokens) for shape in shapes)
            shapes = [shape._replace(rows=rows) for shape in shapes]
        swaps = []
        for rank, batch in zip(self.ranks, planned, strict=True):
            if batch is not None:
                rank.begin(batch, start_ps)
            blocks = 0 if batch is None else batch.swapped_blocks
            size = blocks * rank.scheduler.kv.layout.block_bytes
            swaps.append(self.parts.host.time_ps(size) if size else 0)
        return [self.parts.cost.price(shape) for shape in shapes], swaps

    def _end(self, planned: Plan, prices: list[Price], swaps: list[int], start_ps: int) -> None:
        end_ps = int(self.env.now)
        for rank, batch, price, swap in zip(self.ranks, planned, prices, swaps, strict=True):
            if batch is not None:
                rank.end(batch, price, swap, start_ps, end_ps)
                rank.scheduler.complete(batch)
                for sequence in batch.last:
                    self.on_done(self, rank, sequence)


def _busy(rank: Rank) -> int:
    scheduler = rank.scheduler
    return _WAITING_WEIGHT * len(scheduler.waiting) + len(scheduler.running)


@dataclass(slots=True, eq=False)
class _Cluster:
    """All processes of one run, and the records they fill."""

    env: simpy.Environment
    trace: Trace
    config: ServeConfig
    parts: ClusterParts
    replicas: list[_Replica] = field(init=False)
    _records: dict[int, RequestRecord] = field(default_factory=dict)
    _came_from: dict[ServedSequence, Rank] = field(default_factory=dict)
    _routed: int = 0
    _open: int = 0
    _events: int = 0
    _place: simpy.Event | None = None
    _wire_free_ps: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Build the replicas."""
        self.replicas = [self._replica(number) for number in range(self.config.replicas)]

    def _replica(self, number: int) -> _Replica:
        prefills = self.config.prefill_replicas
        role = ("prefill" if number < prefills else "decode") if prefills else ""
        ranks = [self._rank(role) for _ in range(self.config.data_parallel)]
        return _Replica(
            env=self.env,
            ranks=ranks,
            parts=self.parts,
            asynchronous=self.config.async_scheduling,
            on_done=self._prompt_done if role == "prefill" else self._done,
            on_arriving=self._arriving,
        )

    def _rank(self, role: str) -> Rank:
        kv = self.parts.make_kv()
        scheduler = Scheduler(
            config=self.config,
            policy=POLICIES[self.config.policy],
            kv=kv,
            hold=role == "prefill",
        )
        log = ReplicaLog(
            role=role, gpus=self.config.tensor_parallel, kv_blocks_total=kv.total_blocks
        )
        return Rank(scheduler=scheduler, cost=self.parts.cost, log=log)

    def client(self) -> Process:
        """Send every request at its time; in a closed loop, when a place is free."""
        for request in self.trace.requests:
            if request.arrival_ps > self.env.now:
                self._events += 1
                yield self.env.timeout(request.arrival_ps - self.env.now)
            if self.trace.concurrency is not None:
                while self._open >= self.trace.concurrency:
                    self._place = self.env.event()
                    self._events += 1
                    yield self._place
            self._send(request)

    def _send(self, request: Request) -> None:
        apart = self.config.prefill_replicas
        limit = min(request.output_tokens, 1) if apart else request.output_tokens
        sequence = ServedSequence(request, int(self.env.now), limit)
        self._records[request.index] = sequence.record
        choices = self.replicas[:apart] if apart else self.replicas
        reason = choices[0].ranks[0].scheduler.rejection(request)
        if reason:
            sequence.record.outcome = Outcome.REJECTED
            sequence.record.reason = reason
            return
        self._open += 1
        number = self._choice(choices, request)
        sequence.record.replica = self.replicas.index(choices[number])
        choices[number].submit(sequence)

    def _choice(self, choices: Sequence[_Replica], request: Request) -> int:
        view = RouterView(
            routed=self._routed,
            loads=[replica.load for replica in choices],
            hit_tokens=lambda n: (
                choices[n].ranks[0].scheduler.kv.lookup(request, request.input_tokens)
            ),
        )
        self._routed += 1
        return ROUTERS[self.config.router](view)

    def _done(self, replica: _Replica, rank: Rank, sequence: ServedSequence) -> None:
        del replica, rank
        finish(sequence, int(self.env.now))
        self._open -= 1
        if self._place is not None:
            self._place.succeed()
            self._place = None

    def _prompt_done(self, replica: _Replica, rank: Rank, sequence: ServedSequence) -> None:
        """Hand a computed prompt over to a replica that decodes, unless it is done."""
        if sequence.request.output_tokens <= 1:
            rank.scheduler.release(sequence)
            self._done(replica, rank, sequence)
            return
        self._came_from[sequence] = rank
        sequence.limit = sequence.request.output_tokens
        sequence.target = sequence.request.input_tokens
        sequence.remote = True
        sequence.waits_for = "queue"
        decoders = self.replicas[self.config.prefill_replicas :]
        chosen = min(decoders, key=lambda decoder: decoder.load)
        sequence.record.replica = self.replicas.index(chosen)
        sequence.record.emitted.clear()
        chosen.submit(sequence)

    def _arriving(self, replica: _Replica, rank: Rank, sequence: ServedSequence) -> None:
        """Start to move the KV of a sequence for which there is room now."""
        now = int(self.env.now)
        sequence.charge("queue", now)
        source = self._came_from.pop(sequence)
        layout = source.scheduler.kv.layout
        tokens = sequence.target
        size = blocks_of(layout, tokens, 1) * layout.block_bytes
        free = max(now, self._wire_free_ps.get(id(source), 0))
        done = free + self.parts.peer.time_ps(size)
        self._wire_free_ps[id(source)] = done
        self._events += 1
        self.env.process(self._moved(replica, rank, source, sequence, done - now))

    def _moved(
        self,
        replica: _Replica,
        rank: Rank,
        source: Rank,
        sequence: ServedSequence,
        time_ps: int,
    ) -> Process:
        yield self.env.timeout(time_ps)
        sequence.charge("kv_transfer", int(self.env.now))
        source.scheduler.release(sequence)
        rank.scheduler.arrive(sequence)
        replica.wake()

    def result(self) -> ServeRun:
        """Return what is left behind; raises InvariantError if a request was lost."""
        for record in self._records.values():
            if record.outcome is Outcome.FINISHED and record.finished_ps is None:
                raise InvariantError(f"request {record.index} was never finished")
        ranks = [rank for replica in self.replicas for rank in replica.ranks]
        for rank in ranks:
            rank.sample(rank.ended_ps)
            rank.scheduler.kv.check()
        return ServeRun(
            requests=tuple(self._records[r.index] for r in self.trace.requests),
            replicas=tuple(rank.log for rank in ranks),
            events=self._events + sum(replica.events for replica in self.replicas),
        )
