"""`sim.kernel.lower.streaming`: grids and bytes of memory-bound kernels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel.kernel import Load, Store
from sim.kernel.lower.streaming import lower_elementwise, lower_scan, lower_state_update
from sim.kernel.operators import ChunkedScan, StateUpdate, Tensor, Traffic
from tests.unit.kernel.samples import AMPERE, HOPPER, activation, elementwise

KIB = 1024
STATE = Tensor(name="state", size_bytes=64 * KIB, traffic=Traffic.STATE)


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


def test_a_state_update_reads_and_writes_the_whole_state() -> None:
    """Two sequences of four heads: eight CTAs, each with its slice of state in and out."""
    op = StateUpdate(
        name="update",
        part="ssm",
        batch=2,
        n_heads=4,
        state=STATE,
        inputs=(activation("x", 800),),
        outputs=(activation("y", 400),),
        vector_flop=8000,
        sfu_ops=16,
    )
    kernel = lower_state_update(op, AMPERE)
    (kind,) = kernel.kinds
    (phase,) = kind.phases
    assert kind.count == 8
    assert [s.name for s in kernel.segments] == ["x", "state", "y"]
    assert phase.loads == (
        Load(segment=0, size_bytes=100),
        Load(segment=1, size_bytes=8 * KIB),
    )
    assert phase.stores == (
        Store(segment=2, size_bytes=50),
        Store(segment=1, size_bytes=8 * KIB, in_place=True),
    )
    assert (phase.vector_flop, phase.sfu_ops) == (1000, 2)


@pytest.mark.parametrize(("q_len", "round_trips"), [(1, 3), (64, 3), (65, 4), (640, 12)])
def test_a_scan_walks_its_chunks_in_order(q_len: int, round_trips: int) -> None:
    """Two round trips to begin with and one for each chunk of 64 tokens."""
    op = ChunkedScan(
        name="scan",
        part="ssm",
        batch=3,
        n_heads=4,
        q_len=q_len,
        chunk=64,
        state=STATE,
        inputs=(activation("x", 1200),),
        outputs=(activation("y", 1200),),
        tensor_flop=120,
        vector_flop=12,
        sfu_ops=1,
    )
    kernel = lower_scan(op, HOPPER)
    (kind,) = kernel.kinds
    (phase,) = kind.phases
    assert kernel.name == "chunked_scan_64"
    assert kind.count == 12
    assert phase.round_trips == round_trips
    assert (phase.tensor_flop, phase.vector_flop, phase.sfu_ops) == (10, 1, 1)
    assert phase.loads[1] == Load(segment=1, size_bytes=-(-64 * KIB // 12))
    assert phase.stores[1] == Store(segment=1, size_bytes=-(-64 * KIB // 12), in_place=True)
    assert kernel.flop == 132
