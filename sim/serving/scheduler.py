"""The scheduler of one rank: which tokens its next step computes, as vLLM's does.

`plan` makes a batch and books its tokens; `complete` is called when the step has ended. With
asynchronous scheduling a batch is planned while the one before runs, so that what that one finishes
is not known to be free yet (vLLM V1 `step_with_batch_queue`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.errors import InvariantError
from sim.serving.batch import Batch
from sim.serving.kv_layout import blocks_of
from sim.serving.policy import Decision, Policy, View
from sim.serving.queues import Queues
from sim.serving.record import Outcome
from sim.serving.sequence import Advance, DecodePool, ServedSequence
from sim.serving.step_cost import BatchShape, Chunk

_NOBODY: list[ServedSequence] = []
_NO_DECODES = Advance(context=0, longest=0, squares=0, generated=0, ended=[])


@dataclass(slots=True, kw_only=True)
class Scheduler(Queues):
    """Plans the steps of one rank by a policy.

    With `tells_contexts` a batch lists the contexts of its decodes, for a cost that runs them all.
    """

    policy: Policy
    tells_contexts: bool = False
    _decoded: bool = False
    _blocked: ServedSequence | None = None
    _blocked_below: int = 0

    @property
    def decoding(self) -> int:
        """Return the sequences that decode."""
        return len(self.pool)

    def plan(self) -> Batch | None:
        """Return the next step and book its tokens; None if there is nothing to compute."""
        if not self.waiting and not self.prefilling:
            return self._plan_decodes()
        decision = self.policy(self._view())
        preempted = self._make_room() if decision.decode and not decision.apart else 0
        if preempted:
            # What they would have taken of the budget goes to the prompts that stay.
            decision = self.policy(self._view())
        chunks = list(self._chunks(decision, admits=not preempted))
        decodes = decision.decode and self.decoding > 0
        if decision.apart and decodes:
            decodes = not chunks
            if decodes:
                self._make_room()
                decodes = self.decoding > 0
        if not chunks and not decodes:
            return None
        return self._booked(chunks, decodes=decodes)

    def _plan_decodes(self) -> Batch | None:
        """Return a step of all that decode; without prompts a policy has nothing to decide."""
        members = self.pool.members
        if not members:
            return None
        self._make_room()
        if not members:
            return self.plan()
        return self._booked([], decodes=True)

    def steps_alone(self) -> int:
        """Return how many steps may follow that only decode and end nobody, if nothing arrives."""
        pool = self.pool
        if self.waiting or self.prefilling or self._joined or self.preempted:
            return 0
        if self.tells_contexts or not isinstance(pool, DecodePool) or not pool.members:
            return 0
        return pool.steps_before_an_end

    def glide(self, most: int) -> list[int]:
        """Book up to `most` such steps while blocks last; return the blocks in use in each."""
        pool, kv, used = self.pool, self.kv, []
        assert isinstance(pool, DecodePool)
        groups = len(kv.layout.groups)
        for _ in range(most):
            needing = pool.needing()
            if needing:
                if kv.free_blocks < groups * len(pool.members):
                    break
                for sequence in needing:
                    kv.extend(sequence.request.index, pool.context_of(sequence))
            pool.step += 1
            used.append(kv.used_blocks)
        self.steps += len(used)
        return used

    def _view(self) -> View:
        if not self.running:
            self._decoded = False
        return View(
            config=self.config,
            running=len(self.running),
            decoding=len(self.pool),
            prefilling=len(self.prefilling),
            waiting=len(self.waiting),
            decoded=self._decoded,
            decode_tokens=self.pool.new_tokens,
        )

    def _make_room(self) -> int:
        """Take the blocks that decodes need in the next step; return how many were thrown out."""
        pool, preempted = self.pool, 0
        for sequence in pool.needing():
            while sequence in pool.members:
                context = pool.context_of(sequence)
                if self.kv.extend(sequence.request.index, context, pool.new_tokens):
                    break
                self._preempt(self._youngest())
                preempted += 1
        return preempted

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
                if sequence in self.pool.members and not decision.apart:
                    budget -= self.pool.new_tokens
                continue
            if self._is_blocked(sequence):
                return
            hit = self.kv.lookup(sequence.request, sequence.target)
            left = sequence.target - hit
            if decision.whole_prompts and left > budget and not first:
                return
            tokens = left if decision.whole_prompts else min(left, budget)
            if not self._admitted(sequence, hit, tokens, reserve):
                return
            admit, budget, first = admit - 1, budget - tokens, False
            yield self._take(sequence, tokens)

    def _is_blocked(self, sequence: ServedSequence) -> bool:
        """Return whether the first that waits was found not to fit, and surely still does not.

        A look-up in the cache takes long beside a step that decodes only.
        """
        is_known = self._blocked is sequence and len(self.running) > 0
        return is_known and self.kv.free_blocks < self._blocked_below

    def _admitted(self, sequence: ServedSequence, hit: int, tokens: int, reserve: int) -> bool:
        """Admit a waiting sequence if its whole prompt fits (vLLM `scheduler_reserve_full_isl`)."""
        request, target, free = sequence.request, sequence.target, self.kv.free_blocks
        needs, least = self.kv.demand(request, target, hit)
        if self.running:
            # Were nothing running, nobody would ever make the room that a watermark asks for.
            marked = reserve and reserve + blocks_of(self.kv.layout, target - hit, target - hit)
            needs, least = max(needs, marked), max(least, marked)
        if needs > free:
            self._blocked, self._blocked_below = sequence, least
            return False
        self.kv.start(request, hit, target)
        if not self.kv.extend(request.index, hit + tokens, tokens):
            raise InvariantError(f"request {request.index} was to fit and did not")
        self._enter()
        sequence.computed = hit
        self.prefilling[sequence] = None
        if not sequence.record.preemptions:
            sequence.record.prefix_hit_tokens = hit
        return True

    def _resumes(self, sequence: ServedSequence) -> bool:
        """Let a sequence back in whose KV lies on the host or on another GPU, if it fits."""
        index, new = sequence.request.index, self.pool.new_tokens
        room = sequence.target + new
        if blocks_of(self.kv.layout, room, room) > self.kv.free_blocks:
            return False
        if sequence.swapped:
            self._swapped += self.kv.swap_in(index)
        else:
            self.kv.start(sequence.request, 0, sequence.target)
            new = room
        if not self.kv.extend(index, room, new):
            raise InvariantError(f"request {index} was to fit and did not")
        self._enter()
        self._blocked = None
        if sequence.swapped:
            sequence.swapped = False
            self.arrive(sequence)
        else:
            sequence.remote = False
            self.arriving.append(sequence)
        return True

    def _take(self, sequence: ServedSequence, tokens: int) -> tuple[ServedSequence, int]:
        self._blocked = None
        sequence.computed += tokens
        return sequence, tokens

    def _booked(self, chunks: list[tuple[ServedSequence, int]], *, decodes: bool) -> Batch:
        """Return the batch of these chunks and, with `decodes`, of all that decode."""
        number = self.steps
        self.steps += 1
        count, joined, step = 0, [], _NO_DECODES
        contexts: tuple[int, ...] = ()
        if decodes:
            count = len(self.pool.members)
            if self._joined:
                joined, self._joined = self._joined, []
                for sequence in joined:
                    sequence.run_from = number
            contexts = self._contexts() if self.tells_contexts else ()
            step = self.pool.advance()
            self._decoded = True
        first = [s for s, _ in chunks if not s.left] if chunks else _NOBODY
        swapped, self._swapped = self._swapped, 0
        return Batch(
            number=number,
            shape=BatchShape(
                decodes=count,
                context=step.context,
                longest=step.longest,
                squares=step.squares,
                contexts=contexts,
                chunks=tuple(Chunk(t, s.computed) for s, t in chunks) if chunks else (),
                decode_tokens=self.pool.new_tokens if decodes else 1,
            ),
            chunks=chunks,
            first=first,
            last=step.ended + self._book_first_tokens(first, number) if first else step.ended,
            generated=step.generated + sum(s.limit > 0 for s in first) if first else step.generated,
            joined=joined,
            swapped_blocks=swapped,
            running=len(self.running),
            waiting=len(self.waiting),
            kv_blocks=self.kv.used_blocks,
        )

    def _contexts(self) -> tuple[int, ...]:
        """Return the contexts of all decodes in the next step, sorted."""
        running = (sequence for sequence in self.running if sequence in self.pool.members)
        return tuple(sorted(map(self.pool.context_of, running)))

    def _book_first_tokens(self, first: list[ServedSequence], number: int) -> list[ServedSequence]:
        """Book the tokens at the ends of prompts; return those that want no more."""
        done = []
        for sequence in first:
            del self.prefilling[sequence]
            if sequence.limit:
                sequence.emitted += 1
                sequence.run_from = number
                if self.config.speculation is not None:
                    sequence.record.tokens_per_step.append(1)
            if sequence.emitted < sequence.limit:
                self.pool.join(sequence)
            else:
                done.append(sequence)
        return done

    def complete(self, batch: Batch) -> None:
        """Give back what the sequences hold that ended with this step."""
        for sequence in batch.last:
            sequence.close_run(batch.number)
            del self.running[sequence]
            sequence.record.outcome = Outcome.FINISHED
            if not self.hold:
                self.release(sequence)
