"""Law: one process per class of SMs and channels gives what one process per SM and channel does."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.hardware.address_map import AddressMap, InterleavedMap
from sim.hardware.gpu import Gpu, KernelRun
from sim.hardware.residency import EMPTY_L2, L2State
from sim.kernel.kernel import Kernel
from sim.kernel.lower import lower
from sim.kernel.operators import Operator
from tests.strategies import (
    ENGINE,
    KIB,
    Launch,
    address_maps,
    attention,
    elementwise,
    gemm,
    grouped_gemm,
    launches,
    mla,
    small_chip,
    state_update,
)

SMALL_OPERATORS: tuple[Operator, ...] = (
    gemm(5, 320, 576),
    gemm(200, 1000, 256),
    grouped_gemm((0, 1, 17, 3, 40), 192, 256),
    attention(3, 700, 8, 2),
    attention(1, 300, 4, 2, q_len=200),
    mla(2, 300, 16),
    elementwise(33, 640),
    state_update(3, 5),
)


def runs_agree(symmetric: KernelRun, single: KernelRun) -> None:
    """All that a run reports is equal, but for the events it took."""
    assert replace(symmetric, events=0) == replace(single, events=0)
    assert symmetric.events <= single.events


def both(
    gpu: Gpu, kernel: Kernel, l2: L2State = EMPTY_L2
) -> tuple[KernelRun, KernelRun]:  # fmt: skip
    """Return the run by classes and the run by single SMs and channels."""
    return gpu.run(kernel, l2), replace(gpu, symmetry=False).run(kernel, l2)


@given(launches(), st.data())
def test_symmetry_changes_no_picosecond_and_no_byte(launch: Launch, data: st.DataObject) -> None:
    """Time, ledger, bytes and L2 state are equal, for every address map and uneven grids."""
    spec, kernel, l2 = launch
    runs_agree(*both(Gpu(spec=spec, address_map=data.draw(address_maps(spec))), kernel, l2))


@settings(max_examples=20)
@given(launches(), st.sampled_from((256, 1000, 8192, 40_000)))
def test_symmetry_holds_for_every_request_size(launch: Launch, granule_bytes: int) -> None:
    """The two agree on the same granules, whatever their size."""
    spec, kernel, l2 = launch
    runs_agree(*both(Gpu(spec=spec, granule_bytes=granule_bytes), kernel, l2))


@pytest.mark.parametrize("op", SMALL_OPERATORS, ids=lambda op: op.name)
@pytest.mark.parametrize(
    "address_map",
    [
        None,
        InterleavedMap(n_channels=6, chunk_bytes=4096),
        InterleavedMap(n_channels=6, chunk_bytes=256, hashed=True, pages="scattered"),
        InterleavedMap(n_channels=6, chunk_bytes=256, pages="contiguous"),
    ],
)
def test_symmetry_holds_for_lowered_operators(op: Operator, address_map: AddressMap | None) -> None:
    """Every kernel of an operator's first candidate, on seven SMs, agrees along the chain."""
    spec = small_chip(sm_count=7, channels=6, l2_bytes=512 * KIB)
    gpu = Gpu(spec=spec, address_map=address_map)
    l2 = EMPTY_L2
    for kernel in next(lower(op, gpu.target(), ENGINE)):
        symmetric, single = both(gpu, kernel, l2)
        runs_agree(symmetric, single)
        l2 = symmetric.l2


def test_symmetry_saves_events() -> None:
    """A uniform grid on a uniform chip is one SM and one channel."""
    gpu = Gpu(spec=small_chip(sm_count=8, channels=16))
    (kernel,) = next(lower(elementwise(64, 1024), gpu.target(), ENGINE))
    symmetric, single = both(gpu, kernel)
    runs_agree(symmetric, single)
    assert symmetric.events * 4 < single.events


def test_the_checker_rejects_a_lost_picosecond() -> None:
    """Runs that differ by one picosecond or one dirty byte do not agree."""
    gpu = Gpu(spec=small_chip())
    (kernel,) = next(lower(elementwise(8, 256), gpu.target(), ENGINE))
    symmetric, single = both(gpu, kernel)
    entry = single.l2[-1]
    less = (*single.l2[:-1], replace(entry, dirty_bytes=entry.dirty_bytes - 1))
    for broken in (replace(single, time_ps=single.time_ps + 1), replace(single, l2=less)):
        with pytest.raises(AssertionError):
            runs_agree(symmetric, broken)
