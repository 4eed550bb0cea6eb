"""What a step finds of the step before: weights, KV and state that L2 still holds.

Decode steps follow each other and pass over the same tensors in the same order, so the reuse
distance of each is the whole step. A tensor is put back into L2 with that distance where its first
kernel comes, and the device's law of reuse says how much of it is there.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sim.hardware.residency import L2Policy, L2State, Resident
from sim.kernel.kernel import Kernel
from sim.kernel.operators import Operator, Traffic
from sim.run.device import Device

# Beyond so many times L2 nothing is found (hardware_specs/l2/hits.csv).
_TOO_FAR: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """The distinct bytes of one step, by class."""

    bytes: Counter[Traffic]
    policy: L2Policy
    l2_bytes: int

    def distance(self, traffic: Traffic) -> int:
        """Return what passes through its part of L2 between two uses of a tensor."""
        pinned = self.policy.pinned
        same = (n for t, n in self.bytes.items() if (t in pinned) is (traffic in pinned))
        return sum(same)

    def found(self, l2: L2State, kernel: Kernel, used: dict[str, int]) -> L2State:
        """Return the state with what the last step left of the kernel's tensors.

        `used` are the bytes of every tensor that this step has used; the kernel's are added. A
        cache of which only new tokens were written comes back whole.
        """
        left = []
        for segment in kernel.segments:
            lasting = segment.traffic is not Traffic.ACTIVATIONS
            distance = self.distance(segment.traffic)
            is_new = used.get(segment.name, 0) < segment.size_bytes
            if lasting and is_new and distance < _TOO_FAR * self.l2_bytes:
                left.append(
                    Resident(
                        name=segment.name,
                        traffic=segment.traffic,
                        resident_bytes=segment.size_bytes,
                        dirty_bytes=sum(e.dirty_bytes for e in l2 if e.name == segment.name),
                        since_bytes=distance,
                    )
                )
            used[segment.name] = max(used.get(segment.name, 0), segment.size_bytes)
        return _with(left, l2, self.l2_bytes) if left else l2


def _with(left: Sequence[Resident], l2: L2State, l2_bytes: int) -> L2State:
    """Return the state with `left` as its oldest entries; clean bytes of past layers give way."""
    names = {entry.name for entry in left}
    others = [entry for entry in l2 if entry.name not in names]
    wanted = sum(entry.resident_bytes for entry in left)
    room = l2_bytes - sum(entry.resident_bytes for entry in others)
    entries: list[Resident] = []
    for entry in others:
        clean = 0 if entry.name else entry.resident_bytes - entry.dirty_bytes
        gone = min(clean, max(0, wanted - room))
        room += gone
        if entry.resident_bytes > gone:
            entries.append(replace(entry, resident_bytes=entry.resident_bytes - gone))
    fitting: list[Resident] = []
    for entry in left:
        size = min(entry.resident_bytes, room)
        room -= size
        if size:
            dirty = min(size, entry.dirty_bytes)
            fitting.append(replace(entry, resident_bytes=size, dirty_bytes=dirty))
    return (*fitting, *entries)


def rhythm_of(blocks: Iterable[Sequence[Operator]], device: Device) -> Rhythm:
    """Return the distinct bytes of a step of these blocks, each as often as it stands there."""
    total: Counter[Traffic] = Counter()
    known: dict[int, Counter[Traffic]] = {}
    for operators in blocks:
        if id(operators) not in known:
            known[id(operators)] = _of_block(operators, device)
        total.update(known[id(operators)])
    return Rhythm(bytes=total, policy=device.gpu.l2_policy, l2_bytes=device.gpu.spec.l2_bytes)


def _of_block(operators: Sequence[Operator], device: Device) -> Counter[Traffic]:
    """Return a block's distinct bytes; a tensor that several kernels use counts once."""
    largest: dict[str, tuple[Traffic, int]] = {}
    for op in operators:
        for kernel in device.tune(op):
            for segment, size in zip(kernel.segments, kernel.swept_bytes(), strict=True):
                before = largest.get(segment.name, (segment.traffic, 0))[1]
                largest[segment.name] = (segment.traffic, max(size, before))
    total: Counter[Traffic] = Counter()
    for traffic, size in largest.values():
        total[traffic] += size
    return total
