"""The paged KV cache of one replica: who holds how many blocks, and what can be found again.

As vLLM V1's KVCacheManager and BlockPool do it (`v1/core/{kv_cache_manager,block_pool,
single_type_kv_cache_manager}.py`): free blocks wait in order of their last use and keep their
content until they are taken, the blocks of a sequence come back last block first, and a block that
is found again leaves the queue.
"""

from dataclasses import dataclass
from typing import NamedTuple

from sim.errors import InvariantError
from sim.serving.kv_blocks import FreeQueue, Node, Segment
from sim.serving.kv_layout import CacheKind, KvLayout
from sim.serving.kv_prefix import PrefixIndex
from sim.serving.kv_sequence import Holding, Sequence
from sim.serving.request import Request


@dataclass(frozen=True, slots=True)
class _OnHost:
    request: Request
    spans: tuple[tuple[int, int], ...]

    @property
    def blocks(self) -> int:
        return sum(end - begin for begin, end in self.spans)


class Demand(NamedTuple):
    """How many free blocks a sequence needs, and what it will need at least.

    `least` holds until another sequence is started or extended with tokens of its prompt:
    meanwhile content gets lost, but none is added or held anew.
    """

    now: int
    least: int


class KvCache:
    """Blocks, references, prefix caching and eviction of one replica.

    A sequence is named by the index of its request. It is started, extended before each step that
    writes into blocks it does not hold, and freed; or it is swapped out and in. All sizes are in
    tokens or blocks. With prefix caching, blocks of prompt tokens that `Request.prefix` covers are
    found by every request with the same prefix, from the moment they are extended to; other full
    blocks only by the same request, if it comes back after `free`. Models that keep states share
    nothing (vLLM's default).

    `queries_tokens` and `hit_tokens` count the tokens of started sequences and those found.
    """

    def __init__(
        self, layout: KvLayout, total_blocks: int, *, prefix_caching: bool, prefix_block_tokens: int
    ) -> None:
        self.layout = layout
        self.total_blocks = total_blocks
        self.queries_tokens = 0
        self.hit_tokens = 0
        self.host_blocks = 0
        self._queue = FreeQueue(total_blocks)
        caching = prefix_caching and bool(layout.groups) and not layout.has_state
        self._prefixes = PrefixIndex(layout, prefix_block_tokens) if caching else None
        self._sequences: dict[int, Sequence] = {}
        self._on_host: dict[int, _OnHost] = {}
        uniform = len(layout.groups) == 1 and layout.groups[0].kind is CacheKind.FULL
        self._uniform = layout.groups[0] if uniform else None

    @property
    def free_blocks(self) -> int:
        """Return the blocks that no sequence holds, those with findable content included."""
        return self._queue.count

    @property
    def used_blocks(self) -> int:
        """Return the blocks that some sequence holds."""
        return self.total_blocks - self._queue.count

    @property
    def evicted_blocks(self) -> int:
        """Return how many blocks with findable content were taken for other content so far."""
        return self._queue.evicted

    def lookup(self, request: Request, tokens: int) -> int:
        """Return how many of the first `tokens` tokens of a request are cached.

        The last one is never among them, as it must be computed for its logits. Hits end at whole
        blocks.
        """
        return 0 if self._prefixes is None else self._prefixes.longest(request, tokens)

    def start(self, request: Request, hit_tokens: int, tokens: int | None = None) -> None:
        """Begin a sequence that holds the blocks of its first `hit_tokens`, as found by `lookup`.

        `tokens` are those that were looked up, None for the prompt; only a counter needs them.
        Blocks that the request left behind before and does not take back now are forgotten.
        """
        index = request.index
        if index in self._sequences or index in self._on_host:
            raise InvariantError(f"sequence {index} is started twice")
        sequence = Sequence(request, tuple(Holding() for _ in self.layout.groups))
        self._sequences[index] = sequence
        if self._prefixes is None:
            return
        self.queries_tokens += request.input_tokens if tokens is None else tokens
        self.hit_tokens += hit_tokens
        sequence.shared_tokens = self._prefixes.shared_tokens(request)
        if hit_tokens:
            self._take_hit(self._prefixes, sequence, hit_tokens)
        left = self._prefixes.left_behind(index)
        if left is not None:
            for segment in tuple(left.segments):
                self._queue.forget(segment)

    def _take_hit(self, prefixes: PrefixIndex, sequence: Sequence, hit_tokens: int) -> None:
        request = sequence.request
        for number, group in enumerate(self.layout.groups):
            holding = sequence.holdings[number]
            holding.begin = group.first_block(hit_tokens)
            holding.end = hit_tokens // group.block_tokens
            for piece in prefixes.pieces(request, number, holding.begin, holding.end):
                self._queue.rescue(piece.segment, piece.mask)
                holding.receive(piece, shared=prefixes.is_shared(piece.segment))
        sequence.published = min(hit_tokens, sequence.shared_tokens)
        for node in prefixes.known_path(request, sequence.published):
            sequence.go_to(node)

    def missing(self, index: int, tokens: int, new_tokens: int = 1) -> int:
        """Return the blocks that a sequence must take so that `tokens` tokens fit.

        The last `new_tokens` of them are computed next.
        """
        holdings = self._sequences[index].holdings
        computed = tokens - new_tokens
        return sum(
            max(0, group.end_block(tokens) - max(holding.end, group.first_block(computed)))
            for group, holding in zip(self.layout.groups, holdings, strict=True)
        )

    def fits(self, request: Request, tokens: int, hit_tokens: int) -> bool:
        """Return whether a new sequence that finds `hit_tokens` gets room for `tokens` now."""
        return self.demand(request, tokens, hit_tokens).now <= self._queue.count

    def demand(self, request: Request, tokens: int, hit_tokens: int) -> Demand:
        """Return the free blocks that a new sequence needs which finds `hit_tokens`.

        What it finds in the free queue is not free a second time.
        """
        now = least = 0
        for number, group in enumerate(self.layout.groups):
            hit, first = hit_tokens // group.block_tokens, group.first_block(hit_tokens)
            new = group.end_block(tokens) - hit
            now, least = now + new, least + new
            if hit and self._prefixes is not None:
                for piece in self._prefixes.pieces(request, number, first, hit):
                    free = piece.mask & piece.segment.free
                    now += free.bit_count()
                    if group.window is None:
                        # Where the oldest copy is lost, one that somebody holds is found.
                        least += (free & ~piece.segment.home.held(number)).bit_count()
        return Demand(now, least)

    def extend(self, index: int, tokens: int, new_tokens: int = 1) -> bool:
        """Take the blocks that are missing so that `tokens` tokens fit; False if there are too few.

        Then none is taken; but blocks before a window are given back in any case, as in vLLM. The
        last `new_tokens` must be computed in the step to come: full blocks of the shared prefix
        are found by others from now on.
        """
        sequence = self._sequences[index]
        group = self._uniform
        if group is not None:
            holding = sequence.holdings[0]
            count = -(-tokens // group.block_tokens) - holding.end
            if count > 0:
                if count > self._queue.count:
                    return False
                self._queue.take(count)
                holding.end += count
                holding.loose += count
        elif not self._extend_groups(sequence, tokens, tokens - new_tokens):
            return False
        if sequence.published < sequence.shared_tokens and self._prefixes is not None:
            self._prefixes.publish(sequence, min(tokens, sequence.shared_tokens))
        return True

    def _extend_groups(self, sequence: Sequence, tokens: int, computed: int) -> bool:
        groups, holdings = self.layout.groups, sequence.holdings
        for group, holding in zip(groups, holdings, strict=True):
            first = group.first_block(computed)
            if first > holding.begin:
                holding.trim(self._queue, first)
        counts = [
            max(0, group.end_block(tokens) - holding.end)
            for group, holding in zip(groups, holdings, strict=True)
        ]
        if sum(counts) > self._queue.count:
            return False
        for count, holding in zip(counts, holdings, strict=True):
            self._queue.take(count)
            holding.end += count
            holding.loose += count
        return True

    def free(self, index: int, computed_tokens: int) -> None:
        """End a sequence; full blocks of its first `computed_tokens` can still be found.

        They must not be more than it was extended to.
        """
        sequence = self._sequences.pop(index)
        private = None
        if self._prefixes is not None and not sequence.opaque:
            private = self._prefixes.private(index)
        self._release(sequence, computed_tokens, private)

    def _release(self, sequence: Sequence, computed_tokens: int, private: Node | None) -> None:
        for number, group in enumerate(self.layout.groups):
            full = computed_tokens // group.block_tokens
            base = sequence.shared_tokens // group.block_tokens
            sequence.holdings[number].release(self._queue, full, private, number, base)
        if private is not None:
            private.prune()
        sequence.leave_path()

    def swap_out(self, index: int) -> int:
        """Move a sequence to the host; return its blocks, all of which are copied and then free.

        What others could find of it can still be found.
        """
        sequence = self._sequences.pop(index)
        spans = tuple((holding.begin, holding.end) for holding in sequence.holdings)
        self._release(sequence, sequence.published, None)
        moved = self._on_host[index] = _OnHost(sequence.request, spans)
        self.host_blocks += moved.blocks
        return moved.blocks

    def swap_in(self, index: int) -> int:
        """Take blocks for a sequence on the host; return their number, 0 if there are too few.

        The sequence then shares nothing any more.
        """
        moved = self._on_host[index]
        if moved.blocks > self._queue.count:
            return 0
        del self._on_host[index]
        self.host_blocks -= moved.blocks
        self._queue.take(moved.blocks)
        holdings = tuple(Holding(begin, end, end - begin) for begin, end in moved.spans)
        self._sequences[index] = Sequence(moved.request, holdings, opaque=True)
        return moved.blocks

    def check(self) -> None:
        """Raise InvariantError unless every block is held or free, once, and findable or not."""
        segments = self._segments()
        held = sum(segment.held.bit_count() for segment in segments)
        loose = sum(h.loose for s in self._sequences.values() for h in s.holdings)
        free = sum(run.count for run in self._queue.runs())
        if held + loose + free != self.total_blocks or free != self._queue.count:
            raise InvariantError(f"{held} + {loose} + {free} blocks are not {self.total_blocks}")
        for segment in segments:
            if segment.held & segment.free or segment.present != segment.held | segment.free:
                raise InvariantError("a block is held and free, or neither")
        self._check_holdings()

    def _check_holdings(self) -> None:
        for sequence in self._sequences.values():
            for holding in sequence.holdings:
                in_pieces = sum(piece.mask.bit_count() for piece in holding.pieces)
                if holding.loose < 0 or in_pieces + holding.loose != holding.end - holding.begin:
                    raise InvariantError(f"sequence {sequence.request.index} lost count")

    def _segments(self) -> list[Segment]:
        if self._prefixes is None:
            return []
        return [segment for node in self._prefixes.nodes() for segment in node.segments]
