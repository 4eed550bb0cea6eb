"""`sim.kernel.lower.streaming`: grids and bytes of memory-bound kernels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel.kernel import Load, Store
from sim.kernel.lower.streaming import lower_elementwise
from tests.unit.kernel.samples import AMPERE, HOPPER, elementwise

KIB = 1024


def test_a_pass_has_one_cta_for_eight_kibibytes() -> None:
    """80 KiB read, 40 written: ten CTAs of 8 and 4 KiB and their share of the arithmetic."""
    op = elementwise("activation", {"x": 80 * KIB}, {"y": 40 * KIB}, flop=1001, sfu=20)
    kernel = lower_elementwise(op, AMPERE)
    (kind,) = kernel.kinds
    (phase,) = kind.phases
    assert kind.count == 10
    assert phase.loads == (Load(segment=0, size_bytes=8 * KIB),)
    assert phase.stores == (Store(segment=1, size_bytes=4 * KIB),)
    assert (phase.vector_flop, phase.sfu_ops, phase.round_trips) == (101, 2, 1)
    assert kernel.flop == 1001


@pytest.mark.parametrize(
    ("kind", "count", "round_trips"),
    [
        ("norm", 5, 2),
        ("quantise", 5, 2),
        ("residual_add+norm", 5, 2),
        ("rope", 10, 1),
        ("residual_add", 10, 1),
    ],
)
def test_rows_stay_in_one_block(kind: str, count: int, round_trips: int) -> None:
    """A reduction needs 16 KiB a block and one more round trip, fused or not."""
    kernel = lower_elementwise(elementwise(kind, {"x": 80 * KIB}, {"y": 80 * KIB}), AMPERE)
    assert kernel.n_ctas == count
    assert kernel.kinds[0].phases[0].round_trips == round_trips


def test_a_large_pass_loops_over_the_grid() -> None:
    """32 CTAs an SM at most; a gigabyte on 108 SMs is 3456 CTAs of about 311 KB."""
    kernel = lower_elementwise(elementwise("gate", {"x": 10**9}, {"y": 8}), AMPERE)
    assert kernel.n_ctas == 108 * 32
    assert kernel.kinds[0].phases[0].loads[0].size_bytes == 289_352


def test_a_pass_in_place_is_over_one_segment() -> None:
    """A tensor that is read and written is one memory, as large as its larger view."""
    op = elementwise("residual_add", {"x": 8000, "y": 4000}, {"x": 6000})
    kernel = lower_elementwise(op, AMPERE)
    assert [(s.name, s.size_bytes) for s in kernel.segments] == [("x", 8000), ("y", 4000)]
    (phase,) = kernel.kinds[0].phases
    assert phase.stores == (Store(segment=0, size_bytes=3000, in_place=True),)


def test_an_input_that_is_not_touched_is_not_loaded() -> None:
    """Zero bytes of a buffer are no request."""
    kernel = lower_elementwise(elementwise("gate", {"x": 100, "y": 0}, {"z": 100}), AMPERE)
    assert kernel.kinds[0].phases[0].loads == (Load(segment=0, size_bytes=100),)


@given(reads=st.integers(1, 10**8), writes=st.integers(1, 10**8))
def test_all_bytes_are_moved_and_rounding_adds_less_than_one_a_cta(reads: int, writes: int) -> None:
    """Loads and stores sum to what the operator touches."""
    kernel = lower_elementwise(elementwise("gate", {"x": reads}, {"y": writes}), HOPPER)
    assert reads <= kernel.requested_bytes < reads + kernel.n_ctas
    assert writes <= kernel.stored_bytes < writes + kernel.n_ctas
