"""Law: L2 remembers what fits, forgets what does not, and keeps activations before weights."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu
from sim.hardware.l2_law import ALL, MILLION, HitLaw
from sim.hardware.residency import EMPTY_L2, Resident
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import Kernel, Load, Phase, Segment
from sim.kernel.operators import Traffic
from tests.strategies import KIB, chips, small_chip, uniform_kernel, whole_kernels

CAPACITY = 1024 * KIB
CHIP = small_chip(l2_bytes=CAPACITY)


def scan_of(size_bytes: int, traffic: Traffic, count: int = 512) -> Kernel:
    """Return a kernel that reads a tensor once, front to back."""
    segment = Segment(name="t", size_bytes=size_bytes, traffic=traffic)
    phase = Phase(loads=(Load(segment=0, size_bytes=size_bytes // count),))
    return uniform_kernel(count, phase, segment, buffer_bytes=4 * KIB)


@given(chips(), st.data())
def test_a_second_run_of_what_fits_misses_nothing(spec: ChipSpec, data: st.DataObject) -> None:
    """Everything that a kernel read and wrote is there for the next one, to the byte.

    These chips have two partitions: what both sides use must fit twice.
    """
    kernel = data.draw(whole_kernels(most_bytes=spec.l2_bytes * 2 // 5))
    gpu = Gpu(spec=spec)
    first = gpu.run(kernel)
    second = gpu.run(kernel, first.l2)
    assert sum(second.missed_bytes) == 0
    assert first.written_back_bytes == second.written_back_bytes == {}


@given(chips(), st.data())
def test_a_cold_run_misses_every_distinct_byte_once(spec: ChipSpec, data: st.DataObject) -> None:
    """Sharers fetch a byte once, whatever their order: cold misses are the tensors' sizes."""
    kernel = data.draw(whole_kernels(most_bytes=spec.l2_bytes))
    run = Gpu(spec=spec).run(kernel)
    read = {load.segment for _, phase in kernel.phases() for load in phase.loads}
    sizes = [s.size_bytes if i in read else 0 for i, s in enumerate(kernel.segments)]
    assert list(run.missed_bytes) == sizes


@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.9, 1.2, 2, 8])
@pytest.mark.parametrize("traffic", [Traffic.KV, Traffic.ACTIVATIONS])
@pytest.mark.parametrize("partitions", [1, 2])
def test_a_repeated_sweep_hits_what_the_law_of_reuse_says(
    ratio: float, traffic: Traffic, partitions: int
) -> None:
    """The distance of a sweep over one tensor is its size, whatever its class."""
    chip = replace(CHIP, l2_partitions=partitions)
    kernel = scan_of(int(ratio * CAPACITY), traffic)
    gpu = Gpu(spec=chip)
    l2 = EMPTY_L2
    for _ in range(3):
        run = gpu.run(kernel, l2)
        l2 = run.l2
    size = sum(run.asked_bytes)
    held = HitLaw(partitions=partitions).held(size, CAPACITY)
    share = min(size, CAPACITY) / size * held.total / MILLION
    assert 1 - sum(run.missed_bytes) / size == pytest.approx(share, abs=0.02)


@given(st.integers(1, 2), st.integers(1, 3 * CAPACITY), st.integers(1, 3 * CAPACITY))
def test_more_between_two_uses_never_leaves_more(partitions: int, one: int, two: int) -> None:
    """What is held falls with the reuse distance, from all to nothing, seen from any side."""
    law = HitLaw(partitions=partitions)
    short, far = sorted((one, two))
    for one_sided in (False, True):
        held = [law.held(d, CAPACITY, one_sided=one_sided) for d in (short, far)]
        assert MILLION >= held[0].total >= held[1].total >= 0
        assert min(held[0].near, held[0].far, held[1].near, held[1].far) >= 0
        assert law.held(CAPACITY // 3, CAPACITY, one_sided=one_sided) == ALL
        assert law.held(3 * CAPACITY, CAPACITY, one_sided=one_sided).total <= MILLION // 100


@given(st.integers(1, CAPACITY), st.integers(1, 4 * CAPACITY))
def test_streamed_weights_leave_the_activations_in_l2(resident: int, weight: int) -> None:
    """Weights of any size pass through L2 without displacing the activations beside them."""
    state = (
        Resident(
            name="x", traffic=Traffic.ACTIVATIONS, resident_bytes=resident, dirty_bytes=resident
        ),
    )
    run = Gpu(spec=CHIP).run(scan_of(weight, Traffic.WEIGHTS), state)
    assert state[0] in run.l2


@given(st.integers(1, CAPACITY), st.integers(1, CAPACITY))
def test_streamed_bytes_leave_before_activations(old: int, new: int) -> None:
    """Activations that come in push the weights out first, and all of them if need be."""
    weights = CAPACITY - old if old < CAPACITY else 0
    state = tuple(
        Resident(name=name, traffic=traffic, resident_bytes=size, dirty_bytes=0)
        for name, traffic, size in (
            ("x", Traffic.ACTIVATIONS, old),
            ("w", Traffic.WEIGHTS, weights),
        )
        if size
    )
    run = Gpu(spec=CHIP).run(scan_of(new, Traffic.ACTIVATIONS, count=1), state)
    left = {entry.name: entry.resident_bytes for entry in run.l2}
    assert left.get("w", 0) == max(0, weights - new)
    assert left.get("x", 0) == min(old, CAPACITY - new)
    assert left["t"] == new
