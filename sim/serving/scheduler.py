"""The scheduler of one rank: which tokens its next step computes, as vLLM's does.

`plan` makes a batch and books its tokens; `complete` is called when the step has ended. With
asynchronous scheduling a batch is planned while the one before runs, so that what that one finishes
is not known to be free yet (vLLM V1 `step_with_batch_queue`).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sim.errors import InvariantError
from sim.serving.config import ServeConfig
from sim.serving.kv_cache import KvCache
from sim.serving.kv_layout import blocks_of
from sim.serving.policy import Decision, Policy, View
from sim.serving.record import Outcome
from sim.serving.request import Request
from sim.serving.sequence import DecodePool, ServedSequence
from sim.serving.step_cost import BatchShape, Chunk


@dataclass(slots=True, kw_only=True)
class Batch:
    """One planned step: its number, its shape, and who gets something at its end.

    `chunks` are prompts with the tokens they get; `first` sequences have their prompt computed by
    it and get a token, `last` ones get their last. `swapped_blocks` are copied over the host link
    before it. `generated` are the tokens that it gives out. `joined` begin to decode in it without
    a prompt of theirs being computed: they come from the host or another GPU.
    """

    number: int
    shape: BatchShape
    chunks: list[tuple[ServedSequence, int]]
    first: list[ServedSequence]
    last: list[ServedSequence]
    generated: int
    joined: list[ServedSequence]
    swapped_blocks: int = 0
    running: int = 0
    waiting: int = 0
    kv_blocks: int = 0


@dataclass(slots=True, kw_only=True)
class Scheduler:
    """Queues, places and blocks of one rank.

    `hold` keeps the blocks of finished sequences until `release` (a prefill rank, whose KV is still
    to be sent). `arriving` are sequences just admitted whose KV is on another GPU, `preempted`
    those just thrown out: who drives the scheduler takes them off these lists.
    """

    config: ServeConfig
    policy: Policy
    kv: KvCache
    hold: bool = False
    waiting: deque[ServedSequence] = field(default_factory=deque)
    running: dict[ServedSequence, None] = field(default_factory=dict)
    prefilling: dict[ServedSequence, None] = field(default_factory=dict)
    arriving: list[ServedSequence] = field(default_factory=list)
    preempted: list[ServedSequence] = field(default_factory=list)
    steps: int = 0
    _admissions: int = 0
    _swapped: int = 0
    _decoded: bool = False
    _joined: list[ServedSequence] = field(default_factory=list)
    _pool: DecodePool = field(init=False)

    def __post_init__(self) -> None:
        """Set up the pool."""
        sizes = [group.block_tokens for group in self.kv.layout.groups]
        self._pool = DecodePool(min(sizes, default=1))

    @property
    def load(self) -> int:
        """Return the requests that wait or run here."""
        return len(self.waiting) + len(self.running)

    @property
    def decoding(self) -> int:
        """Return the sequences that decode."""
        return len(self._pool)

    def rejection(self, request: Request) -> str:
        """Return why a request can never be served here, or an empty text."""
        tokens = request.input_tokens + max(request.output_tokens - 1, 0)
        longest = self.config.max_model_len
        if longest is not None and request.input_tokens + request.output_tokens > longest:
            total = request.input_tokens + request.output_tokens
            return f"has {total} tokens, more than max_model_len = {longest}"
        needs = blocks_of(self.kv.layout, tokens, tokens)
        if needs > self.kv.total_blocks:
            return f"needs {needs} blocks of KV, the cache has {self.kv.total_blocks}"
        return ""

    def add(self, sequence: ServedSequence) -> None:
        """Let a sequence wait."""
        self.waiting.append(sequence)

    def plan(self) -> Batch | None:
        """Return the next step and book its tokens; None if there is nothing to compute."""
        decision = self.policy(self._view())
        self._swapped = 0
        preempted = self._make_room() if decision.decode and not decision.apart else 0
        chunks = list(self._chunks(decision, admits=not preempted))
        decodes = decision.decode and len(self._pool) > 0
        if decision.apart:
            decodes = decodes and not chunks
            if decodes:
                self._make_room()
                decodes = self.decoding > 0
        if not chunks and not decodes:
            return None
        return self._booked(chunks, decodes=decodes)

    def _view(self) -> View:
        return View(
            config=self.config,
            running=len(self.running),
            decoding=len(self._pool),
            prefilling=len(self.prefilling),
            waiting=len(self.waiting),
            decoded=self._decoded and bool(self.running),
        )

    def _make_room(self) -> int:
        """Take the blocks that decodes need in the next step; return how many were thrown out."""
        preempted = 0
        for sequence in self._pool.needing():
            while sequence in self._pool.members:
                if self.kv.extend(sequence.request.index, self._pool.context_of(sequence)):
                    break
                self._preempt(self._youngest())
                preempted += 1
        return preempted

    def _youngest(self) -> ServedSequence:
        """Return who was admitted last of those that have something to lose."""
        for sequence in reversed(self.running):
            if sequence in self._pool.members or sequence in self.prefilling:
                return sequence
        raise InvariantError("no sequence is left to preempt")

    def _preempt(self, sequence: ServedSequence) -> None:
        index = sequence.request.index
        if sequence in self.prefilling:
            del self.prefilling[sequence]
            swaps = False
        else:
            self._pool.leave(sequence)
            swaps = self.config.preemption == "swap"
        if swaps:
            self._swapped += self.kv.swap_out(index)
            sequence.swapped = True
            sequence.target = sequence.computed
        else:
            self.kv.free(index, sequence.computed)
            sequence.target = sequence.request.input_tokens + sequence.emitted
            sequence.computed = 0
        del self.running[sequence]
        sequence.record.preemptions += 1
        sequence.close_run(self.steps - 1)
        self.preempted.append(sequence)
        self.waiting.appendleft(sequence)

    def _chunks(self, decision: Decision, *, admits: bool) -> Iterator[tuple[ServedSequence, int]]:
        """Yield the prompts of the next step with their tokens, and take their blocks."""
        budget = decision.prompt_tokens
        for sequence in tuple(self.prefilling):
            if budget <= 0 or sequence not in self.prefilling:
                continue
            tokens = sequence.left if decision.whole_prompts else min(sequence.left, budget)
            if self._room_for(sequence, tokens):
                budget -= tokens
                yield self._take(sequence, tokens)
            else:
                admits = False
        if admits:
            yield from self._admissions_of(decision, budget)

    def _room_for(self, sequence: ServedSequence, tokens: int) -> bool:
        """Take blocks for a chunk of an admitted prompt, preempting younger sequences."""
        total = sequence.computed + tokens
        while not self.kv.extend(sequence.request.index, total, tokens):
            victim = self._youngest()
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _admissions_of(
        self, decision: Decision, budget: int
    ) -> Iterator[tuple[ServedSequence, int]]:
        admit, first = decision.admit, True
        reserve = int(decision.watermark * self.kv.total_blocks)
        while self.waiting and admit > 0 and budget > 0:
            sequence = self.waiting[0]
            if sequence.swapped or sequence.remote:
                if not self._resumes(sequence):
                    return
                admit -= 1
                continue
            hit = self.kv.lookup(sequence.request, sequence.target)
            left = sequence.target - hit
            if decision.whole_prompts and left > budget and not first:
                return
            tokens = left if decision.whole_prompts else min(left, budget)
            if not self._admitted(sequence, hit, tokens, reserve):
                return
            admit, budget, first = admit - 1, budget - tokens, False
            yield self._take(sequence, tokens)

    def _admitted(self, sequence: ServedSequence, hit: int, tokens: int, reserve: int) -> bool:
        """Admit a waiting sequence if its whole prompt fits (vLLM `scheduler_reserve_full_isl`)."""
        request = sequence.request
        left = sequence.target - hit
        needs = blocks_of(self.kv.layout, left, left)
        if reserve and self.running and self.kv.free_blocks - reserve < needs:
            return False
        if not self.kv.fits(request, sequence.target, hit):
            return False
        self.kv.start(request, hit, sequence.target)
        if not self.kv.extend(request.index, hit + tokens, tokens):
            raise InvariantError(f"request {request.index} was to fit and did not")
        self._enter(sequence)
        sequence.computed = hit
        self.prefilling[sequence] = None
        if not sequence.record.preemptions:
            sequence.record.prefix_hit_tokens = hit
        return True

    def _enter(self, sequence: ServedSequence) -> None:
        self.waiting.popleft()
        sequence.order = self._admissions
        self._admissions += 1
        self.running[sequence] = None

    def _resumes(self, sequence: ServedSequence) -> bool:
        """Let a sequence back in whose KV lies on the host or on another GPU, if it fits."""
        request = sequence.request
        room = sequence.target + 1
        if sequence.swapped:
            if self.kv.free_blocks < blocks_of(self.kv.layout, room, room):
                return False
            self._swapped += self.kv.swap_in(request.index)
            self.kv.extend(request.index, room)
            sequence.swapped = False
            self._enter(sequence)
            self.arrive(sequence)
            return True
        if not self.kv.fits(request, room, 0):
            return False
        self.kv.start(request, 0, sequence.target)
        self.kv.extend(request.index, room, room)
        self._enter(sequence)
        sequence.remote = False
        self.arriving.append(sequence)
        return True

    def arrive(self, sequence: ServedSequence) -> None:
        """Let a sequence decode whose KV has arrived; its next token has room."""
        self._joined.append(sequence)
        self._pool.join(sequence)

    def _take(self, sequence: ServedSequence, tokens: int) -> tuple[ServedSequence, int]:
        sequence.computed += tokens
        return sequence, tokens

    def _booked(self, chunks: list[tuple[ServedSequence, int]], *, decodes: bool) -> Batch:
        """Return the batch of these chunks and, with `decodes`, of all that decode."""
        chunks = [(s, tokens) for s, tokens in chunks if s in self.prefilling]
        self._decoded = decodes or (self._decoded and len(self.running) > len(chunks))
        number = self.steps
        count = context = longest = 0
        last: list[ServedSequence] = []
        joined: list[ServedSequence] = []
        if decodes:
            count = self.decoding
            joined, self._joined = self._joined, []
            for sequence in joined:
                sequence.run_from = number
            context, longest, last = self._pool.advance()
        first = [s for s, _ in chunks if not s.left]
        for sequence in first:
            del self.prefilling[sequence]
            sequence.emitted += sequence.limit > 0
            sequence.run_from = number if sequence.limit else -1
            if sequence.emitted >= sequence.limit:
                last.append(sequence)
            else:
                self._pool.join(sequence)
        self.steps += 1
        return Batch(
            number=number,
            shape=BatchShape(
                decodes=count,
                context=context,
                longest=longest,
                chunks=tuple(Chunk(tokens=t, context=s.computed) for s, t in chunks),
            ),
            chunks=chunks,
            first=first,
            last=last,
            generated=count + sum(s.limit > 0 for s in first),
            joined=joined,
            swapped_blocks=self._swapped,
            running=len(self.running),
            waiting=len(self.waiting),
            kv_blocks=self.kv.used_blocks,
        )

    def complete(self, batch: Batch) -> None:
        """Give back what the sequences hold that ended with this step."""
        for sequence in batch.last:
            sequence.close_run(batch.number)
            del self.running[sequence]
            sequence.record.outcome = Outcome.FINISHED
            if not self.hold:
                self.release(sequence)

    def release(self, sequence: ServedSequence) -> None:
        """Give back a sequence's blocks."""
        computed = sequence.request.input_tokens + max(sequence.emitted - 1, 0)
        self.kv.free(sequence.request.index, computed)
