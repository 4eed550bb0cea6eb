"""`sim.run.steady`: what a step finds of the step before it; a flushed L2 holds nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu
from sim.hardware.l2_law import MILLION, HitLaw
from sim.hardware.residency import L2Policy, Resident
from sim.kernel.operators import Traffic
from sim.model.step import Block, StepGraph
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.steady import Rhythm, rhythm_of
from sim.run.step import run_step
from tests.unit.hardware.chips import toy_chip
from tests.unit.kernel.samples import gemm
from tests.unit.run.scenarios import ENGINE, SHAPE

WEIGHT_BYTES = 2 * 1000 * 2000
LAYER = (gemm(1, 1000, 2000),)


def device(l2_bytes: int, *, steady: bool = True, policy: L2Policy | None = None) -> Device:
    """Return a small chip with one partition of L2."""
    chip = toy_chip(l2_bytes=l2_bytes, hbm_bytes=10**12, sm_count=8, shared_memory_bytes=164 * 1024)
    gpu = Gpu(spec=chip, l2_policy=policy or L2Policy())
    return Device(gpu=gpu, engine=ENGINE, memo=Memo(None), steady_l2=steady)


def layers(count: int) -> StepGraph:
    """Return a step of equal layers, which differ in their weights."""
    return StepGraph(
        shape=SHAPE, blocks=tuple(Block(index=i, operators=LAYER) for i in range(count))
    )


def weights_read(graph: StepGraph, chip: Device) -> int:
    """Return the bytes of weights that come from HBM."""
    rows = run_step(graph, chip).traffic()
    key = (Traffic.WEIGHTS.value, "hbm", "read")
    return sum(r.size_bytes for r in rows if (r.traffic, r.level, r.direction) == key)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_step_that_fits_reads_no_weights(count: int) -> None:
    """Every layer's weights are there from the step before; with a flushed L2 all are read."""
    room = 2 * count * WEIGHT_BYTES
    assert weights_read(layers(count), device(room)) == 0
    assert weights_read(layers(count), device(room, steady=False)) == count * WEIGHT_BYTES


@pytest.mark.parametrize("count", [2, 5])
def test_a_step_larger_than_l2_reads_all_of_them(count: int) -> None:
    """What comes next has always just left: half a step's room holds nothing of it."""
    room = count * WEIGHT_BYTES // 2
    assert weights_read(layers(count), device(room)) == count * WEIGHT_BYTES


def test_between_the_two_the_law_of_reuse_decides() -> None:
    """Two layers in an L2 of their size and a little more."""
    room = 2 * WEIGHT_BYTES + 40_000
    chip = device(room)
    rhythm = rhythm_of([LAYER, LAYER], chip)
    assert rhythm.bytes[Traffic.WEIGHTS] == 2 * WEIGHT_BYTES
    held = HitLaw(partitions=1).held(rhythm.distance(Traffic.WEIGHTS), room)
    assert 0.2 < held.total / MILLION < 0.9
    missed = weights_read(layers(2), chip)
    assert missed == pytest.approx(2 * WEIGHT_BYTES * (1 - held.total / MILLION), rel=0.02)


def test_pinned_weights_stay_whatever_else_passes() -> None:
    """A region for weights counts the weights of a step alone; a small one keeps nothing."""
    kv = Rhythm(
        bytes=rhythm_of([LAYER], device(10**7)).bytes,
        policy=L2Policy(pinned=frozenset({Traffic.KV}), pinned_bytes=10**6),
        l2_bytes=10**7,
    )
    kv.bytes[Traffic.KV] = 800_000
    assert kv.distance(Traffic.KV) == 800_000
    assert kv.distance(Traffic.WEIGHTS) == kv.distance(Traffic.ACTIVATIONS) >= WEIGHT_BYTES
    assert kv.distance(Traffic.WEIGHTS) == sum(kv.bytes.values()) - 800_000


@given(st.integers(0, 12_000), st.integers(0, 12_000), st.integers(1, 12_000_000))
def test_what_was_left_never_overfills_l2(clean: int, dirty: int, l2_bytes: int) -> None:
    """Old tensors take the room of clean bytes of past layers, never that of dirty ones."""
    size = (clean + dirty) * l2_bytes // 24_000
    state = (
        Resident(
            name="",
            traffic=Traffic.WEIGHTS,
            resident_bytes=size,
            dirty_bytes=min(size, dirty * l2_bytes // 24_000),
        ),
    )
    rhythm = Rhythm(
        bytes=rhythm_of([LAYER], device(10**7)).bytes, policy=L2Policy(), l2_bytes=l2_bytes
    )
    [kernel] = device(10**7).tune(LAYER[0])
    found = rhythm.found(state, kernel, {})
    assert sum(entry.resident_bytes for entry in found) <= l2_bytes
    assert all(0 <= entry.dirty_bytes <= entry.resident_bytes for entry in found)
    assert sum(entry.dirty_bytes for entry in found) == sum(e.dirty_bytes for e in state)


def test_what_a_step_has_used_is_not_found_anew() -> None:
    """A second kernel that reads the same weights finds what the first one left, no more."""
    rhythm = Rhythm(
        bytes=rhythm_of([LAYER], device(10**7)).bytes, policy=L2Policy(), l2_bytes=10**7
    )
    [kernel] = device(10**7).tune(LAYER[0])
    used: dict[str, int] = {}
    first = rhythm.found((), kernel, used)
    assert [entry.since_bytes for entry in first] == [rhythm.distance(Traffic.WEIGHTS)]
    assert rhythm.found((), kernel, used) == ()


def test_the_steady_step_is_another_question_for_the_memo() -> None:
    """One memo, two answers."""
    memo = Memo(None)
    times = [
        run_step(layers(2), replace(device(10**8, steady=steady), memo=memo)).time_ps
        for steady in (True, False, True)
    ]
    assert times[0] == times[2] < times[1]
