"""What content a KV cache knows: prefixes that requests share, and what each left behind."""

from collections.abc import Iterator

from sim.errors import InvariantError
from sim.serving.kv_blocks import Node, Segment
from sim.serving.kv_layout import KvGroup, KvLayout
from sim.serving.kv_sequence import Holding, Piece, Sequence
from sim.serving.request import Request
from sim.units import ceil_div


class PrefixIndex:
    """Finds blocks by content.

    The blocks of a shared prefix belong to the node of the prefix block in which they end, so that
    two are the same only if everything before them is. Full blocks after it belong to a node of
    their request alone.
    """

    def __init__(self, layout: KvLayout, prefix_block_tokens: int) -> None:
        self._groups = layout.groups
        self._hit_tokens = layout.hit_tokens
        self._chunk = prefix_block_tokens
        self._shared = Node()
        self._private = Node()

    def shared_tokens(self, request: Request) -> int:
        """Return how many leading tokens of a request others may share."""
        return min(len(request.prefix) * self._chunk, request.input_tokens)

    def private(self, index: int) -> Node:
        """Return the node of what only the request of this index can find; a new one if need be."""
        return self._private.child(index)

    def left_behind(self, index: int) -> Node | None:
        """Return the node of what only the request of this index can find, if there is any."""
        return self._private.children.get(index)

    def nodes(self) -> Iterator[Node]:
        """Yield all nodes, the two roots included."""
        yield from self._shared.walk()
        yield from self._private.walk()

    def is_shared(self, segment: Segment) -> bool:
        """Return whether more than one request can find a segment."""
        return segment.home.parent is not self._private

    def known_path(self, request: Request, tokens: int | None = None) -> list[Node]:
        """Return the nodes of the prefix blocks of the first `tokens`, as far as they are known."""
        keys = request.prefix if tokens is None else request.prefix[: ceil_div(tokens, self._chunk)]
        node, path = self._shared, []
        for key in keys:
            child = node.children.get(key)
            if child is None:
                break
            path.append(child)
            node = child
        return path

    def longest(self, request: Request, tokens: int) -> int:
        """Return how many of the first `tokens` tokens are there, at most all but one.

        A group without a window needs all of them, one with a window the last `window - 1`.
        """
        step = self._hit_tokens
        hit = (tokens - 1) // step * step
        nodes = self.known_path(request)
        if not nodes and request.index not in self._private.children:
            return 0
        before = -1
        while hit > 0 and hit != before:
            before = hit
            for number, group in enumerate(self._groups):
                if group.window is None:
                    blocks = self._leading(request, nodes, number, hit // group.block_tokens)
                    hit = blocks * group.block_tokens // step * step
                else:
                    hit = _longest(group, self._found(request, nodes, number), hit, step)
        return hit

    def pieces(self, request: Request, number: int, first: int, last: int) -> list[Piece]:
        """Return where blocks `first` to `last` (not included) of a group lie, the oldest copies.

        All of them must be there.
        """
        group = self._groups[number]
        shared = self.shared_tokens(request) // group.block_tokens
        wanted = _span(first, last)
        pieces: list[Piece] = []
        for chunk, node in enumerate(self.known_path(request)):
            base = self._first(chunk, group)
            here = wanted & _span(base, min(self._first(chunk + 1, group), shared))
            if here:
                wanted ^= _collect(pieces, node, number, here, base)
        own = self.left_behind(request.index)
        if own is not None and wanted:
            wanted ^= _collect(pieces, own, number, wanted >> shared << shared, shared)
        if wanted:
            raise InvariantError(f"request {request.index} was told of blocks that are not there")
        return pieces

    def publish(self, sequence: Sequence, tokens: int) -> None:
        """Let full blocks of the first `tokens` tokens of a prefix be found by others."""
        request, path = sequence.request, sequence.path
        for chunk in range(sequence.published // self._chunk, ceil_div(tokens, self._chunk)):
            if chunk == len(path):
                parent = path[-1] if path else self._shared
                sequence.go_to(parent.child(request.prefix[chunk]))
            for number, group in enumerate(self._groups):
                holding = sequence.holdings[number]
                base = self._first(chunk, group)
                first = max(base, _published(sequence, group, holding))
                last = min(self._first(chunk + 1, group), tokens // group.block_tokens)
                if last > first:
                    holding.publish(path[chunk], number, first, last, base)
        sequence.published = tokens

    def _first(self, chunk: int, group: KvGroup) -> int:
        """Return the first block that ends in a prefix block."""
        return chunk * self._chunk // group.block_tokens

    def _leading(self, request: Request, nodes: list[Node], number: int, limit: int) -> int:
        """Return how many of the first `limit` blocks of a request a group has without a gap."""
        group = self._groups[number]
        shared = self.shared_tokens(request) // group.block_tokens
        begin, last = 0, min(shared, limit)
        for chunk, node in enumerate(nodes, 1):
            if begin == last:
                break
            end = min(chunk * self._chunk // group.block_tokens, last)
            found = node.found(number)
            if (found + 1) & ((1 << (end - begin)) - 1):  # a gap: adding 1 clears leading ones only
                return begin + _ones(found)
            begin = end
        own = self.left_behind(request.index)
        if own is None or begin < shared:
            return begin
        return min(limit, begin + _ones(own.found(number)))

    def _found(self, request: Request, nodes: list[Node], number: int) -> int:
        """Return which blocks of a request a group has."""
        group = self._groups[number]
        shared = self.shared_tokens(request) // group.block_tokens
        mask = 0
        for chunk, node in enumerate(nodes):
            mask |= node.found(number) << self._first(chunk, group)
        mask &= (1 << shared) - 1
        own = self.left_behind(request.index)
        return mask if own is None else mask | own.found(number) << shared


def _ones(mask: int) -> int:
    """Return the number of set bits before the first that is not.

    >>> _ones(0b1011)
    2
    """
    return (~mask & (mask + 1)).bit_length() - 1


def _published(sequence: Sequence, group: KvGroup, holding: Holding) -> int:
    return max(sequence.published // group.block_tokens, holding.begin)


def _span(first: int, last: int) -> int:
    return (1 << max(first, last)) - (1 << first)


def _collect(pieces: list[Piece], node: Node, number: int, wanted: int, base: int) -> int:
    """Append pieces with the wanted blocks, in order of the blocks; return what was found."""
    left = wanted >> base
    found = []
    for segment in node.segments:
        mask = segment.present & left if segment.group == number else 0
        if mask:
            left ^= mask
            found.append(Piece(segment, mask, base))
    if len(found) > 1:
        found = sorted((run for piece in found for run in _runs(piece)), key=_lowest)
    pieces.extend(found)
    return wanted ^ (left << base)


def _runs(piece: Piece) -> Iterator[Piece]:
    """Yield the stretches of neighbouring blocks of a piece: copies may have holes."""
    mask = piece.mask
    while mask:
        low = mask & -mask
        run = mask & ~(mask + low)
        yield Piece(piece.segment, run, piece.base)
        mask ^= run


def _lowest(piece: Piece) -> int:
    return piece.mask & -piece.mask


def _longest(group: KvGroup, found: int, hit: int, step: int) -> int:
    """Return the most tokens, up to `hit`, at whose end the whole window is found."""
    while hit > 0:
        needed = _span(group.first_block(hit), hit // group.block_tokens)
        if found & needed == needed:
            break
        hit -= step
    return hit
