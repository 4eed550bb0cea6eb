"""Law: better hardware never slows a kernel down, at the same tiling and request size.

It holds to the picosecond where one CTA at a time runs on an SM. Where several share an SM's pipes
in order of arrival, scheduling anomalies are real (Graham 1969, "Bounds on multiprocessing timing
anomalies"): if data arrive a little earlier, a CTA with long work may take the pipe just before one
with a long chain of dependent steps, which then ends later. No work-conserving scheduler without
foresight is free of them, so for such kernels the law is a bound.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from sim.hardware.gpu import Gpu
from sim.hardware.plan import granule_bytes
from sim.hardware.residency import EMPTY_L2, L2State
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import CtaKind, Kernel, Phase
from sim.kernel.operators import Operator
from sim.run.device import Device, warm_activations
from sim.run.memo import Memo
from tests.strategies import (
    ENGINE,
    NS,
    attention,
    chips,
    elementwise,
    gemm,
    grouped_gemm,
    kernel_of,
    real_chip,
    small_chip,
    state_update,
    whole_kernels,
)

Lever = Callable[[ChipSpec, Fraction], ChipSpec]


def scaled(field: str) -> Lever:
    """Return the lever that multiplies a rate or a size."""

    def improve(spec: ChipSpec, factor: Fraction) -> ChipSpec:
        change: dict[str, Any] = {field: int(getattr(spec, field) * factor)}
        return replace(spec, **change)

    return improve


def shortened(field: str) -> Lever:
    """Return the lever that divides a latency."""
    rate = scaled(field)
    return lambda spec, factor: rate(spec, 1 / factor)


def more_tensor(spec: ChipSpec, factor: Fraction) -> ChipSpec:
    """Multiply the tensor rate of every format."""
    rates = {name: int(rate * factor) for name, rate in spec.tensor_flop_per_s.items()}
    return replace(spec, tensor_flop_per_s=rates)


def shorter_miss(spec: ChipSpec, factor: Fraction) -> ChipSpec:
    """Divide what a miss takes longer than a hit."""
    extra = int((spec.hbm_latency_ps - spec.l2_latency_ps) / factor)
    return replace(spec, hbm_latency_ps=spec.l2_latency_ps + extra)


LEVERS: dict[str, Lever] = {
    "hbm_bandwidth": scaled("hbm_bytes_per_s"),
    "tensor": more_tensor,
    "vector": scaled("vector_flop_per_s"),
    "l2_bandwidth": scaled("l2_bytes_per_s"),
    "l2_capacity": scaled("l2_bytes"),
    "hbm_latency": shorter_miss,
    "l2_latency": shortened("l2_latency_ps"),
    "step_latency": shortened("step_latency_ps"),
    "kernel_start": shortened("kernel_start_ps"),
}
FACTORS = st.sampled_from((Fraction(101, 100), Fraction(11, 10), Fraction(3, 2), Fraction(4)))
# Largest slowdown of the kernels below, with some room: 1.1 % of 1,620 tuned kernels and levers,
# 32 % where a search of 6,000 random kernels maximised it.
MOST_LOWERED = 0.02
MOST_RANDOM = 0.50

OPERATORS: tuple[Operator, ...] = (
    gemm(1, 4096, 4096),
    gemm(64, 6144, 4096),
    gemm(256, 4096, 4096),
    grouped_gemm((5, 0, 9, 1, 30, 2, 2, 7), 1536, 2048),
    attention(8, 2048, 32, 8),
    attention(128, 128, 16, 1),
    elementwise(64, 4096),
    elementwise(1024, 4096, "activation"),
    state_update(16, 24),
)


def slowdowns(
    spec: ChipSpec, kernel: Kernel, factor: Fraction, l2: L2State = EMPTY_L2
) -> dict[str, float]:
    """Return, by lever, how much longer the kernel takes on the better chip; 0 if it does not."""
    granule = granule_bytes(kernel, spec, Fraction(1))
    before = Gpu(spec=spec, granule_bytes=granule).run(kernel, l2).time_ps
    slower = {}
    for name, improve in LEVERS.items():
        better = Gpu(spec=improve(spec, factor), granule_bytes=granule)
        after = better.run(kernel, l2).time_ps
        slower[name] = max(0, after - before) / max(1, before)
    return slower


@st.composite
def one_cta_per_sm(draw: DrawFn, spec: ChipSpec) -> Kernel:
    """Draw a cold kernel of one kind and one phase, one CTA at a time on each SM."""
    kernel = draw(whole_kernels(max_kinds=1, max_phases=1, most_bytes=4 * spec.l2_bytes))
    return replace(kernel, ctas_per_sm=1)


@given(chips(), st.data(), FACTORS)
def test_better_hardware_never_slows_a_uniform_kernel(
    spec: ChipSpec, data: st.DataObject, factor: Fraction
) -> None:
    """With one CTA at a time on an SM, no lever costs a picosecond."""
    slower = slowdowns(spec, data.draw(one_cta_per_sm(spec)), factor)
    assert not any(slower.values()), slower


@pytest.mark.parametrize("chip", ["h100-sxm", "a100-sxm-80gb"])
@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)
def test_better_hardware_hardly_ever_slows_a_tuned_kernel(op: Operator, chip: str) -> None:
    """The tiling that a tuner picked is never slower by more than 2 % on a better chip.

    Of 1,620 trials (90 shapes, two chips, nine levers, two factors) four were slower, at most by
    1.1 %: more L2 for a decode grid of many short CTAs, two an SM.
    """
    spec = real_chip(chip)
    l2 = warm_activations(op, spec.l2_bytes)
    kernel = Device(gpu=Gpu(spec=spec), engine=ENGINE, memo=Memo(None)).tune(op)[0]
    slower = slowdowns(spec, kernel, Fraction(11, 10), l2)
    assert max(slower.values()) <= MOST_LOWERED, slower


@settings(max_examples=40)
@given(chips(), whole_kernels(), FACTORS)
def test_the_anomalies_of_random_kernels_are_bounded(
    spec: ChipSpec, kernel: Kernel, factor: Fraction
) -> None:
    """Kinds of CTA that share an SM's pipes lose to a scheduling anomaly at most a known part."""
    slower = slowdowns(spec, kernel, factor)
    assert max(slower.values()) <= MOST_RANDOM, slower


def test_a_shorter_latency_can_slow_two_ctas_that_share_a_pipe() -> None:
    """A real anomaly: at 150 ns an L2 round trip ends 17 % later than at 200 ns.

    CTA A makes three round trips and then works for 1,000 ns; CTA B waits 500 ns, works for 100 ns
    and makes ten round trips. At 200 ns B is first at the pipe (500 < 600) and ends the
    kernel at 500 + 100 + 10 x 200 = 2,600 ns. At 150 ns A is first (450 < 500) and B waits for all
    its work: 450 + 1,000 + 100 + 10 x 150 = 3,050 ns.
    """
    chip = replace(
        small_chip(sm_count=1),
        vector_flop_per_s=10**12,
        step_latency_ps=100 * NS,
        kernel_start_ps=0,
        graph_replay_ps=0,
    )
    a = (Phase(round_trips=3, vector_flop=1000 * NS),)
    b = (Phase(steps=5), Phase(vector_flop=100 * NS), Phase(round_trips=10))
    kinds = tuple(CtaKind(count=1, phases=phases, buffer_bytes=4096) for phases in (a, b))
    kernel = kernel_of(kinds, (), ctas_per_sm=2)
    times = {
        ns: Gpu(spec=replace(chip, l2_latency_ps=ns * NS)).run(kernel).time_ps // NS
        for ns in (200, 150, 100, 50)
    }
    assert times == {200: 2600, 150: 3050, 100: 2400, 50: 1750}


def test_the_checker_sees_a_slower_chip() -> None:
    """A lever pulled the wrong way slows a kernel that needs it."""
    spec, op = real_chip("h100-sxm"), gemm(64, 6144, 4096)
    kernel = Device(gpu=Gpu(spec=spec), engine=ENGINE, memo=Memo(None)).tune(op)[0]
    slower = slowdowns(spec, kernel, Fraction(1, 2))
    assert slower["hbm_bandwidth"] > 0.5
    assert slower["hbm_latency"] > 0
    assert slower["step_latency"] > 0
