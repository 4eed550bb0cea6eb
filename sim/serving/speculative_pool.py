"""The pool of sequences that decode speculatively: several tokens a step, not equally many."""

import numpy as np

from sim.serving.config import Speculation
from sim.serving.sequence import Advance, ServedSequence


class SpeculativePool:
    """Sequences of which each step verifies `draft_tokens` guesses, and gives one token more.

    How many guesses of a request hold is drawn from a generator of its own, seeded by `seed` and
    its index, so that it does not depend on who else is served. A verification writes KV for all
    guesses; what it rejects is overwritten by the next (vLLM `num_lookahead_tokens`).
    """

    __slots__ = ("_draws", "_seed", "_speculation", "members", "new_tokens")

    def __init__(self, speculation: Speculation, seed: int) -> None:
        self._speculation = speculation
        self._seed = seed
        self._draws: dict[int, np.random.Generator] = {}
        self.new_tokens = speculation.draft_tokens + 1
        self.members: dict[ServedSequence, None] = {}

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.members)

    def join(self, sequence: ServedSequence) -> None:
        """Add a sequence whose `target` tokens are computed and that has tokens to go."""
        sequence.computed = sequence.target
        self.members[sequence] = None

    def leave(self, sequence: ServedSequence) -> None:
        """Take a sequence out; `emitted` and `computed` tell how far it is."""
        del self.members[sequence]

    def needing(self) -> list[ServedSequence]:
        """Return those that may need a block in the next step, first admitted first."""
        return sorted(self.members, key=lambda sequence: sequence.order)

    def context_of(self, sequence: ServedSequence) -> int:
        """Return a member's context in the next step, its guesses included."""
        return sequence.computed + self.new_tokens

    def advance(self) -> Advance:
        """Plan one step of all, of which there must be one at least."""
        contexts = [self.context_of(sequence) for sequence in self.members]
        generated, ended = 0, []
        for sequence in self.members:
            given = min(1 + self._accepted(sequence), sequence.limit - sequence.emitted)
            generated += given
            sequence.emitted += given
            sequence.computed += given
            sequence.record.tokens_per_step.append(given)
            if sequence.emitted >= sequence.limit:
                ended.append(sequence)
        for sequence in ended:
            self.leave(sequence)
            del self._draws[sequence.request.index]
        squares = sum(context**2 for context in contexts)
        return Advance(sum(contexts), max(contexts), squares, generated, ended)

    def _accepted(self, sequence: ServedSequence) -> int:
        """Draw how many guesses hold until the first that does not."""
        index = sequence.request.index
        draws = self._draws.get(index)
        if draws is None:
            draws = self._draws[index] = np.random.default_rng((self._seed, index))
        for position in range(self._speculation.draft_tokens):
            if draws.random() >= self._speculation.chance(position):
                return position
        return self._speculation.draft_tokens
