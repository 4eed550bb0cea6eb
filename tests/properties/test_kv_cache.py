"""Laws of the KV cache: it does what one object a block does, in whatever order it is asked."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sim.serving.kv_blocks import Node, Segment
from sim.serving.kv_cache import KvCache
from sim.serving.kv_layout import CacheKind, KvGroup, KvLayout
from sim.serving.request import Request
from tests.kv_reference import Content, ReferenceCache

CHUNK = 6
FULL = KvGroup(kind=CacheKind.FULL, layers=1, block_tokens=2)
WIDE = KvGroup(kind=CacheKind.FULL, layers=1, block_tokens=4)
ODD = KvGroup(kind=CacheKind.FULL, layers=1, block_tokens=5)
NARROW = KvGroup(kind=CacheKind.WINDOW, layers=1, block_tokens=2, window=5)
TINY = KvGroup(kind=CacheKind.WINDOW, layers=1, block_tokens=2, window=3)
PREFIXES = ((), (1,), (1, 1, 1), (1, 1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 2, 1))
GROUPS = ((FULL,), (ODD,), (NARROW,), (NARROW, FULL), (TINY, FULL, NARROW), (NARROW, WIDE))


@st.composite
def requests(draw: st.DrawFn) -> tuple[Request, ...]:
    """Draw requests with prefixes of few different blocks, so that they often begin alike."""
    drawn = []
    for index in range(6):
        tokens = draw(st.integers(1, 20))
        prefix = draw(st.sampled_from(PREFIXES))[: -(-tokens // CHUNK)]
        drawn.append(
            Request(
                index=index,
                arrival_ps=0,
                input_tokens=tokens,
                output_tokens=9,
                prefix=prefix,
            )
        )
    return tuple(drawn)


class KvCacheMachine(RuleBasedStateMachine):
    """Does the same to both caches; `done` are the tokens that each sequence has computed."""

    @initialize(groups=st.sampled_from(GROUPS), total=st.integers(4, 40), drawn=requests())
    def build(self, groups: tuple[KvGroup, ...], total: int, drawn: tuple[Request, ...]) -> None:
        layout = KvLayout(groups=groups, group_layers=1, block_bytes=1)
        self.cache = KvCache(layout, total, prefix_caching=True, prefix_block_tokens=CHUNK)
        self.reference = ReferenceCache(layout, total, CHUNK)
        self.drawn = drawn
        self.done: dict[int, int] = {}
        self.reached = {request.index: request.input_tokens for request in drawn}

    def idle(self) -> list[Request]:
        return [r for r in self.drawn if r.index not in self.done]

    @precondition(lambda self: self.idle())
    @rule(data=st.data(), part=st.integers(0, 3), new=st.integers(1, 12))
    def start(self, data: st.DataObject, part: int, new: int) -> None:
        """Start with what is found, at times less; `fits` must tell what `extend` then does."""
        request = data.draw(st.sampled_from(self.idle()))
        hit = self.cache.lookup(request, self.reached[request.index])
        if part == 0:
            step = self.cache.layout.hit_tokens
            hit = self.reference.lookup(request, 1 + hit // 2 // step * step)
        fits = self.cache.fits(request, hit + new, hit)
        self.cache.start(request, hit)
        self.reference.start(request, hit)
        self.done[request.index] = hit
        assert self.extend_both(request.index, new) == fits

    @precondition(lambda self: self.idle())
    @rule(data=st.data(), tokens=st.integers(1, 20))
    def receive(self, data: st.DataObject, tokens: int) -> None:
        """Start with all but one token computed elsewhere, or not at all."""
        request = data.draw(st.sampled_from(self.idle()))
        self.cache.start(request, 0)
        self.reference.start(request, 0)
        self.done[request.index] = tokens - 1
        if not self.extend_both(request.index, 1):
            del self.done[request.index]
            self.cache.free(request.index, 0)
            self.reference.free(request.index, 0)

    def extend_both(self, index: int, new: int) -> bool:
        tokens = self.done[index] + new
        missing = self.cache.missing(index, tokens, new)
        before = self.cache.free_blocks
        done = self.cache.extend(index, tokens, new)
        assert self.reference.extend(index, tokens, new) == done
        if done:
            assert self.cache.missing(index, tokens, new) == 0
            assert self.cache.free_blocks >= before - missing
            self.done[index] = tokens
            self.reached[index] = max(self.reached[index], tokens + 1)
        return done

    def running(self) -> list[int]:
        return [index for index in self.done if index in self.reference.held]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), new=st.integers(1, 12))
    def extend(self, data: st.DataObject, new: int) -> None:
        self.extend_both(data.draw(st.sampled_from(self.running())), new)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), lost=st.sampled_from((0, 0, 1, 5)))
    def free(self, data: st.DataObject, lost: int) -> None:
        """Free a sequence, at times before the last tokens were computed."""
        index = data.draw(st.sampled_from(self.running()))
        computed = max(0, self.done.pop(index) - lost)
        self.cache.free(index, computed)
        self.reference.free(index, computed)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def swap_out(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(self.running()))
        assert self.cache.swap_out(index) == self.reference.swap_out(index)

    @precondition(lambda self: self.reference.on_host)
    @rule(data=st.data())
    def swap_in(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(sorted(self.reference.on_host)))
        assert self.cache.swap_in(index) == self.reference.swap_in(index)

    @invariant()
    def blocks_are_conserved(self) -> None:
        self.cache.check()
        assert self.cache.free_blocks == len(self.reference.queue)
        assert self.cache.used_blocks == self.cache.total_blocks - len(self.reference.queue)
        assert self.cache.evicted_blocks == self.reference.evicted
        assert all(run.count > 0 for run in self.cache._queue.runs())

    @invariant()
    def free_blocks_are_evicted_in_the_same_order(self) -> None:
        queue: list[Content | None] = []
        for run in self.cache._queue.runs():
            queue += (
                [None] * run.count if run.segment is None else self.contents(run.segment, run.mask)
            )
        assert queue == [block.content for block in self.reference.queue]

    @invariant()
    def sequences_hold_the_same_content_as_often(self) -> None:
        """A block is shared only where the reference shares one, so only if contents are equal."""
        for index, held in self.reference.held.items():
            for mine, blocks in zip(
                self.cache._sequences[index].holdings, held.groups, strict=True
            ):
                known = [c for p in mine.pieces for c in self.contents(p.segment, p.mask)[::-1]]
                assert [b.content for _, b in sorted(blocks.items())] == known + [None] * mine.loose
        readers: Counter[tuple[Content | None, int]] = Counter()
        for segment in self.cache._segments():
            for place in range(segment.present.bit_length()):
                bit = 1 << place
                if segment.present & bit:
                    (content,) = self.contents(segment, bit)
                    number = sum(n for mask, n in segment.readers.items() if mask & bit)
                    readers[content, number] += 1
        expected = Counter(
            (b.content, len(b.readers)) for b in self.reference.blocks if b.content is not None
        )
        assert readers == expected

    @invariant()
    def lookups_agree(self) -> None:
        for request in self.drawn:
            tokens = self.reached[request.index]
            assert self.cache.lookup(request, tokens) == self.reference.lookup(request, tokens)

    def contents(self, segment: Segment, mask: int) -> list[Content | None]:
        """Return the contents of some blocks of a segment, the last one first."""
        size = self.cache.layout.groups[segment.group].block_tokens
        prefixes = self.cache._prefixes
        assert prefixes is not None
        if prefixes.is_shared(segment):
            kind: Content = ("prefix", path_of(segment.home))
            base = (len(path_of(segment.home)) - 1) * CHUNK // size
        else:
            kind = ("own", segment.home.key)
            base = self.reference.shared_tokens(self.drawn[segment.home.key]) // size
        places = [p for p in range(mask.bit_length()) if mask >> p & 1]
        return [(*kind, segment.group, base + place) for place in reversed(places)]


def path_of(node: Node) -> tuple[int, ...]:
    keys = []
    while node.parent is not None:
        keys.append(node.key)
        node = node.parent
    return tuple(reversed(keys))


KvCacheMachine.TestCase.settings = settings(stateful_step_count=40)
TestKvCache = KvCacheMachine.TestCase
