"""The serving engine as SimPy processes: a client, replicas that step, and links between them.

A replica is one or more ranks that step together (data-parallel attention beside experts that they
share: vLLM steps them in lockstep). Requests go through a router to a replica, or, where prompts
and decodes are apart, to a replica for prompts, whose KV then moves to one that decodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import simpy

from sim.errors import InvariantError
from sim.serving.config import ServeConfig
from sim.serving.kv_layout import blocks_of
from sim.serving.parts import ClusterParts, Wire
from sim.serving.policy import POLICIES
from sim.serving.rank import Rank, finish
from sim.serving.record import Outcome, ReplicaLog, RequestRecord, ServeRun
from sim.serving.replica import Process, Replica
from sim.serving.request import Request, Trace
from sim.serving.router import ROUTERS, RouterView
from sim.serving.scheduler import Scheduler
from sim.serving.sequence import ServedSequence
from sim.serving.speculative_cost import SpeculativeCost
from sim.serving.step_cost import StepCost

__all__ = ["ClusterParts", "Wire", "serve"]


def serve(trace: Trace, config: ServeConfig, parts: ClusterParts) -> ServeRun:
    """Return what happens when a cluster of replicas serves a trace to its last token.

    The same arguments give the same run. Raises InvariantError if a request is lost or its causes
    do not sum to its time.
    """
    env = simpy.Environment()
    cluster = _Cluster(env, trace, config, parts)
    env.process(cluster.client())
    for replica in cluster.replicas:
        env.process(replica.run())
    env.run()
    return cluster.result()


@dataclass(slots=True, eq=False)
class _Cluster:
    """All processes of one run, and the records they fill."""

    env: simpy.Environment
    trace: Trace
    config: ServeConfig
    parts: ClusterParts
    replicas: list[Replica] = field(init=False)
    _ranks: list[Rank] = field(default_factory=list)
    _records: dict[int, RequestRecord] = field(default_factory=dict)
    _came_from: dict[ServedSequence, tuple[Replica, Rank]] = field(default_factory=dict)
    _routed: int = 0
    _open: int = 0
    _events: int = 0
    _place: simpy.Event | None = None
    _wire_free_ps: dict[int, int] = field(default_factory=dict)
    _cost: StepCost = field(init=False)

    def __post_init__(self) -> None:
        """Build the replicas."""
        guesses, draft = self.config.speculation, self.parts.draft
        self._cost = self.parts.cost
        if guesses is not None and draft is not None:
            self._cost = SpeculativeCost(
                target=self._cost, draft=draft, draft_tokens=guesses.draft_tokens
            )
        self.replicas = [self._replica(number) for number in range(self.config.replicas)]

    def _replica(self, number: int) -> Replica:
        prefills = self.config.prefill_replicas
        role = ("prefill" if number < prefills else "decode") if prefills else ""
        ranks = [self._rank(role) for _ in range(self.config.data_parallel)]
        return Replica(
            env=self.env,
            ranks=ranks,
            parts=self.parts,
            # How many guesses held is known only at the end of a step.
            asynchronous=self.config.async_scheduling and self.config.speculation is None,
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
            tells_contexts=self.parts.exact,
            seed=self.parts.seed,
        )
        log = ReplicaLog(
            role=role, gpus=self.config.tensor_parallel, kv_blocks_total=kv.total_blocks
        )
        rank = Rank(number=len(self._ranks), scheduler=scheduler, cost=self._cost, log=log)
        self._ranks.append(rank)
        return rank

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
        choices[number].submit(sequence)

    def _choice(self, choices: Sequence[Replica], request: Request) -> int:
        view = RouterView(
            routed=self._routed,
            loads=[replica.load for replica in choices],
            hit_tokens=lambda n: choices[n].hit_tokens(request),
        )
        self._routed += 1
        return ROUTERS[self.config.router](view)

    def _done(self, replica: Replica, rank: Rank, sequence: ServedSequence) -> None:
        del replica, rank
        finish(sequence, int(self.env.now))
        self._open -= 1
        if self._place is not None:
            self._place.succeed()
            self._place = None

    def _prompt_done(self, replica: Replica, rank: Rank, sequence: ServedSequence) -> None:
        """Hand a computed prompt over to a replica that decodes, unless it is done."""
        if sequence.request.output_tokens <= 1:
            rank.scheduler.release(sequence)
            self._done(replica, rank, sequence)
            return
        self._came_from[sequence] = replica, rank
        sequence.limit = sequence.request.output_tokens
        sequence.target = sequence.request.input_tokens
        sequence.remote = True
        sequence.waits_for = "queue"
        decoders = self.replicas[self.config.prefill_replicas :]
        chosen = min(decoders, key=lambda decoder: decoder.load)
        sequence.record.emitted.clear()
        chosen.submit(sequence)

    def _arriving(self, replica: Replica, rank: Rank, sequence: ServedSequence) -> None:
        """Start to move the KV of a sequence for which there is room now."""
        now = int(self.env.now)
        sequence.charge("queue", now)
        source, source_rank = self._came_from.pop(sequence)
        layout = source_rank.scheduler.kv.layout
        tokens = sequence.target
        size = blocks_of(layout, tokens, 1) * layout.block_bytes
        free = max(now, self._wire_free_ps.get(source_rank.number, 0))
        done = free + self.parts.peer.time_ps(size)
        self._wire_free_ps[source_rank.number] = done
        self._events += 1
        moved = self.env.timeout(done - now)
        moved.callbacks.append(
            lambda _: self._moved(sequence, (source, source_rank), (replica, rank))
        )

    def _moved(
        self, sequence: ServedSequence, source: tuple[Replica, Rank], place: tuple[Replica, Rank]
    ) -> None:
        """Let a sequence decode whose KV has arrived, and its prompt's blocks be used again."""
        sequence.charge("kv_transfer", int(self.env.now))
        source[1].scheduler.release(sequence)
        place[1].scheduler.arrive(sequence)
        source[0].wake()
        place[0].wake()

    def result(self) -> ServeRun:
        """Return what is left behind; raises InvariantError if a request was lost."""
        for record in self._records.values():
            if record.outcome is Outcome.FINISHED and record.finished_ps is None:
                raise InvariantError(f"request {record.index} was never finished")
        for rank in self._ranks:
            rank.sample(rank.ended_ps)
            rank.scheduler.kv.check()
        return ServeRun(
            requests=tuple(self._records[r.index] for r in self.trace.requests),
            replicas=tuple(rank.log for rank in self._ranks),
            events=self._events + sum(replica.events for replica in self.replicas),
        )
