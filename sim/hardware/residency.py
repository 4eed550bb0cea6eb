"""L2 residency: which bytes of which segment L2 holds, how many are dirty, and who goes first.

State is kept per segment, oldest first. Streamed segments (evict-first) leave before the
activations, older ones before younger ones; a segment that alone exceeds the cache evicts its own
oldest bytes. What a kernel finds of a segment of an earlier one is what L2 holds at its reuse
distance (`sim.hardware.l2_law`): a sweep larger than the cache, in the same order, has always
just lost what comes next. Between kernels the state is a tuple of `Resident`s; within one, a
`Residency`.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sim.errors import InvariantError
from sim.hardware.l2_law import MILLION, Held, HitLaw
from sim.kernel.kernel import Load, Segment
from sim.kernel.operators import Tensor, Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Bytes of one tensor in L2 between kernels; `name` is empty for tensors of past layers.

    `since_bytes` went through L2 since its last use, where that is more than came after it here.
    `one_sided` bytes were last used by one SM alone.
    """

    name: str
    traffic: Traffic
    resident_bytes: int
    dirty_bytes: int
    since_bytes: int = 0
    one_sided: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class L2Policy:
    """Who leaves L2 first.

    `evict_first`: streamed tensors before activations. `lru`: whatever is oldest. A set-aside of
    `pinned_bytes` holds the classes `pinned`, whichever the order: others never evict them, they
    evict each other beyond it, and others use what they leave free (CUDA C++ Programming Guide,
    "L2 Set-Aside for Persisting Accesses"). Raises InvariantError for a size below zero.
    """

    lru: bool = False
    pinned: frozenset[Traffic] = frozenset()
    pinned_bytes: int = 0

    def __post_init__(self) -> None:
        """Check the size."""
        if self.pinned_bytes < 0:
            raise InvariantError(f"L2 cannot pin {self.pinned_bytes} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """How a kernel passes over its segments: distinct bytes of each, and which law L2 obeys."""

    bytes: tuple[int, ...]
    law: HitLaw
    one_sided: bool = False

    def held(self, distance_bytes: int, room_bytes: int, *, one_sided: bool) -> Held:
        """Return what L2 holds of data with a reuse distance."""
        return self.law.held(distance_bytes, room_bytes, one_sided=one_sided)


EVICT_FIRST = L2Policy()
L2State = tuple[Resident, ...]
EMPTY_L2: L2State = ()


def forget(state: L2State, alive: Collection[str]) -> L2State:
    """Return the state once no later operator of the layer uses private tensors but `alive`.

    Weights, experts, KV and recurrent state of a layer are not read again in this step after their
    last use, so of the dead only the bytes matter: the dirty ones, by class, which leave first,
    and the clean ones. This makes the state repeat from layer to layer.
    """
    clean = 0
    dirty: Counter[Traffic] = Counter()
    kept: list[Resident] = []
    for entry in state:
        if entry.name and (entry.traffic is Traffic.ACTIVATIONS or entry.name in alive):
            kept.append(entry)
            continue
        clean += entry.resident_bytes - entry.dirty_bytes
        dirty[entry.traffic] += entry.dirty_bytes
    dead = [
        Resident(name="", traffic=traffic, resident_bytes=size, dirty_bytes=size)
        for traffic, size in sorted(dirty.items())
        if size
    ]
    if clean:
        dead.append(Resident(name="", traffic=Traffic.WEIGHTS, resident_bytes=clean, dirty_bytes=0))
    return (*dead, *kept)


def received(
    state: L2State,
    tensors: Sequence[Tensor],
    capacity_bytes: int,
    policy: L2Policy = EVICT_FIRST,
) -> tuple[L2State, Counter[Traffic]]:
    """Return the state once `tensors` arrived from other GPUs, and the dirty bytes that left.

    Bytes from a link are written through L2, as those of a kernel are.
    """
    segments = [Segment(name=t.name, size_bytes=t.size_bytes, traffic=t.traffic) for t in tensors]
    residency = Residency(capacity_bytes, segments, state, policy)
    for index, segment in enumerate(segments):
        residency.write(index, segment.size_bytes)
    return residency.state(), residency.written_back


class _Entry:
    """One tensor in L2.

    Of its `resident` bytes, `old` are there without this kernel having read them yet; `dirty` ones
    are newer than HBM. `made` tells that this kernel writes it before reading. `touched` counts
    distinct bytes asked for so far (it passes `size` when the kernel starts a second pass over the
    tensor), `asked` all bytes by number of sharers. `lost` ones count as resident, but will have
    left when their turn comes; of the hits, `far` millionths are on the other side. Of a tensor
    that is written anew over lost bytes, `written` bytes have been. `since` bytes have gone through
    L2 since its last use, if not fewer than are seen here. `alone` tells that one SM used it last.
    """

    __slots__ = (
        "alone", "asked", "dirty", "far", "lost", "made", "name", "old", "own", "pinned",
        "resident", "since", "size", "streamed", "touched", "traffic", "written",
    )  # fmt: skip

    def __init__(
        self, name: str, traffic: Traffic, size: int, resident: int, dirty: int, *, own: bool
    ) -> None:
        self.name = name
        self.traffic = traffic
        self.size = size
        self.resident = resident
        self.old = resident
        self.dirty = dirty
        self.own = own
        self.streamed = traffic is not Traffic.ACTIVATIONS
        self.pinned = False
        self.alone = False
        self.made = False
        self.touched = 0
        self.lost = self.far = self.written = self.since = 0
        self.asked: dict[int, int] = {}


class Residency:
    """The state of L2 while one kernel runs.

    `entries` are the kernel's own segments, in their order. Conservation: what is fetched or
    written is resident or evicted; dirty bytes made are written back or still dirty.
    """

    __slots__ = (
        "_kept", "_others", "_pinned", "_streamed", "capacity", "entries", "made_dirty",
        "one_sided", "pinned_bytes", "total", "written_back", "written_back_bytes",
    )  # fmt: skip

    def __init__(
        self, capacity_bytes: int, segments: Sequence[Segment], state: L2State,
        policy: L2Policy = EVICT_FIRST, *, sweep: Sweep | None = None,
    ) -> None:  # fmt: skip
        known = {entry.name: entry for entry in state if entry.name}
        self.capacity = capacity_bytes
        self.entries = [_own(segment, known.get(segment.name)) for segment in segments]
        own = {entry.name: entry for entry in self.entries}
        order = [own.pop(e.name) if e.name in own else _foreign(e) for e in state]
        order.extend(own.values())
        self._others = [entry for entry in order if not entry.own]
        self.pinned_bytes = min(policy.pinned_bytes, capacity_bytes)
        for entry in order:
            entry.streamed = entry.streamed or policy.lru
            # Nameless bytes are of past layers: nobody reads them again.
            entry.pinned = bool(entry.name) and entry.traffic in policy.pinned
        # All youngest first: victims are taken from the end.
        self._pinned = [e for e in reversed(order) if e.pinned]
        self._streamed = [e for e in reversed(order) if e.streamed and not e.pinned]
        self._kept = [e for e in reversed(order) if not e.streamed and not e.pinned]
        self.total = sum(entry.resident for entry in order)
        self.written_back: Counter[Traffic] = Counter()
        self.written_back_bytes = 0
        self.made_dirty = 0
        if self.total > capacity_bytes:
            raise InvariantError(f"L2 state of {self.total} bytes exceeds {capacity_bytes}")
        sizes = tuple(segment.size_bytes for segment in segments)
        sweep = sweep or Sweep(bytes=sizes, law=HitLaw(partitions=1))
        self.one_sided = sweep.one_sided
        self._lose(sweep)

    def _lose(self, sweep: Sweep) -> None:
        """Note what of the kernel's own segments will have left when it comes to read it.

        Between two uses of a byte pass the kernel's segments, what came after the byte's own, and
        what leaves after it whatever came when. Of what the kernel makes anew, half has passed on
        average.
        """
        coming = dict(zip(self.entries, sweep.bytes, strict=True))
        room = self.capacity - sum(entry.resident for entry in self._pinned)
        kept = sum(coming.get(entry, entry.resident) for entry in self._kept)
        stacks = (
            (self._pinned, self.pinned_bytes, 0),
            (self._kept, room, 0),
            (self._streamed, room, kept),
        )
        for stack, space, above in stacks:
            mine = (coming[e] if e.resident else coming[e] // 2 for e in stack if e.own)
            distance = above + sum(mine)
            for entry in stack:
                if not entry.own:
                    distance += entry.resident
                elif entry.resident:
                    entry.alone = entry.alone and sweep.one_sided
                    held = sweep.held(max(distance, entry.since), space, one_sided=entry.alone)
                    entry.old = entry.resident * held.total // MILLION
                    entry.lost = entry.resident - entry.old
                    entry.far = held.far * MILLION // max(1, held.total)

    def read(self, load: Load, asked_bytes: int) -> int:
        """Ask for bytes of a segment; return how many must come from HBM.

        Of what concurrent sharers ask for, only the distinct part is touched. Of a first touch,
        the share that was resident hits; a further pass hits in proportion to what is resident.
        """
        entry = self.entries[load.segment]
        distinct = asked_bytes
        if load.sharers > 1:
            before = entry.asked.get(load.sharers, 0)
            entry.asked[load.sharers] = after = before + asked_bytes
            distinct = after // load.sharers - before // load.sharers
        missed = 0
        first = min(distinct, entry.size - entry.touched)
        if first > 0:
            missed = self._touch(entry, first)
            distinct -= first
        if distinct:
            entry.touched += distinct
            missed += self._read_again(entry, distinct)
        return missed

    def _touch(self, entry: _Entry, distinct: int) -> int:
        """Read bytes that this kernel has not read yet; return how many miss."""
        hits = 0
        if entry.lost:
            self._drop(entry, _share(distinct, entry.lost, entry.size - entry.touched))
        if entry.old:
            # What this kernel made is read by who made it: it is there, as long as it is resident.
            span = entry.old if entry.made else entry.size - entry.touched
            hits = _share(distinct, entry.old, span)
            entry.old -= hits
        entry.touched += distinct
        self._insert(entry, distinct - hits)
        return distinct - hits

    def _read_again(self, entry: _Entry, distinct: int) -> int:
        """Read bytes that this kernel has read before; return how many miss."""
        hits = _share(distinct, entry.resident, entry.size) if entry.resident else 0
        self._insert(entry, distinct - hits)
        return distinct - hits

    def write(self, segment: int, size_bytes: int, *, in_place: bool = False) -> None:
        """Write bytes of a segment into L2: they become resident and dirty.

        They land on clean resident bytes first if they are written in place, else on bytes that
        are not resident; then on the other of the two; then on dirty ones.
        """
        entry = self.entries[segment]
        if entry.lost and not in_place:
            self._drop(entry, _share(size_bytes, entry.lost, entry.size - entry.written))
            entry.written = min(entry.size, entry.written + size_bytes)
        clean = entry.resident - entry.dirty
        room = max(0, entry.size - entry.resident)
        over = min(size_bytes, clean) if in_place else min(clean, max(0, size_bytes - room))
        added = min(size_bytes - over, room)
        entry.resident += added
        entry.dirty += over + added
        self.made_dirty += over + added
        if not in_place:
            entry.made = entry.made or not entry.touched
            entry.old += min(added, max(0, entry.size - entry.touched - entry.old))
        self.total += added
        if self.total > self.capacity or entry.pinned:
            self._evict(entry)

    def _insert(self, entry: _Entry, size_bytes: int) -> None:
        added = min(size_bytes, entry.size - entry.resident)
        if added > 0:
            entry.resident += added
            self.total += added
            if self.total > self.capacity or entry.pinned:
                self._evict(entry)

    def _evict(self, newest: _Entry) -> None:
        """Make room: streamed entries, oldest first and `newest` last, then the others likewise.

        Pinned ones leave only what exceeds their own region.
        """
        if self._pinned:
            self._trim_pinned(newest)
        for victims, is_streamed in ((self._streamed, True), (self._kept, False)):
            i = len(victims)
            while i and self.total > self.capacity:
                i -= 1
                victim = victims[i]
                if victim is not newest and victim.resident:
                    self._drop(victim, self.total - self.capacity)
                if not victim.resident and not victim.own:
                    del victims[i]
            if self.total > self.capacity and newest.streamed is is_streamed and not newest.pinned:
                self._drop(newest, self.total - self.capacity)

    def _trim_pinned(self, newest: _Entry) -> None:
        excess = sum(entry.resident for entry in self._pinned) - self.pinned_bytes
        others = [entry for entry in reversed(self._pinned) if entry is not newest]
        for victim in (*others, newest) if newest.pinned else others:
            if excess <= 0:
                break
            before = victim.resident
            self._drop(victim, excess)
            excess -= before - victim.resident

    def _drop(self, entry: _Entry, size_bytes: int) -> None:
        resident = entry.resident
        dropped = min(size_bytes, resident)
        if entry.dirty:
            clean = resident - entry.dirty
            dirty = max(dropped - clean, dropped * entry.dirty // resident)
            entry.dirty -= dirty
            self.written_back[entry.traffic] += dirty
            self.written_back_bytes += dirty
        entry.resident = resident - dropped
        # What leaves is what the law of reuse has counted as lost, as long as there is some.
        entry.lost = max(0, entry.lost - dropped)
        kept = entry.old - dropped if entry.made else entry.resident - entry.lost
        entry.old = max(0, min(entry.old, kept))
        self.total -= dropped

    def state(self) -> L2State:
        """Return the state after the kernel: its own segments are the youngest, in their order."""
        return tuple(
            Resident(
                name=e.name,
                traffic=e.traffic,
                resident_bytes=e.resident,
                dirty_bytes=e.dirty,
                since_bytes=0 if e.own else e.since,
                one_sided=self.one_sided if e.own else e.alone,
            )
            for e in (*self._others, *self.entries)
            if e.resident
        )


def _own(segment: Segment, past: Resident | None) -> _Entry:
    resident, dirty = (past.resident_bytes, past.dirty_bytes) if past else (0, 0)
    size = segment.size_bytes
    entry = _Entry(segment.name, segment.traffic, size, resident, dirty, own=True)
    if past:
        entry.since, entry.alone = past.since_bytes, past.one_sided
    return entry


def _foreign(past: Resident) -> _Entry:
    size = past.resident_bytes
    entry = _Entry(past.name, past.traffic, size, size, past.dirty_bytes, own=False)
    entry.since, entry.alone = past.since_bytes, past.one_sided
    return entry


def _share(distinct: int, resident: int, span: int) -> int:
    """Return how many of `distinct` bytes hit if `resident` of the next `span` bytes are there."""
    if resident >= span:
        return min(distinct, resident)
    return distinct * resident // max(span, distinct)
