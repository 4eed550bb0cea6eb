"""Law: no byte appears or vanishes between an SM, L2 and HBM."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu, KernelRun
from sim.hardware.residency import EMPTY_L2, L2State, Residency, Resident
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import Kernel, Load, Phase, Segment, Store
from sim.kernel.operators import Traffic
from tests.properties.laws import (
    dirty_bytes,
    dirty_bytes_are_conserved,
    recorded,
    requests_are_hits_or_misses,
    state_is_sane,
)
from tests.strategies import KIB, Launch, address_maps, chains, launches, small_chip, uniform_kernel

OUT = Segment(name="out", size_bytes=2048 * KIB, traffic=Traffic.ACTIVATIONS)
WEIGHT = Segment(name="w", size_bytes=2048 * KIB, traffic=Traffic.WEIGHTS)
CHIP = small_chip(sm_count=4, channels=4, l2_bytes=1024 * KIB)


def writer(count: int) -> Kernel:
    """Return a kernel that writes `OUT`, twice the cache, once."""
    phase = Phase(stores=(Store(segment=0, size_bytes=OUT.size_bytes // count),))
    return uniform_kernel(count, phase, OUT, buffer_bytes=32 * KIB)


def reader() -> Kernel:
    """Return a kernel that reads `WEIGHT` once."""
    phase = Phase(loads=(Load(segment=0, size_bytes=WEIGHT.size_bytes // 64),))
    return uniform_kernel(64, phase, WEIGHT, buffer_bytes=32 * KIB)


@given(launches())
def test_every_requested_byte_is_a_hit_or_comes_from_hbm(launch: Launch) -> None:
    """Requests = hits + misses, and misses + write-backs = bytes that the channels served."""
    spec, kernel, l2 = launch
    run, services = recorded(Gpu(spec=spec), kernel, l2)
    requests_are_hits_or_misses(kernel, run, services)


@settings(max_examples=30)
@given(launches(), st.data(), st.booleans())
def test_channels_of_several_classes_serve_the_same_bytes_together(
    launch: Launch, data: st.DataObject, symmetry: bool
) -> None:
    """The sum over channels holds for every address map, with one process per channel or not."""
    spec, kernel, l2 = launch
    gpu = Gpu(spec=spec, symmetry=symmetry, address_map=data.draw(address_maps(spec)))
    run, services = recorded(gpu, kernel, l2)
    requests_are_hits_or_misses(kernel, run, services)


def test_two_classes_of_channels_do_not_count_a_byte_twice() -> None:
    """Four channels with one process each serve together what the kernel missed."""
    run, services = recorded(Gpu(spec=CHIP, symmetry=False), reader())
    requests_are_hits_or_misses(reader(), run, services)


@given(launches())
def test_dirty_bytes_are_written_back_or_still_dirty(launch: Launch) -> None:
    """Dirty before + newly dirtied = written back + dirty after, by class of traffic."""
    spec, kernel, l2 = launch
    run = Gpu(spec=spec).run(kernel, l2)
    dirty_bytes_are_conserved(kernel, l2, run)


@pytest.mark.parametrize("count", [4, 64, 1024])
def test_a_tensor_twice_the_cache_is_written_back_in_full(count: int) -> None:
    """What one kernel writes once reaches HBM or is dirty, however large its stores are."""
    run = Gpu(spec=CHIP).run(writer(count))
    dirty_bytes_are_conserved(writer(count), EMPTY_L2, run)


@settings(max_examples=40)
@given(chains())
def test_a_chain_of_kernels_loses_no_dirty_byte(
    chain: tuple[ChipSpec, tuple[Kernel, ...], L2State],
) -> None:
    """Each kernel starts from the dirty bytes that the last one left, and L2 never overflows."""
    spec, kernels, l2 = chain
    for kernel in kernels:
        run, services = recorded(Gpu(spec=spec), kernel, l2)
        requests_are_hits_or_misses(kernel, run, services)
        dirty_bytes_are_conserved(kernel, l2, run)
        state_is_sane(spec, run.l2)
        l2 = run.l2


@given(launches(), st.data())
def test_l2_never_holds_more_than_its_capacity(launch: Launch, data: st.DataObject) -> None:
    """After every single read and write, what is resident fits and dirty bytes are conserved."""
    spec, kernel, l2 = launch
    residency = Residency(spec.l2_bytes, kernel.segments, l2)
    before = dirty_bytes(l2).total()
    indices = st.integers(0, len(kernel.segments) - 1)
    moves = st.tuples(st.booleans(), indices, st.integers(0, 2 * spec.l2_bytes), st.integers(1, 4))
    for is_read, segment, size, sharers in data.draw(st.lists(moves, max_size=12)):
        if is_read:
            load = Load(segment=segment, size_bytes=size, sharers=sharers)
            assert 0 <= residency.read(load, size) <= size
        else:
            residency.write(segment, size)
        state = residency.state()
        state_is_sane(spec, state)
        assert residency.total == sum(entry.resident_bytes for entry in state)
        dirty = dirty_bytes(state).total() + residency.written_back.total()
        assert before + residency.made_dirty == dirty


def test_the_checkers_reject_a_run_that_loses_a_byte() -> None:
    """One byte less missed, asked, stored or written back breaks a law."""
    l2 = (Resident(name="", traffic=Traffic.KV, resident_bytes=KIB, dirty_bytes=KIB),)
    run, services = recorded(Gpu(spec=CHIP), reader(), l2)
    assert run.written_back_bytes == {"kv": KIB}

    def less(name: str) -> KernelRun:
        fewer: dict[str, Any] = {name: tuple(n - 1 for n in getattr(run, name))}
        return replace(run, **fewer)

    for name in ("missed_bytes", "asked_bytes", "stored_bytes"):
        with pytest.raises(AssertionError):
            requests_are_hits_or_misses(reader(), less(name), services)
    broken = replace(run, written_back_bytes=Counter({"kv": KIB - 1}))
    with pytest.raises(AssertionError):
        requests_are_hits_or_misses(reader(), broken, services)
    with pytest.raises(AssertionError, match="kv"):
        dirty_bytes_are_conserved(reader(), l2, broken)
