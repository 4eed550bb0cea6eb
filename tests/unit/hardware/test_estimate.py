"""`sim.hardware.estimate`: a rank for a tuner's candidates, worked out without simulating."""

from dataclasses import replace

import pytest

from sim.hardware.estimate import estimate_ps
from sim.hardware.gpu import Gpu
from sim.kernel.kernel import Kernel, Phase
from tests.unit.hardware.chips import (
    HIT_PS,
    MISS_PS,
    START_PS,
    STEP_PS,
    cta,
    kernel,
    load,
    segment,
    store,
    toy_chip,
)

FIXED_PS = START_PS + HIT_PS + MISS_PS
CHIP = toy_chip()


def grid(phase: Phase, *, count: int = 4, ctas_per_sm: int = 1, phases: int = 1) -> Kernel:
    return kernel(
        [cta(*[phase] * phases, count=count)],
        [segment("w", 10**9), segment("x", 10**9)],
        ctas_per_sm=ctas_per_sm,
    )


def test_a_memory_bound_kernel_is_its_bytes_at_tile_efficiency() -> None:
    """400,000 B at half of 1 B/ps, and the latencies of a start."""
    assert estimate_ps(grid(Phase(loads=(load(100_000),))), CHIP) == FIXED_PS + 800_000


def test_shared_bytes_count_once_at_hbm_and_each_time_at_l2() -> None:
    """Four sharers: 100,000 B from HBM (200,000 ps), 400,000 B from L2 (100,000 ps)."""
    shared = grid(Phase(loads=(load(100_000, sharers=4),)))
    assert estimate_ps(shared, CHIP) == FIXED_PS + 200_000
    slow_l2 = replace(CHIP, l2_bytes_per_s=10**12)
    assert estimate_ps(shared, slow_l2) == FIXED_PS + 400_000


def test_stores_count_at_l2() -> None:
    """40 B read and 4,000,000 B stored at 4 B/ps."""
    stored = grid(Phase(loads=(load(10),), stores=(store(1_000_000, 1),)))
    assert estimate_ps(stored, CHIP) == FIXED_PS + 1_000_010


def test_a_compute_bound_kernel_is_the_work_of_the_busiest_sm() -> None:
    """Five CTAs on four SMs: two rounds of 700,000 ps."""
    assert estimate_ps(grid(Phase(vector_flop=700_000), count=5), CHIP) == FIXED_PS + 1_400_000


def test_the_port_bounds_an_sm() -> None:
    """At 10 ps a byte 100,000 B take a microsecond, whatever HBM could do."""
    narrow = replace(CHIP, l2_port_bytes_per_clock=100)
    assert estimate_ps(grid(Phase(loads=(load(100_000),))), narrow) == FIXED_PS + 1_000_000


def test_chains_count_once_a_wave_and_work_once_a_round() -> None:
    """Eight CTAs, two at a time: one wave of ten steps, but two rounds of work."""
    phase = Phase(steps=10, round_trips=1, vector_flop=300_000)
    serial = 10 * STEP_PS + HIT_PS
    assert estimate_ps(grid(phase, count=8), CHIP) == FIXED_PS + 2 * serial
    assert estimate_ps(grid(phase, count=8, ctas_per_sm=2), CHIP) == FIXED_PS + serial


def test_every_phase_adds_the_latency_of_its_loads() -> None:
    """A second phase starts cold again."""
    assert estimate_ps(grid(Phase(), phases=2), CHIP) == START_PS + 2 * (HIT_PS + MISS_PS)


@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        pytest.param(
            grid(Phase(loads=(load(50_000),)), count=4),
            grid(Phase(loads=(load(200_000),)), count=1),
            id="all SMs before one",
        ),
        pytest.param(
            grid(Phase(vector_flop=1_000_000), count=8),
            grid(Phase(vector_flop=1_600_000), count=5),
            id="full waves before a tail",
        ),
        pytest.param(
            grid(Phase(loads=(load(100_000, sharers=4),))),
            grid(Phase(loads=(load(100_000),))),
            id="shared operands before private ones",
        ),
        pytest.param(
            grid(Phase(loads=(load(1000),), steps=4)),
            grid(Phase(loads=(load(1000),), steps=40)),
            id="few steps before many",
        ),
    ],
)
def test_obvious_candidates_are_ranked_as_the_simulation_ranks_them(
    fast: Kernel, slow: Kernel
) -> None:
    """The estimate puts the better of two in front, and the device agrees."""
    chip = replace(CHIP, l2_bytes=10**7, l2_port_bytes_per_clock=300)
    gpu = Gpu(spec=chip)
    assert estimate_ps(fast, chip) < estimate_ps(slow, chip)
    assert gpu.run(fast).time_ps < gpu.run(slow).time_ps
