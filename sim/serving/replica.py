"""A replica as a SimPy process: ranks that step together, for ever."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import simpy
from simpy.events import EventPriority

from sim.serving.batch import Batch
from sim.serving.parts import ClusterParts
from sim.serving.rank import Rank
from sim.serving.request import Request
from sim.serving.sequence import ServedSequence
from sim.serving.step_cost import Price

Process = Generator[simpy.Event, Any, None]
Plan = list[Batch | None]
# vLLM's balancer over data-parallel ranks (`DPLBAsyncMPClient`).
_WAITING_WEIGHT = 4
# SimPy's own events have 0 (urgent) or 1 (normal).
_AFTER_ALL_ELSE = EventPriority(2)
# What a rank without neighbours copies in most steps.
_NO_SWAP = [0]


class _StepEnd(simpy.Event):
    """The end of a step, after everything else of its instant.

    So a request that arrives just then is seen by whoever plans at that time.
    """

    def __init__(self, env: simpy.Environment, delay_ps: int) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        env.schedule(self, priority=_AFTER_ALL_ELSE, delay=delay_ps)


@dataclass(slots=True, eq=False, kw_only=True)
class Replica:
    """Ranks that step together (the ranks of an expert-parallel model), as a process.

    With `asynchronous` a step is planned when the one before starts. `on_done` is told of every
    sequence that is finished here, `on_arriving` of every one for whose KV there is room now.
    """

    env: simpy.Environment
    ranks: list[Rank]
    parts: ClusterParts
    asynchronous: bool
    on_done: Callable[["Replica", Rank, ServedSequence], None]
    on_arriving: Callable[["Replica", Rank, ServedSequence], None]
    events: int = 0
    _wake: simpy.Event | None = None

    @property
    def load(self) -> int:
        """Return the requests that wait or run here."""
        return sum(rank.scheduler.load for rank in self.ranks)

    def hit_tokens(self, request: Request) -> int:
        """Return how much of a prompt is cached here, on the rank that has most of it."""
        tokens = request.input_tokens
        return max(rank.scheduler.kv.lookup(request, tokens) for rank in self.ranks)

    def submit(self, sequence: ServedSequence) -> None:
        """Let a sequence wait at the rank with the least to do."""
        rank = min(self.ranks, key=_busy)
        sequence.record.replica = rank.number
        rank.scheduler.add(sequence)
        self.wake()

    def wake(self) -> None:
        """Tell an idle replica that there may be something to do."""
        if self._wake is not None:
            self._wake.succeed()
            self._wake = None

    def run(self) -> Process:
        """Step for ever; an idle replica sleeps until it is woken."""
        planned = None
        while True:
            planned = planned or self._plan()
            if planned is None:
                for rank in self.ranks:
                    rank.rest(int(self.env.now))
                self._wake = self.env.event()
                self.events += 1
                yield self._wake
                continue
            planned, passed_ps = self._ahead(planned)
            if passed_ps or planned is None:
                self.events += 1
                yield _StepEnd(self.env, passed_ps)
                continue
            start_ps = int(self.env.now)
            prices, swaps = self._begin(planned, start_ps)
            duration_ps = (
                prices[0].time_ps
                if swaps is _NO_SWAP
                else max(p.time_ps + s for p, s in zip(prices, swaps, strict=True))
            )
            following = self._plan() if self.asynchronous else None
            self.events += 1
            yield _StepEnd(self.env, duration_ps)
            self._end(planned, prices, swaps, start_ps)
            planned = following

    def _ahead(self, planned: Plan) -> tuple[Plan | None, int]:
        """Run steps of decodes alone that end before anything else happens, and nobody's answer.

        They need no event each. Return the plan of the step after them, and how long they took.
        """
        if len(self.ranks) > 1:
            return planned, 0
        rank = self.ranks[0]
        start_ps = now_ps = int(self.env.now)
        until_ps = self.env.peek()
        while (batch := planned[0]) and not (batch.chunks or batch.last or batch.joined):
            price = rank.cost.price(batch.shape)
            end_ps = now_ps + price.time_ps
            if end_ps >= until_ps or batch.swapped_blocks:
                break
            rank.begin(batch, now_ps)
            rank.end(batch, price, 0, now_ps, end_ps)
            now_ps = rank.glide(end_ps, until_ps, price.time_ps)
            # Nothing has happened since the step began, so that it makes no difference when the
            # next one was planned.
            following = self._plan()
            if following is None:
                return None, now_ps - start_ps
            planned = following
        return planned, now_ps - start_ps

    def _plan(self) -> Plan | None:
        batches = []
        for rank in self.ranks:
            batches.append(rank.scheduler.plan())
            if rank.scheduler.arriving:
                arriving, rank.scheduler.arriving = rank.scheduler.arriving, []
                for sequence in arriving:
                    self.on_arriving(self, rank, sequence)
        if len(batches) == 1:
            return batches if batches[0] is not None else None
        return batches if any(batch is not None for batch in batches) else None

    def _begin(self, planned: Plan, start_ps: int) -> tuple[list[Price], list[int]]:
        if len(planned) == 1 and planned[0] is not None and not planned[0].swapped_blocks:
            self.ranks[0].begin(planned[0], start_ps)
            return [self.ranks[0].cost.price(planned[0].shape)], _NO_SWAP
        shapes = [
            rank.dummy if batch is None else batch.shape
            for rank, batch in zip(self.ranks, planned, strict=True)
        ]
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
        return [
            rank.cost.price(shape) for rank, shape in zip(self.ranks, shapes, strict=True)
        ], swaps

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
