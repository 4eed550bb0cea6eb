"""Law: no run is faster than the roofline, the busiest SM or the max-flow of the topology."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu
from sim.hardware.residency import EMPTY_L2
from sim.kernel.kernel import Kernel, Load, Phase, Segment, Store
from sim.kernel.lower import lower
from sim.kernel.operators import Operator, Traffic
from tests.properties.laws import lower_bounds_ps, max_flow_ps, never_faster_than_physics
from tests.strategies import (
    ENGINE,
    GB,
    KIB,
    Launch,
    address_maps,
    decode_operators,
    launches,
    real_chip,
    small_chip,
    uniform_kernel,
)

# Each of these makes one resource the bottleneck; a run comes this close to its bound.
ONE = Fraction(1)
CHIP = replace(
    small_chip(),
    read_efficiency=ONE,
    copy_efficiency=ONE,
    tile_efficiency=ONE,
    sustained_fraction=ONE,
    sustained_fp8=None,
)
# L2 is so wide that the ports are the narrowest.
WIDE = replace(CHIP, l2_bytes_per_s=9_000 * GB)
TIGHT = 1.15


def bottleneck(name: str) -> Kernel:
    """Return a kernel that is bound by one resource of `CHIP`."""
    resident = Segment(name="x", size_bytes=64 * KIB, traffic=Traffic.ACTIVATIONS)
    weight = Segment(name="w", size_bytes=16_384 * KIB, traffic=Traffic.WEIGHTS)
    one = Load(segment=0, size_bytes=64 * KIB)
    phase, segment, count = {
        "hbm": (Phase(loads=(one,)), weight, 256),
        "tensor": (Phase(tensor_flop=10**10, compute="fp8"), weight, 64),
        "l2": (Phase(loads=(replace(one, size_bytes=512 * KIB, sharers=64),)), resident, 64),
        "port": (Phase(loads=(replace(one, size_bytes=4096 * KIB, sharers=9),)), resident, 2),
        "pipe": (Phase(vector_flop=10**8), weight, 9),
        "hbm_with_writes": (Phase(stores=(Store(segment=0, size_bytes=64 * KIB),)), weight, 256),
    }[name]
    return uniform_kernel(count, phase, segment, buffer_bytes=256 * KIB)


@given(launches(), st.data())
def test_no_random_kernel_beats_physics(launch: Launch, data: st.DataObject) -> None:
    """Whatever the kernel, the address map and the L2 state, no resource moves more than it can."""
    spec, kernel, l2 = launch
    gpu = Gpu(spec=spec, address_map=data.draw(address_maps(spec)))
    never_faster_than_physics(spec, kernel, gpu.run(kernel, l2))


@settings(max_examples=20)
@given(decode_operators, st.sampled_from(("h100-sxm", "a100-sxm-80gb", "l40s")), st.data())
def test_no_lowered_kernel_beats_physics_on_a_real_chip(
    op: Operator, chip: str, data: st.DataObject
) -> None:
    """Every candidate that a tuner may try respects the roofline, so tuning cannot find a leak."""
    gpu = Gpu(spec=real_chip(chip))
    sequences = list(lower(op, gpu.target(), ENGINE))
    l2 = EMPTY_L2
    for kernel in data.draw(st.sampled_from(sequences)):
        run = gpu.run(kernel, l2)
        never_faster_than_physics(gpu.spec, kernel, run)
        l2 = run.l2


@pytest.mark.parametrize("name", ["hbm", "tensor", "l2", "port", "pipe", "hbm_with_writes"])
def test_a_kernel_bound_by_one_resource_comes_close_to_its_bound(name: str) -> None:
    """The bounds are tight: a saturated resource is reached within 15 %, and never passed."""
    kernel = bottleneck(name)
    spec = WIDE if name == "port" else CHIP
    run = Gpu(spec=spec).run(kernel)
    bounds = lower_bounds_ps(spec, kernel, run)
    never_faster_than_physics(spec, kernel, run)
    assert run.time_ps <= TIGHT * bounds[name]
    assert bounds[name] >= 0.99 * max(bounds.values())


def test_the_max_flow_bound_sees_every_level() -> None:
    """The narrowest of channels, L2 and the ports of the SMs that hold a CTA sets the bound."""
    kernel = bottleneck("hbm")
    one_cta = replace(kernel, kinds=(replace(kernel.kinds[0], count=1),))
    port_bytes_per_s = CHIP.l2_port_bytes_per_clock * CHIP.clock_hz
    assert max_flow_ps(CHIP, kernel, 200 * GB) == 10**12
    assert max_flow_ps(replace(CHIP, l2_bytes_per_s=100 * GB), kernel, 200 * GB) == 2 * 10**12
    assert max_flow_ps(CHIP, one_cta, port_bytes_per_s) == 10**12


def test_the_checker_rejects_a_chip_that_beats_its_own_datasheet() -> None:
    """A run on a chip twice as fast, held against the slower chip's bounds, breaks the law."""
    fields = {
        "hbm": "hbm_bytes_per_s",
        "l2": "l2_bytes_per_s",
        "port": "l2_port_bytes_per_clock",
        "pipe": "vector_flop_per_s",
    }
    for name, field in fields.items():
        base = WIDE if name == "port" else CHIP
        fast = replace(base, **{field: 2 * getattr(base, field)})
        kernel = bottleneck(name)
        with pytest.raises(AssertionError, match=f"beats .*{name}"):
            never_faster_than_physics(base, kernel, Gpu(spec=fast).run(kernel))
    rates = {"bf16": 56 * 10**12, "fp8": 224 * 10**12}
    fast = replace(CHIP, tensor_flop_per_s=rates)
    run = Gpu(spec=fast).run(bottleneck("tensor"))
    with pytest.raises(AssertionError, match=r"beats .*tensor"):
        never_faster_than_physics(CHIP, bottleneck("tensor"), run)
