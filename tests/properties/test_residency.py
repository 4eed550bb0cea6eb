"""Law: L2 remembers what fits, forgets what does not, and keeps activations before weights."""

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu
from sim.hardware.residency import Resident
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
    """Everything that a kernel read and wrote is there for the next one, to the byte."""
    kernel = data.draw(whole_kernels(most_bytes=spec.l2_bytes))
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


@pytest.mark.parametrize("ratio", [2, 3, 8])
@pytest.mark.parametrize("traffic", [Traffic.KV, Traffic.ACTIVATIONS])
def test_a_tensor_beyond_the_cache_hits_no_more_than_its_resident_share(
    ratio: int, traffic: Traffic
) -> None:
    """A second pass over a tensor r times the cache hits 1 - (r - 1) ln(r / (r - 1)) of it.

    Old bytes hit in proportion to what is left of them, while each miss evicts one: from
    d(old)/dx = -1 and d(hit)/dx = old / (size - x). A strict LRU would hit nothing.
    """
    kernel = scan_of(ratio * CAPACITY, traffic)
    gpu = Gpu(spec=CHIP)
    run = gpu.run(kernel, gpu.run(kernel).l2)
    hits = sum(run.asked_bytes) - sum(run.missed_bytes)
    share = 1 - (ratio - 1) * log(ratio / (ratio - 1))
    assert share <= 0.31
    assert hits <= share * CAPACITY * 1.02
    assert hits >= share * CAPACITY * 0.9


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
