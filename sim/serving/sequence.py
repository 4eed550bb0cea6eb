"""A request inside a scheduler, and the pool of sequences that decode in step."""

import heapq
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sim.measure.causes import REQUEST_CAUSES
from sim.serving.record import RequestRecord
from sim.serving.request import Request

Ledger = npt.NDArray[np.int64]
N_REQUEST_CAUSES = len(REQUEST_CAUSES)
CAUSE_AT = {cause: number for number, cause in enumerate(REQUEST_CAUSES)}


class ServedSequence:
    """A request on its way: how far it is, and what its time was charged to.

    `target` are the tokens to compute before it decodes (its prompt, after a preemption also what
    it had given out), `computed` those that are computed or planned. `emitted` counts output tokens
    that are planned. `charged_ps` is the time up to which `causes` accounts for it. `order` numbers
    admissions; `limit` is the number of tokens this scheduler makes of it; `waits_for` the cause
    of the time in which it gets no tokens; `past` the sums of its rank when it began to decode;
    `run_from` the step whose token began its present run, -1 outside one. A `swapped` sequence has
    its KV on the host, a `remote` one on another GPU.
    """

    __slots__ = (
        "causes",
        "charged_ps",
        "computed",
        "emitted",
        "ends_at",
        "limit",
        "offset",
        "order",
        "past",
        "record",
        "remote",
        "request",
        "run_from",
        "swapped",
        "target",
        "waits_for",
    )  # fmt: skip

    def __init__(self, request: Request, sent_ps: int, limit: int) -> None:
        self.request = request
        self.record = RequestRecord(
            index=request.index,
            sent_ps=sent_ps,
            input_tokens=request.input_tokens,
            output_tokens=request.output_tokens,
        )
        self.limit = limit
        self.target = request.input_tokens
        self.computed = 0
        self.emitted = 0
        self.order = -1
        self.offset = 0
        self.ends_at = 0
        self.run_from = -1
        self.remote = False
        self.swapped = False
        self.causes: Ledger = np.zeros(N_REQUEST_CAUSES, dtype=np.int64)
        self.past: Ledger | None = None
        self.charged_ps = sent_ps
        self.waits_for = "queue"

    @property
    def left(self) -> int:
        """Return the tokens to compute before it decodes."""
        return self.target - self.computed

    def close_run(self, last_step: int) -> None:
        """End a run of steps that gave it tokens."""
        if self.run_from >= 0:
            self.record.emitted.append((self.run_from, last_step))
            self.run_from = -1

    def charge(self, cause: str, until_ps: int) -> None:
        """Charge the time up to `until_ps` to one cause."""
        self.causes[CAUSE_AT[cause]] += until_ps - self.charged_ps
        self.charged_ps = until_ps


class Advance(NamedTuple):
    """One decode step of all: contexts in all, the longest, tokens given out, those that end.

    Contexts count the tokens that are new in the step; `squares` is the sum of their squares.
    """

    context: int
    longest: int
    squares: int
    generated: int
    ended: list[ServedSequence]


class Pool(Protocol):
    """Sequences that decode together, `new_tokens` each a step."""

    new_tokens: int

    @property
    def members(self) -> Collection[ServedSequence]:
        """Return the sequences; whoever asks must not change them."""
        ...

    def __len__(self) -> int:
        """Return the number of sequences."""
        ...

    def join(self, sequence: ServedSequence) -> None:
        """Add a sequence whose `target` tokens are computed and that has tokens to go."""
        ...

    def leave(self, sequence: ServedSequence) -> None:
        """Take a sequence out; `emitted` and `computed` then tell how far it is."""
        ...

    def needing(self) -> Iterable[ServedSequence]:
        """Return those that may need a block in the next step, first admitted first."""
        ...

    def context_of(self, sequence: ServedSequence) -> int:
        """Return a member's context in the next step, its new tokens included."""
        ...

    def advance(self) -> Advance:
        """Plan one step of all, of which there must be one at least."""
        ...


class DecodePool:
    """Sequences that decode together, one token each a step, at no cost per sequence and step.

    A sequence's context is its `offset` plus the pool's step, so that sums and the longest follow
    from numbers that change only when one joins or leaves; who needs a block and who ends at a step
    is known when it joins. New blocks begin after multiples of `block_tokens`; None: never.
    """

    __slots__ = (
        "_block",
        "_ends",
        "_longest",
        "_needs",
        "members",
        "new_tokens",
        "offsets",
        "squares",
        "step",
    )

    def __init__(self, block_tokens: int | None) -> None:
        self._block = block_tokens or sys.maxsize
        self.new_tokens = 1
        self.step = 0
        self.members: set[ServedSequence] = set()
        self.offsets = 0
        self.squares = 0
        self._longest: list[tuple[int, int, ServedSequence]] = []
        self._needs: dict[int, set[ServedSequence]] = defaultdict(set)
        self._ends: dict[int, list[ServedSequence]] = {}

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.members)

    def join(self, sequence: ServedSequence) -> None:
        """Add a sequence whose `target` tokens are computed and that has tokens to go."""
        sequence.offset = sequence.target - self.step
        sequence.ends_at = self.step + sequence.limit - sequence.emitted
        self.members.add(sequence)
        self.offsets += sequence.offset
        self.squares += sequence.offset**2
        heapq.heappush(self._longest, (-sequence.offset, sequence.order, sequence))
        self._needs[self._residue(sequence)].add(sequence)
        self._ends.setdefault(sequence.ends_at, []).append(sequence)

    def _residue(self, sequence: ServedSequence) -> int:
        return (1 - sequence.offset) % self._block

    def leave(self, sequence: ServedSequence) -> None:
        """Take a sequence out; `emitted` and `computed` then tell how far it is."""
        done = self.step - (sequence.ends_at - (sequence.limit - sequence.emitted))
        sequence.emitted += done
        sequence.computed = sequence.target + done
        self.members.remove(sequence)
        self.offsets -= sequence.offset
        self.squares -= sequence.offset**2
        self._needs[self._residue(sequence)].discard(sequence)
        ending = self._ends.get(sequence.ends_at)
        if ending is not None:
            ending.remove(sequence)
            if not ending:
                del self._ends[sequence.ends_at]

    def needing(self) -> Iterable[ServedSequence]:
        """Return the sequences that need a new block in the next step, first admitted first."""
        needing = self._needs.get((self.step + 1) % self._block)
        return sorted(needing, key=lambda sequence: sequence.order) if needing else ()

    def context_of(self, sequence: ServedSequence) -> int:
        """Return a member's context in the next step, its new token included."""
        return sequence.offset + self.step + 1

    @property
    def steps_before_an_end(self) -> int:
        """Return how many steps may follow in which nobody ends."""
        return min(self._ends) - self.step - 1

    def advance(self) -> Advance:
        """Plan one step of all, of which there must be one at least."""
        self.step += 1
        count = len(self.members)
        context = self.offsets + count * self.step
        heap = self._longest
        while heap[0][2] not in self.members or -heap[0][0] != heap[0][2].offset:
            heapq.heappop(heap)
        longest = self.step - heap[0][0]
        squares = self.squares + self.step * (2 * self.offsets + count * self.step)
        ended = self._ends.pop(self.step, [])
        for sequence in ended:
            self.leave(sequence)
        return Advance(context, longest, squares, count, ended)
