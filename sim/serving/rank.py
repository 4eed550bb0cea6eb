"""One rank of a replica: its scheduler, its log, and the charging of its steps to requests.

All decodes of a step share its ledger, so a rank keeps running sums of what a decoding sequence is
charged, and a sequence's ledger is the difference of two of them. Prompts are few and are charged
one by one.
"""

from array import array
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sim.errors import InvariantError
from sim.serving.batch import Batch
from sim.serving.record import Integers, ReplicaLog
from sim.serving.scheduler import Scheduler
from sim.serving.sequence import (
    CAUSE_AT,
    N_REQUEST_CAUSES,
    DecodePool,
    Ledger,
    ServedSequence,
)
from sim.serving.step_cost import N_CAUSES, BatchShape, Chunk, GlidingCost, Price, StepCost
from sim.units import PS_PER_S

_INTERFERENCE: Final = CAUSE_AT["interference"]
_LINK: Final = CAUSE_AT["link"]
_WAITING_FOR_RANKS: Final = CAUSE_AT["link_latency"]
_HOST: Final = CAUSE_AT["host"]
_SAMPLE_PS: Final = PS_PER_S
# Fewer steps than these are not worth arrays.
_WORTH_A_GLIDE: Final = 4
# Of a row of the log, in order: one array takes it at once.
_COLUMNS: Final = (
    "start_ps", "end_ps", "decodes", "prefill_tokens", "generated", "running", "waiting",
    "kv_blocks", "hbm_bytes", "flop",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Rank:
    """A scheduler with its log, which is number `number` of the run.

    `sums` are what a sequence that decodes all along is charged.
    """

    number: int
    scheduler: Scheduler
    cost: StepCost
    log: ReplicaLog
    sums: Ledger = field(default_factory=lambda: np.zeros(N_REQUEST_CAUSES, dtype=np.int64))
    _steps: Ledger = field(default_factory=lambda: np.zeros(N_CAUSES, dtype=np.int64))
    _sampled_ps: int = 0
    _ended_ps: int = 0
    _waited_ps: int = 0
    _rows: Integers = field(default_factory=lambda: array("q"))
    _shared: Ledger = field(init=False)
    _gliding: GlidingCost | None = field(init=False)

    def __post_init__(self) -> None:
        """Look at the part of the sums that steps are charged to."""
        self._shared = self.sums[:N_CAUSES]
        self._gliding = self.cost if isinstance(self.cost, GlidingCost) else None

    @property
    def dummy(self) -> BatchShape:
        """Return what it runs beside its neighbours if it has no work: one sequence decodes.

        As vLLM does (`execute_dummy_batch`).
        """
        new = self.scheduler.pool.new_tokens
        return BatchShape(decodes=1, context=new, longest=new, decode_tokens=new)

    def begin(self, batch: Batch, start_ps: int) -> None:
        """Charge the waiting that ends when a batch starts."""
        if start_ps != self._waited_ps or self.scheduler.preempted:
            self._wait(start_ps)
        for sequence in batch.joined:
            sequence.charge(sequence.waits_for, start_ps)
            sequence.past = self.sums.copy()
        for sequence, _ in batch.chunks:
            if sequence.record.scheduled_ps is None:
                sequence.record.scheduled_ps = start_ps
            sequence.charge(sequence.waits_for, start_ps)
            sequence.waits_for = "prefill_wait"

    def rest(self, now_ps: int) -> None:
        """Charge the waiting up to now: no step follows at once."""
        self._wait(now_ps)

    def _wait(self, until_ps: int) -> None:
        """Charge the time without a step, and close the books of those just thrown out."""
        self.sums[_HOST] += until_ps - self._waited_ps
        self._waited_ps = until_ps
        scheduler = self.scheduler
        thrown_out, scheduler.preempted = scheduler.preempted, []
        for sequence in thrown_out:
            if sequence.past is None:
                sequence.charge(sequence.waits_for, until_ps)
            self._settle(sequence, until_ps)
            sequence.waits_for = "preempted"

    def end(self, batch: Batch, price: Price, swap_ps: int, start_ps: int, end_ps: int) -> None:
        """Charge a step, `swap_ps` of which was copying over the host link, and close it."""
        ledger = price.ledger_ps
        if price.time_ps != end_ps - start_ps:
            ledger = ledger.copy()
            ledger[_LINK] += swap_ps
            ledger[_WAITING_FOR_RANKS] += end_ps - start_ps - price.time_ps - swap_ps
        self._steps += ledger
        self._charge_decodes(batch, ledger, end_ps - start_ps)
        if batch.chunks:
            for chunk, (sequence, _) in zip(batch.shape.chunks, batch.chunks, strict=True):
                self._charge_prompt(batch, sequence, chunk, ledger, end_ps)
        self._ended_ps = self._waited_ps = end_ps
        for sequence in batch.first:
            self._give_first(sequence, end_ps)
        for sequence in batch.last:
            self._settle(sequence, end_ps)
        self._write_log(batch, price, start_ps, end_ps)

    def _charge_decodes(self, batch: Batch, ledger: Ledger, duration_ps: int) -> None:
        shape = batch.shape
        if not shape.decodes:
            self.sums[_INTERFERENCE] += duration_ps
        elif not shape.chunks:
            self._shared += ledger
        else:
            alone = self.cost.price(shape._replace(chunks=(), rows=0))
            _charge(self.sums, ledger, duration_ps, alone)

    def _charge_prompt(
        self, batch: Batch, sequence: ServedSequence, chunk: Chunk, ledger: Ledger, end_ps: int
    ) -> None:
        duration_ps = end_ps - sequence.charged_ps
        if batch.shape.decodes or len(batch.chunks) > 1:
            alone = self.cost.price(BatchShape(chunks=(chunk,)))
            _charge(sequence.causes, ledger, duration_ps, alone)
        else:
            sequence.causes[:N_CAUSES] += ledger
        sequence.charged_ps = end_ps

    def _give_first(self, sequence: ServedSequence, end_ps: int) -> None:
        record = sequence.record
        if record.first_token_ps is None and sequence.limit:
            record.first_token_ps = end_ps
        sequence.past = self.sums.copy()

    def _settle(self, sequence: ServedSequence, now_ps: int) -> None:
        """Charge a sequence what the rank's decodes were charged since it began to decode."""
        if sequence.past is None:
            return
        sequence.causes += self.sums - sequence.past
        sequence.past = None
        sequence.charged_ps = now_ps

    def _write_log(self, batch: Batch, price: Price, start_ps: int, end_ps: int) -> None:
        shape = batch.shape
        prompt_tokens = shape.tokens - shape.decodes * shape.decode_tokens if shape.chunks else 0
        self._rows.extend(
            (
                start_ps, end_ps, shape.decodes, prompt_tokens, batch.generated, batch.running,
                batch.waiting, batch.kv_blocks, price.hbm_bytes, price.flop,
            )
        )  # fmt: skip
        if end_ps >= self._sampled_ps + _SAMPLE_PS:
            self.sample(end_ps)

    def glide(self, now_ps: int, until_ps: float, step_ps: int) -> int:
        """Run steps of decodes that nobody waits for and that end before `until_ps`, at once.

        `step_ps` is about how long a step takes. Return when the last one ended.
        """
        most = self.scheduler.steps_alone()
        if self._gliding is None or most < _WORTH_A_GLIDE:
            return now_ps
        pool = self.scheduler.pool
        assert isinstance(pool, DecodePool)
        count = len(pool.members)
        most = int(min(most, (until_ps - now_ps) / step_ps + 1))
        steps = np.arange(pool.step + 1, pool.step + 1 + most)
        contexts = pool.offsets + count * steps
        squares = pool.squares + steps * (2 * pool.offsets + count * steps)
        found = self._gliding.glide(count, contexts, squares)
        ends = now_ps + np.cumsum(found[:, :N_CAUSES].sum(axis=1))
        used = self.scheduler.glide(int(np.searchsorted(ends, until_ps)))
        if not used:
            return now_ps
        return self._note_glide(now_ps, found[: len(used)], ends[: len(used)], count, used)

    def _note_glide(
        self, now_ps: int, found: Ledger, ends: Ledger, count: int, used: list[int]
    ) -> int:
        ledger = found[:, :N_CAUSES].sum(axis=0)
        self._shared += ledger
        self._steps += ledger
        rows = np.zeros((len(used), len(_COLUMNS)), dtype=np.int64)
        rows[0, 0], rows[1:, 0], rows[:, 1] = now_ps, ends[:-1], ends
        rows[:, 2] = rows[:, 4] = count
        rows[:, 5] = len(self.scheduler.running)
        rows[:, 7] = used
        rows[:, 8:] = found[:, N_CAUSES:]
        self._rows.frombytes(rows.tobytes())
        self._ended_ps = self._waited_ps = end_ps = int(ends[-1])
        if end_ps >= self._sampled_ps + _SAMPLE_PS:
            self.sample(end_ps)
        return end_ps

    def sample(self, now_ps: int) -> None:
        """Note the ledger of all steps so far, and move their rows into the log."""
        if not self.log.ledger_at or self.log.ledger_at[-1][0] < now_ps:
            self._sampled_ps = now_ps
            self.log.ledger_at.append((now_ps, tuple(self._steps.tolist())))
        for number, column in enumerate(_COLUMNS):
            getattr(self.log, column).extend(self._rows[number :: len(_COLUMNS)])
        del self._rows[:]

    @property
    def ended_ps(self) -> int:
        """Return when the last step ended."""
        return self._ended_ps


def finish(sequence: ServedSequence, end_ps: int) -> None:
    """Close the record of a request; raises InvariantError unless its causes sum to its time."""
    record = sequence.record
    record.finished_ps = end_ps
    record.causes_ps = tuple(sequence.causes.tolist())
    if sum(record.causes_ps) != end_ps - record.sent_ps:
        raise InvariantError(
            f"request {record.index}: causes sum to {sum(record.causes_ps)} ps, "
            f"but it took {end_ps - record.sent_ps} ps"
        )


def _charge(causes: Ledger, ledger: Ledger, duration_ps: int, alone: Price) -> None:
    """Charge a step of `ledger`: what it takes alone to its causes, the rest to interference."""
    if alone.time_ps >= duration_ps:
        causes[:N_CAUSES] += ledger
        return
    causes[:N_CAUSES] += alone.ledger_ps
    causes[_INTERFERENCE] += duration_ps - alone.time_ps
