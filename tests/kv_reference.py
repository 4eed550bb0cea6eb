"""A KV cache with one object a block: slow, and simple enough to be right at sight."""

from dataclasses import dataclass, field
from itertools import count

from sim.serving.kv_layout import KvGroup, KvLayout
from sim.serving.request import Request

Content = tuple[object, ...]


@dataclass(eq=False)
class Block:
    """A block; `content` is None if nobody can find it, `copy` orders blocks of equal content."""

    content: Content | None = None
    copy: int = 0
    readers: set[int] = field(default_factory=set)


@dataclass
class Held:
    """Blocks of a sequence by place, a dict for each group; `opaque` after it was on the host."""

    request: Request
    groups: list[dict[int, Block]]
    shared_tokens: int
    published: int = 0
    opaque: bool = False
    copies: dict[int, tuple[object, int]] = field(default_factory=dict)


class ReferenceCache:
    """What `KvCache` has to do, block by block; `queue` is in the order of eviction."""

    def __init__(self, layout: KvLayout, total: int, prefix_block_tokens: int) -> None:
        self.layout, self.chunk = layout, prefix_block_tokens
        self.blocks = [Block() for _ in range(total)]
        self.queue = list(self.blocks)
        self.held: dict[int, Held] = {}
        self.on_host: dict[int, tuple[Request, list[list[int]]]] = {}
        self.evicted = 0
        self._copies = count(1)

    def shared_tokens(self, request: Request) -> int:
        return min(len(request.prefix) * self.chunk, request.input_tokens)

    def content(self, request: Request, number: int, place: int) -> Content:
        """Return what a block holds: the prefix up to its end and its place, or the owner's own."""
        size = self.layout.groups[number].block_tokens
        if (place + 1) * size > self.shared_tokens(request):
            return ("own", request.index, number, place)
        chunk = ((place + 1) * size - 1) // self.chunk
        return ("prefix", request.prefix[: chunk + 1], number, place)

    def find(self, request: Request, number: int, place: int) -> Block | None:
        wanted = self.content(request, number, place)
        equal = [block for block in self.blocks if block.content == wanted]
        return min(equal, key=lambda block: block.copy, default=None)

    def needed(self, group: KvGroup, computed: int) -> range:
        """Return the full blocks of `computed` tokens that the next token sees a part of."""
        full, size = computed // group.block_tokens, group.block_tokens
        if group.window is None:
            return range(full)
        first = 0
        while (first + 1) * size <= computed - group.window + 1:
            first += 1
        return range(first, max(first, full))

    def lookup(self, request: Request, tokens: int) -> int:
        for hit in range(tokens - 1, 0, -1):
            whole = hit % self.layout.hit_tokens == 0
            if whole and all(
                self.find(request, number, place)
                for number, group in enumerate(self.layout.groups)
                for place in self.needed(group, hit)
            ):
                return hit
        return 0

    def start(self, request: Request, hit: int) -> None:
        groups: list[dict[int, Block]] = []
        for number, group in enumerate(self.layout.groups):
            found = {p: self.find(request, number, p) for p in self.needed(group, hit)}
            groups.append({place: block for place, block in found.items() if block is not None})
        for blocks in groups:
            for block in blocks.values():
                if block.content is not None and block.content[0] == "own":
                    block.content = None
                block.readers.add(request.index)
                if block in self.queue:
                    self.queue.remove(block)
        shared = self.shared_tokens(request)
        self.held[request.index] = Held(request, groups, shared, min(hit, shared))
        for block in self.blocks:
            if block.content is not None and block.content[:2] == ("own", request.index):
                block.content = None

    def extend(self, index: int, tokens: int, new_tokens: int) -> bool:
        held = self.held[index]
        missing: list[tuple[dict[int, Block], int]] = []
        for group, blocks in zip(self.layout.groups, held.groups, strict=True):
            first = self.needed(group, tokens - new_tokens).start
            for place in sorted((p for p in blocks if p < first), reverse=True):
                self._give_back(index, blocks.pop(place))
            place = max(blocks, default=first - 1) + 1
            while place * group.block_tokens < tokens:
                missing.append((blocks, place))
                place += 1
        if len(missing) > len(self.queue):
            return False
        for blocks, place in missing:
            blocks[place] = self._take(index)
        if not held.opaque and tokens > held.published:
            self._publish(held, min(tokens, held.shared_tokens))
        return True

    def _take(self, index: int) -> Block:
        block = self.queue.pop(0)
        self.evicted += block.content is not None
        block.content = None
        block.readers.add(index)
        return block

    def _give_back(self, index: int, block: Block) -> None:
        block.readers.remove(index)
        if not block.readers:
            self.queue.append(block)

    def _publish(self, held: Held, tokens: int) -> None:
        for number, group in enumerate(self.layout.groups):
            for place, block in sorted(held.groups[number].items()):
                if block.content is None and (place + 1) * group.block_tokens <= tokens:
                    block.content = self.content(held.request, number, place)
                    block.copy = self._copy(held, number, block.content[1])
        held.published = max(held.published, tokens)

    def _copy(self, held: Held, number: int, prefix: object) -> int:
        """Return the number of the copy of this prefix block that the sequence is making."""
        before, copy = held.copies.get(number, (None, 0))
        if before != prefix or all(b.copy != copy for b in held.groups[number].values()):
            copy = next(self._copies)
        held.copies[number] = prefix, copy
        return copy

    def free(self, index: int, computed: int) -> None:
        held = self.held.pop(index)
        known = not held.opaque and held.published == held.shared_tokens
        for number, group in enumerate(self.layout.groups):
            for place, block in sorted(held.groups[number].items(), reverse=True):
                full = (place + 1) * group.block_tokens <= computed
                if not full and len(block.readers) == 1:
                    block.content = None
                if full and known and block.content is None:
                    block.content = self.content(held.request, number, place)
                self._give_back(index, block)

    def swap_out(self, index: int) -> int:
        held = self.held[index]
        places = [sorted(blocks) for blocks in held.groups]
        published, held.opaque = held.published, True
        self.free(index, published)
        self.on_host[index] = held.request, places
        return sum(map(len, places))

    def swap_in(self, index: int) -> int:
        request, places = self.on_host[index]
        total = sum(map(len, places))
        if total > len(self.queue):
            return 0
        del self.on_host[index]
        groups = [{place: self._take(index) for place in each} for each in places]
        self.held[index] = Held(request, groups, 0, opaque=True)
        return total
