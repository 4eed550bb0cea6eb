"""L2 residency: which bytes of which segment L2 holds, how many are dirty, and who goes first.

State is kept per segment, oldest first. Streamed segments (evict-first) leave before the
activations, older ones before younger ones; a segment that alone exceeds the cache evicts its own
oldest bytes. Between kernels the state is a tuple of `Resident`s; within one, a `Residency`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sim.errors import InvariantError
from sim.kernel.kernel import Kernel, Load, Segment
from sim.kernel.operators import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Bytes of one tensor in L2 between kernels; `name` is empty for tensors of past layers."""

    name: str
    traffic: Traffic
    resident_bytes: int
    dirty_bytes: int


L2State = tuple[Resident, ...]
EMPTY_L2: L2State = ()


def forget_layer(state: L2State) -> L2State:
    """Return the state after a layer: its private tensors become anonymous, neighbours merge.

    Weights, experts, KV and recurrent state of a past layer are not read again in this step, so
    only their bytes matter. This makes the state repeat from layer to layer.
    """
    merged: list[Resident] = []
    for entry in state:
        name = entry.name if entry.traffic is Traffic.ACTIVATIONS else ""
        last = merged[-1] if merged else None
        if last and not name and (last.name, last.traffic) == ("", entry.traffic):
            merged[-1] = Resident(
                name="",
                traffic=entry.traffic,
                resident_bytes=last.resident_bytes + entry.resident_bytes,
                dirty_bytes=last.dirty_bytes + entry.dirty_bytes,
            )
        else:
            merged.append(
                Resident(
                    name=name,
                    traffic=entry.traffic,
                    resident_bytes=entry.resident_bytes,
                    dirty_bytes=entry.dirty_bytes,
                )
            )
    return tuple(merged)


@dataclass(slots=True, eq=False)
class _Entry:
    """One tensor in L2: `old` bytes from before this kernel, `new` ones fetched or written by it.

    `touched` counts distinct bytes asked for so far (it passes `size` when the kernel starts a
    second pass over the tensor).
    """

    name: str
    traffic: Traffic
    size: int
    old: int
    dirty: int
    new: int = 0
    touched: int = 0
    asked: dict[int, int] = field(default_factory=dict)

    @property
    def resident(self) -> int:
        return self.old + self.new


class Residency:
    """The state of L2 while one kernel runs.

    `entries` starts with the kernel's own segments, in their order. Conservation: what is
    fetched or written is resident or evicted; dirty bytes made are written back or still dirty.
    """

    __slots__ = ("_order", "capacity", "entries", "made_dirty", "total", "written_back")

    def __init__(self, capacity_bytes: int, kernel: Kernel, state: L2State) -> None:
        known = {entry.name: entry for entry in state if entry.name}
        self.capacity = capacity_bytes
        self.entries = [self._own(segment, known) for segment in kernel.segments]
        own = {entry.name: entry for entry in self.entries}
        self._order: list[_Entry] = []
        for entry in state:
            mine = own.pop(entry.name, None) if entry.name else None
            self._order.append(
                mine
                or _Entry(
                    entry.name, entry.traffic, entry.resident_bytes, entry.resident_bytes,
                    entry.dirty_bytes,
                )
            )  # fmt: skip
        self._order.extend(own.values())
        self.total = sum(entry.resident for entry in self._order)
        self.written_back: dict[Traffic, int] = {}
        self.made_dirty = 0
        if self.total > capacity_bytes:
            raise InvariantError(f"L2 state of {self.total} bytes exceeds {capacity_bytes}")

    @staticmethod
    def _own(segment: Segment, known: dict[str, Resident]) -> _Entry:
        past = known.get(segment.name)
        old, dirty = (past.resident_bytes, past.dirty_bytes) if past else (0, 0)
        return _Entry(segment.name, segment.traffic, segment.size_bytes, old, dirty)

    def read(self, load: Load, asked_bytes: int) -> int:
        """Ask for bytes of a segment; return how many must come from HBM.

        Of what concurrent sharers ask for, only the distinct part is touched. Of a first touch,
        the share that was resident hits; a further pass hits in proportion to what is resident.
        """
        entry = self.entries[load.segment]
        before = entry.asked.get(load.sharers, 0)
        entry.asked[load.sharers] = before + asked_bytes
        distinct = (before + asked_bytes) // load.sharers - before // load.sharers
        if not distinct:
            return 0
        left = entry.size - entry.touched % entry.size if entry.size else distinct
        first_pass = entry.touched < entry.size
        base, span = (entry.old, left) if first_pass else (entry.resident, entry.size)
        hits = min(distinct, base) if base >= span else distinct * base // max(span, distinct)
        entry.touched += distinct
        if first_pass:
            entry.old -= hits
            entry.new += hits
        missed = distinct - hits
        self._insert(entry, missed)
        return missed

    def write(self, segment: int, size_bytes: int) -> None:
        """Write bytes of a segment into L2: they become resident and dirty."""
        entry = self.entries[segment]
        room = max(0, entry.size - entry.resident)
        self._insert(entry, min(size_bytes, room))
        fresh = min(size_bytes, entry.resident - entry.dirty)
        entry.dirty += fresh
        self.made_dirty += fresh

    def _insert(self, entry: _Entry, size_bytes: int) -> None:
        added = min(size_bytes, max(0, entry.size - entry.resident))
        entry.new += added
        self.total += added
        if self.total > self.capacity:
            self._evict(entry)

    def _evict(self, newest: _Entry) -> None:
        streamed = [e for e in self._order if e.traffic is not Traffic.ACTIVATIONS]
        kept = [e for e in self._order if e.traffic is Traffic.ACTIVATIONS]
        for entry in (*streamed, *kept):
            if entry is not newest:
                self._drop(entry, self.total - self.capacity)
            if self.total <= self.capacity:
                return
        self._drop(newest, self.total - self.capacity)

    def _drop(self, entry: _Entry, size_bytes: int) -> None:
        dropped = min(size_bytes, entry.resident)
        if dropped <= 0:
            return
        clean_left = entry.resident - entry.dirty
        dirty = max(dropped - clean_left, dropped * entry.dirty // entry.resident)
        from_old = min(dropped, entry.old)
        entry.old -= from_old
        entry.new -= dropped - from_old
        entry.dirty -= dirty
        self.total -= dropped
        if dirty:
            back = self.written_back
            back[entry.traffic] = back.get(entry.traffic, 0) + dirty

    @property
    def written_back_bytes(self) -> int:
        """Return the dirty bytes evicted so far."""
        return sum(self.written_back.values())

    def state(self, segments: Sequence[Segment]) -> L2State:
        """Return the state after the kernel: its own segments are the youngest, in their order."""
        own = self.entries[: len(segments)]
        others = [e for e in self._order if all(e is not o for o in own)]
        return tuple(
            Resident(
                name=e.name,
                traffic=e.traffic,
                resident_bytes=e.resident,
                dirty_bytes=e.dirty,
            )
            for e in (*others, *own)
            if e.resident
        )
