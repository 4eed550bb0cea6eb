"""The block scheduler: which CTAs run on which SM, decided when the kernel starts.

CTAs are handed out breadth first, one slot of every SM before the second slot of any, as the
hardware does. A grid of CTAs of about equal work goes round robin; where work differs (causal
prefill), each CTA goes, in launch order, to the slot with the least work so far, which is what
dynamic hand-out amounts to when a CTA's time follows its bytes. SMs that hold identical lists are
one class.
"""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.kernel import CtaKind, Kernel

# What a CTA costs beyond its bytes, as bytes: keeps grids of nearly empty CTAs balanced.
_CTA_BYTES = 4096
# Work that differs by less is handed out round robin.
_ABOUT_EQUAL = 1.5

Slots = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmClass:
    """`multiplicity` SMs whose slots run the same kinds (indices) in the same order."""

    multiplicity: int
    slots: Slots


def dispatch(kernel: Kernel, sm_count: int, *, symmetry: bool) -> tuple[SmClass, ...]:
    """Return the SM classes of a kernel, idle SMs left out; one class per SM without symmetry."""
    if len(kernel.kinds) == 1:
        classes = _uniform(kernel, sm_count)
    else:
        work = [_work(kind) for kind in kernel.kinds]
        equal = max(work) <= _ABOUT_EQUAL * min(work)
        lists = _round_robin(kernel, sm_count) if equal else _greedy(kernel, work, sm_count)
        classes = Counter(slots for slots in lists if slots)
    if symmetry:
        return tuple(SmClass(multiplicity=n, slots=slots) for slots, n in classes.items())
    return tuple(
        SmClass(multiplicity=1, slots=slots) for slots, n in classes.items() for _ in range(n)
    )


def _uniform(kernel: Kernel, sm_count: int) -> Counter[Slots]:
    """Return the classes of a grid of one kind: at most two, as in round robin."""
    n, places = kernel.n_ctas, sm_count * kernel.ctas_per_sm
    each, rest = divmod(n, places)
    full, part = divmod(rest, sm_count)
    classes: Counter[Slots] = Counter()
    for longer, sms in ((full + 1, part), (full, sm_count - part)):
        counts = [each + (slot < longer) for slot in range(kernel.ctas_per_sm)]
        slots = tuple((0,) * count for count in counts if count)
        if slots and sms:
            classes[slots] += sms
    return classes


def _round_robin(kernel: Kernel, sm_count: int) -> Iterator[Slots]:
    n, places = kernel.n_ctas, sm_count * kernel.ctas_per_sm
    kinds = [index for index, kind in enumerate(kernel.kinds) for _ in range(kind.count)]
    for sm in range(sm_count):
        yield tuple(
            tuple(kinds[first::places]) for first in range(sm, places, sm_count) if first < n
        )


def _greedy(kernel: Kernel, work: list[int], sm_count: int) -> Iterator[Slots]:
    heap = [(0, slot, sm) for slot in range(kernel.ctas_per_sm) for sm in range(sm_count)]
    held: list[list[list[int]]] = [[[] for _ in range(kernel.ctas_per_sm)] for _ in range(sm_count)]
    for index, kind in enumerate(kernel.kinds):
        added = work[index]
        for _ in range(kind.count):
            done, slot, sm = heap[0]
            held[sm][slot].append(index)
            heapq.heapreplace(heap, (done + added, slot, sm))
    for slots in held:
        yield tuple(tuple(slot) for slot in slots if slot)


def _work(kind: CtaKind) -> int:
    return _CTA_BYTES + sum(
        phase.load_bytes + sum(store.size_bytes for store in phase.stores) for phase in kind.phases
    )
