"""What one sequence holds of a KV cache, group by group."""

from dataclasses import dataclass, field

from sim.serving.kv_blocks import FreeQueue, Node, Segment
from sim.serving.request import Request


@dataclass(slots=True)
class Piece:
    """Blocks of a segment that a sequence holds; bit 0 is block `base` of the sequence."""

    segment: Segment
    mask: int
    base: int


@dataclass(slots=True)
class Holding:
    """The blocks `begin` to `end` of a sequence in one group.

    The leading ones lie in `pieces`, in order, without a gap; the other `loose` ones have content
    that no other sequence can find. `own` is the segment that this sequence fills.
    """

    begin: int = 0
    end: int = 0
    loose: int = 0
    pieces: list[Piece] = field(default_factory=list)
    own: Segment | None = None

    def publish(self, node: Node, group: int, first: int, last: int, base: int) -> None:
        """Let blocks `first` to `last` (not included) be found at `node`, whose first is `base`."""
        bits = ((1 << (last - first)) - 1) << (first - base)
        own = self.own
        if own is not None and own.home is node:
            piece = self.pieces[-1]
            own.leave(piece.mask)
            piece.mask |= bits
        else:
            own = self.own = Segment(node, group)
            piece = Piece(own, bits, base)
            self.pieces.append(piece)
        own.present |= bits
        own.join(piece.mask)
        self.loose -= last - first

    def receive(self, piece: Piece, *, shared: bool) -> None:
        """Hold blocks that were found, behind those that it has; none before `begin`.

        What only this sequence can find becomes loose: nobody will look for it meanwhile.
        """
        if shared:
            piece.segment.join(piece.mask)
            self.pieces.append(piece)
        else:
            piece.segment.drop(piece.mask)
            self.loose += piece.mask.bit_count()

    def trim(self, queue: FreeQueue, first: int) -> None:
        """Give back all blocks before `first`, the last of them first, and never take them."""
        kept = []
        in_pieces = self.end - self.loose
        early_loose = min(first, self.end) - in_pieces
        if early_loose > 0:
            queue.append(early_loose)
            self.loose -= early_loose
        for piece in reversed(self.pieces):
            early = piece.mask & ((1 << max(0, first - piece.base)) - 1)
            if early:
                self._give_back(queue, piece, early)
            if piece.mask:
                kept.append(piece)
        self.pieces = kept[::-1]
        self.begin = first
        self.end = max(first, self.end)

    def _give_back(self, queue: FreeQueue, piece: Piece, early: int) -> None:
        freed = piece.segment.leave(piece.mask)
        piece.mask ^= early
        if piece.mask:
            piece.segment.join(piece.mask)
            freed &= early
        elif piece.segment is self.own:
            self.own = None
        queue.append_found(piece.segment, freed)

    def release(
        self, queue: FreeQueue, full: int, private: Node | None, group: int, base: int
    ) -> None:
        """Give all blocks back, the last first; the first `full` blocks have computed content.

        Loose ones of these can be found at `private`, whose first block is `base`.
        """
        in_pieces = self.end - self.loose
        findable = min(full, self.end) - in_pieces
        if private is None or findable <= 0:
            queue.append(self.loose)
        else:
            queue.append(self.loose - findable)
            segment = Segment(private, group)
            segment.present = ((1 << findable) - 1) << (in_pieces - base)
            queue.append_found(segment, segment.present)
        for piece in reversed(self.pieces):
            freed = piece.segment.leave(piece.mask)
            if piece.base + freed.bit_length() > full:
                early = freed & ~((1 << max(0, full - piece.base)) - 1)
                queue.append(early.bit_count())
                piece.segment.drop(early)
                freed ^= early
            queue.append_found(piece.segment, freed)


@dataclass(slots=True)
class Sequence:
    """A sequence that holds blocks.

    Its first `shared_tokens` can be found by others, `published` of them so far; `path` are the
    nodes that these belong to. A sequence that came back from the host is `opaque`: what it holds
    is found by none.
    """

    request: Request
    holdings: tuple[Holding, ...]
    shared_tokens: int = 0
    published: int = 0
    path: list[Node] = field(default_factory=list)
    opaque: bool = False

    def go_to(self, node: Node) -> None:
        """Append a node to the path and keep it in the tree."""
        node.pins += 1
        if self.path:
            self.path[-1].pins -= 1
        self.path.append(node)

    def leave_path(self) -> None:
        """Stop keeping the path in the tree."""
        if self.path:
            self.path[-1].pins -= 1
            self.path[-1].prune()
            self.path.clear()
