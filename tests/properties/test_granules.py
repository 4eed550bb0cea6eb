"""Law: the size of a simulated request is a knob of the simulator, not of the answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import mean, median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu
from sim.hardware.residency import EMPTY_L2, L2State
from sim.kernel.formats import WEIGHT_FORMATS
from sim.kernel.kernel import Kernel
from sim.kernel.operators import Operator
from sim.run.device import Device, warm_activations
from sim.run.memo import Memo
from tests.strategies import (
    ENGINE,
    attention,
    decode_operators,
    elementwise,
    gemm,
    grouped_gemm,
    real_chip,
    state_update,
)

CHIPS = ("h100-sxm", "a100-sxm-80gb")
HALF = Fraction(1, 2)
EVEN = (1,) * 32 + (0,) * 96
SKEWED = (24, 9, 5, 3, 2, 1, 1, 1) + (0,) * 56
OPERATORS: tuple[Operator, ...] = (
    *(gemm(m, 6144, 4096) for m in (1, 16, 64, 256)),
    *(gemm(m, 4096, 14_336) for m in (1, 33, 128, 512)),
    *(gemm(m, 28_672, 4096) for m in (8, 64, 256)),
    *(gemm(m, 576, 7168) for m in (1, 64)),
    gemm(64, 128_256, 4096),
    gemm(33, 5120, 5120),
    gemm(128, 4096, 4096),
    *(gemm(m, 4096, 4096, WEIGHT_FORMATS["fp8"]) for m in (1, 64, 512)),
    *(gemm(m, 4096, 4096, WEIGHT_FORMATS["int4"]) for m in (1, 64)),
    grouped_gemm(EVEN, 1536, 2048),
    grouped_gemm(SKEWED, 2048, 2048),
    grouped_gemm((12, 20, 16, 16, 9, 23, 16, 16), 14_336, 4096),
    attention(1, 512, 32, 8),
    attention(1, 32_768, 64, 8),
    attention(8, 4096, 32, 8),
    attention(32, 128, 32, 8),
    attention(64, 2048, 64, 8),
    attention(128, 1024, 32, 8),
    attention(16, 2048, 32, 32),
    *(elementwise(rows, 4096) for rows in (1, 16, 256, 2048)),
    *(elementwise(rows, 14_336, "activation") for rows in (1, 64, 1024)),
    state_update(1, 24),
    state_update(1, 64),
    state_update(8, 64),
    state_update(64, 24),
    state_update(64, 128),
)


# Measured on these 86 kernels: mean .2 %, worst .94 % (state updates, whose tiles of one warp meet
# in waves). The random shapes hold kernels that no step of a shipped scenario runs; of 400 of them
# on four chips the worst moved by 3.4 %.
MEAN = 0.003
WORST = 0.01
WORST_RANDOM = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Halved:
    """How much halving the granule changes the time of an operator, as the tuner runs it."""

    chip: str
    op: Operator
    kernel: str
    time_ps: int
    change: float
    more_events: float


def run_all(gpu: Gpu, kernels: Sequence[Kernel], l2: L2State) -> tuple[int, int]:
    """Return the time and the events of kernels that run one after another."""
    time_ps = events = 0
    for kernel in kernels:
        run = gpu.run(kernel, l2)
        l2 = run.l2
        time_ps += run.time_ps
        events += run.events
    return time_ps, events


def halved(op: Operator, chip: str) -> Halved:
    """Tune an operator and run the choice with whole and with half granules."""
    gpu = Gpu(spec=real_chip(chip))
    kernels = Device(gpu=gpu, engine=ENGINE, memo=Memo(None)).tune(op)
    l2 = warm_activations(op, gpu.spec.l2_bytes)
    time_ps, events = run_all(gpu, kernels, l2)
    half_ps, half_events = run_all(replace(gpu, granule_scale=HALF), kernels, l2)
    return Halved(
        chip=chip,
        op=op,
        kernel=kernels[0].name,
        time_ps=time_ps,
        change=abs(half_ps - time_ps) / time_ps,
        more_events=half_events / events,
    )


@pytest.fixture(scope="module")
def measured() -> list[Halved]:
    """Return the effect of halving on all representative shapes, the largest first."""
    found = [halved(op, chip) for chip in CHIPS for op in OPERATORS]
    return sorted(found, key=lambda h: -h.change)


def test_halving_the_granule_moves_the_mean_time_little(measured: list[Halved]) -> None:
    """Over GEMMs, experts, attention, passes and state updates the mean change is below .3 %."""
    assert mean(h.change for h in measured) < MEAN


def test_halving_the_granule_moves_every_time_by_less_than_a_percent(
    measured: list[Halved],
) -> None:
    """No tuned kernel depends on the request size by a percent."""
    assert measured[0].change < WORST, [h for h in measured if h.change >= WORST]


def test_halving_the_granule_is_a_real_change(measured: list[Halved]) -> None:
    """Half the request size means more events, so that the small changes above mean something."""
    assert median(h.more_events for h in measured) > 1.5


@settings(max_examples=30)
@given(decode_operators, st.sampled_from((*CHIPS, "l40s", "b200")))
def test_halving_the_granule_moves_random_shapes_within_a_bound(op: Operator, chip: str) -> None:
    """No shape makes the request size a first-order effect."""
    assert halved(op, chip).change < WORST_RANDOM


def test_a_coarse_granule_does_change_the_time() -> None:
    """The measure is not blind: requests of half a buffer are felt in a short loop."""
    gpu = Gpu(spec=real_chip("h100-sxm"))
    op = gemm(16, 2048, 2048)
    kernels = Device(gpu=gpu, engine=ENGINE, memo=Memo(None)).tune(op)
    fine, _ = run_all(gpu, kernels, EMPTY_L2)
    coarse, _ = run_all(replace(gpu, granule_bytes=1 << 30), kernels, EMPTY_L2)
    assert abs(coarse - fine) > 0.05 * fine
