"""Who waits, who runs and who holds blocks on one rank, and how sequences pass between these."""

from collections import deque
from dataclasses import dataclass, field
from math import gcd

from sim.errors import InvariantError
from sim.serving.config import ServeConfig
from sim.serving.kv_cache import KvCache
from sim.serving.kv_layout import CacheKind, KvLayout, blocks_of
from sim.serving.request import Request
from sim.serving.sequence import DecodePool, Pool, ServedSequence
from sim.serving.speculative_pool import SpeculativePool


@dataclass(slots=True, kw_only=True)
class Queues:
    """Queues, places and blocks of one rank.

    `hold` keeps the blocks of finished sequences until `release` (a prefill rank, whose KV is still
    to be sent). `arriving` are sequences just admitted whose KV is on another GPU, `preempted`
    those just thrown out: who drives the scheduler takes them off these lists. `seed` is that of
    speculative decoding.
    """

    config: ServeConfig
    kv: KvCache
    hold: bool = False
    seed: int = 0
    waiting: deque[ServedSequence] = field(default_factory=deque)
    running: dict[ServedSequence, None] = field(default_factory=dict)
    prefilling: dict[ServedSequence, None] = field(default_factory=dict)
    arriving: list[ServedSequence] = field(default_factory=list)
    preempted: list[ServedSequence] = field(default_factory=list)
    steps: int = 0
    pool: Pool = field(init=False)
    _admissions: int = 0
    _swapped: int = 0
    _joined: list[ServedSequence] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Set up the pool."""
        speculation = self.config.speculation
        if speculation is None:
            self.pool = DecodePool(_growth(self.kv.layout))
        else:
            self.pool = SpeculativePool(speculation, self.seed)

    @property
    def load(self) -> int:
        """Return the requests that wait or run here."""
        return len(self.waiting) + len(self.running)

    def rejection(self, request: Request) -> str:
        """Return why a request can never be served here, or an empty text."""
        total = request.input_tokens + request.output_tokens
        longest = self.config.max_model_len
        if request.input_tokens < 1:
            return "has an empty prompt"
        if longest is not None and total > longest:
            return f"has {total} tokens, more than max_model_len = {longest}"
        # The last token that is given out is never computed; guesses after it may be.
        tokens = request.input_tokens
        if request.output_tokens > 1:
            tokens += request.output_tokens - 2 + self.pool.new_tokens
        needs = blocks_of(self.kv.layout, tokens, tokens)
        if needs > self.kv.total_blocks:
            return f"needs {needs} blocks of KV, the cache has {self.kv.total_blocks}"
        return ""

    def add(self, sequence: ServedSequence) -> None:
        """Let a sequence wait."""
        self.waiting.append(sequence)

    def arrive(self, sequence: ServedSequence) -> None:
        """Let a sequence decode whose KV has arrived; its next token has room."""
        self._joined.append(sequence)
        self.pool.join(sequence)

    def release(self, sequence: ServedSequence) -> None:
        """Give back the blocks of a sequence that is finished here."""
        computed = sequence.request.input_tokens + max(sequence.emitted - 1, 0)
        self.kv.free(sequence.request.index, computed)

    def _enter(self) -> ServedSequence:
        """Give a place to the first that waits."""
        sequence = self.waiting.popleft()
        sequence.order = self._admissions
        self._admissions += 1
        self.running[sequence] = None
        return sequence

    def _youngest(self) -> ServedSequence:
        """Return who was admitted last of those that have something to lose."""
        for sequence in reversed(self.running):
            if sequence in self.pool.members or sequence in self.prefilling:
                return sequence
        raise InvariantError("no sequence is left to preempt")

    def _preempt(self, sequence: ServedSequence) -> None:
        """Throw a sequence out; it is the next to be admitted."""
        index = sequence.request.index
        swaps = False
        if sequence in self.prefilling:
            del self.prefilling[sequence]
        else:
            self.pool.leave(sequence)
            swaps = self.config.preemption == "swap"
            if sequence in self._joined:
                self._joined.remove(sequence)
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


def _growth(layout: KvLayout) -> int | None:
    """Return the tokens at whose multiples a sequence may need new blocks; None: it never does."""
    sizes = [group.block_tokens for group in layout.groups if group.kind is not CacheKind.STATE]
    return gcd(*sizes) or None
