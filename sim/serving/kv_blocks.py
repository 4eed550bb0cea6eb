"""Blocks by the run: what content they hold, who reads it, and in which order free ones are taken.

A cache has many thousand blocks, and nearly all of them are held by one sequence and never shared.
So no object stands for a block: a run is a count, or the set bits of an integer where the blocks
of it can be found again, bit i for the i-th block of its `Node`.
"""

from collections import OrderedDict
from collections.abc import Iterator


class Node:
    """A place in the tree of known content; its path from the root is all content up to it.

    `segments` are the copies of its blocks, of all groups, the older before the younger. `pins`
    counts the sequences that are about to go on from here. A node without use leaves the tree.
    """

    __slots__ = ("children", "key", "parent", "pins", "segments")

    def __init__(self, parent: "Node | None" = None, key: int = 0) -> None:
        self.parent = parent
        self.key = key
        self.children: dict[int, Node] = {}
        self.segments: list[Segment] = []
        self.pins = 0

    def child(self, key: int) -> "Node":
        """Return the child of this key, a new one if there is none."""
        found = self.children.get(key)
        if found is None:
            found = self.children[key] = Node(self, key)
        return found

    def found(self, group: int) -> int:
        """Return which of its blocks are there for `group`, in any copy."""
        mask = 0
        for segment in self.segments:
            if segment.group == group:
                mask |= segment.present
        return mask

    def held(self, group: int) -> int:
        """Return which of its blocks some sequence holds for `group`, in any copy."""
        mask = 0
        for segment in self.segments:
            if segment.group == group:
                mask |= segment.held
        return mask

    def prune(self) -> None:
        """Take this node and its ancestors out of the tree as far up as they are of no use."""
        node = self
        while not (node.children or node.segments or node.pins) and node.parent is not None:
            parent = node.parent
            del parent.children[node.key]
            node = parent

    def walk(self) -> Iterator["Node"]:
        """Yield this node and all below it."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())


class Segment:
    """One copy of some blocks of a node, for one group of layers.

    `present` are the blocks that can be found, `readers` counts the sequences by the blocks of it
    that they hold, and `runs` are its blocks that lie in the free queue: those that none holds.
    """

    __slots__ = ("group", "home", "present", "readers", "runs")

    def __init__(self, home: Node, group: int) -> None:
        self.home = home
        self.group = group
        self.present = 0
        self.readers: dict[int, int] = {}
        self.runs: list[FreeRun] = []
        home.segments.append(self)

    @property
    def held(self) -> int:
        """Return the blocks that some sequence holds."""
        mask = 0
        for reader in self.readers:
            mask |= reader
        return mask

    @property
    def free(self) -> int:
        """Return the blocks that lie in the free queue."""
        mask = 0
        for run in self.runs:
            mask |= run.mask
        return mask

    def drop(self, mask: int) -> None:
        """Forget the content of blocks; the segment goes with its last one."""
        self.present &= ~mask
        if not self.present:
            self.home.segments.remove(self)
            self.home.prune()

    def join(self, mask: int) -> None:
        """Count one more sequence that holds `mask`."""
        self.readers[mask] = self.readers.get(mask, 0) + 1

    def leave(self, mask: int) -> int:
        """Count one less sequence that holds `mask`; return the blocks that none holds now."""
        left = self.readers[mask] - 1
        if left:
            self.readers[mask] = left
            return 0
        del self.readers[mask]
        return mask & ~self.held if self.readers else mask


class FreeRun:
    """Blocks next to each other in the free queue; without a segment they cannot be found."""

    __slots__ = ("count", "mask", "segment")

    def __init__(self, count: int, segment: Segment | None = None, mask: int = 0) -> None:
        self.count = count
        self.segment = segment
        self.mask = mask


class FreeQueue:
    """Free blocks, the least recently freed first; of a run the last block goes first.

    `count` is their number, `evicted` counts the blocks that were taken while their content could
    still be found. No run is empty, so there are never more runs than blocks.
    """

    def __init__(self, count: int) -> None:
        self.count = 0
        self.evicted = 0
        self._runs: OrderedDict[FreeRun, None] = OrderedDict()
        self._last: FreeRun | None = None
        self.append(count)

    def runs(self) -> Iterator[FreeRun]:
        """Yield the runs, first the one to be taken next."""
        return iter(self._runs)

    def append(self, count: int) -> None:
        """Add `count` blocks whose content is lost."""
        if count <= 0:
            return
        self.count += count
        if self._last is not None:
            self._last.count += count
            return
        self._last = FreeRun(count)
        self._runs[self._last] = None

    def append_found(self, segment: Segment, mask: int) -> None:
        """Add blocks of a segment that can be found until they are taken."""
        if not mask:
            return
        run = FreeRun(mask.bit_count(), segment, mask)
        self.count += run.count
        segment.runs.append(run)
        self._runs[run] = None
        self._last = None

    def take(self, count: int) -> None:
        """Take `count` blocks from the head; there must be as many."""
        self.count -= count
        while count > 0:
            run = next(iter(self._runs))
            if run.count > count and run.segment is None:  # nearly always
                run.count -= count
                return
            taken = min(count, run.count)
            count -= taken
            run.count -= taken
            if run.segment is not None:
                self._evict(run, run.segment, taken)
            if not run.count:
                self._discard(run)

    def rescue(self, segment: Segment, mask: int) -> None:
        """Take blocks of a segment out from wherever they lie, as they are read again."""
        for run in tuple(segment.runs):
            hit = run.mask & mask
            if hit:
                run.mask ^= hit
                run.count -= hit.bit_count()
                self.count -= hit.bit_count()
                if not run.count:
                    segment.runs.remove(run)
                    self._discard(run)

    def forget(self, segment: Segment) -> None:
        """Lose the content of all free blocks of a segment; they keep their places."""
        lost = 0
        for run in segment.runs:
            lost |= run.mask
            run.segment, run.mask = None, 0
        segment.runs.clear()
        segment.drop(lost)

    def _discard(self, run: FreeRun) -> None:
        del self._runs[run]
        if run is self._last:
            self._last = None

    def _evict(self, run: FreeRun, segment: Segment, taken: int) -> None:
        """Let the last `taken` blocks of a run be found no more; its count is without them."""
        self.evicted += taken
        if run.count:
            gone = _highest(run.mask, taken)
            run.mask ^= gone
            segment.present ^= gone  # others of its blocks are left in the run
        else:
            segment.runs.remove(run)
            segment.drop(run.mask)


def _highest(mask: int, count: int) -> int:
    """Return the `count` highest set bits of `mask`.

    >>> bin(_highest(0b1011010, 2))
    '0b1010000'
    """
    top = mask.bit_length()
    if count == 1:
        return 1 << (top - 1)
    low = (mask >> (top - count)) << (top - count)
    if low.bit_count() == count:
        return low
    low = 0
    for _ in range(count):
        bit = 1 << (mask.bit_length() - 1)
        low |= bit
        mask ^= bit
    return low
