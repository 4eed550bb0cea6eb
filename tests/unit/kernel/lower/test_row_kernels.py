"""`sim.kernel.lower.row_kernels`: a CTA per row, whose threads loop over it."""

from dataclasses import replace

from sim.kernel.engine import RowKernels
from sim.kernel.lower.row_kernels import lower_rows
from tests.unit.kernel.samples import AMPERE, elementwise

SCALAR = RowKernels(threads=1024, load_bytes=2)


def test_every_row_is_a_cta_and_its_values_are_loaded_in_turns() -> None:
    """Ten rows of 4096 values: four iterations of 1024 threads, half of one under way at a time."""
    op = replace(elementwise("rope", {"x": 10 * 8192}, {"y": 10 * 8192}), rows=10)
    kernel = lower_rows(op, AMPERE, SCALAR)
    (kind,) = kernel.kinds
    (phase,) = kind.phases
    assert kind.count == 10
    assert phase.steps == 4
    assert phase.load_bytes == 8192
    assert kind.buffer_bytes == 1024
    assert kernel.ctas_per_sm == 2


def test_short_rows_have_small_ctas_of_which_more_fit() -> None:
    """256 values need 256 threads; eight such CTAs share an SM."""
    op = replace(elementwise("rope", {"x": 512}, {"y": 512}), rows=1)
    assert lower_rows(op, AMPERE, SCALAR).ctas_per_sm == 8


def test_a_reduction_goes_over_its_row_twice_but_loads_it_once() -> None:
    """The sum over the row comes first, then the scaled row is stored."""
    op = replace(elementwise("norm", {"x": 8192}, {"y": 8192}), rows=1)
    first, second = lower_rows(op, AMPERE, SCALAR).kinds[0].phases
    assert (first.load_bytes, first.stores) == (8192, ())
    assert (second.load_bytes, len(second.stores)) == (0, 1)
    assert first.steps == second.steps


def test_a_loop_over_single_values_takes_its_warps_clocks_and_hides_its_latency() -> None:
    """128 warp iterations of 20 clocks; a whole iteration is under way at a time."""
    op = replace(elementwise("rope", {"x": 8192}, {"y": 8192}), rows=1)
    kernel = lower_rows(op, AMPERE, replace(SCALAR, warp_clocks=20))
    (kind,) = kernel.kinds
    (phase,) = kind.phases
    assert phase.issue_clocks == 128 * 20
    assert (phase.steps, kind.buffer_bytes) == (0, 2048)


def test_a_vectorised_loop_takes_turns_whatever_its_instructions() -> None:
    """A thread's 16 bytes are loaded, computed and stored before the next."""
    op = replace(elementwise("rope", {"x": 8192}, {"y": 8192}), rows=1)
    vector = replace(SCALAR, threads=256, load_bytes=16, warp_clocks=50)
    (kind,) = lower_rows(op, AMPERE, vector).kinds
    assert kind.phases[0].issue_clocks == 16 * 50
    assert (kind.phases[0].steps, kind.buffer_bytes) == (2, 2048)


def test_both_passes_of_a_reduction_issue_instructions() -> None:
    """The second pass finds its row in L1 but goes over it all the same."""
    op = replace(elementwise("norm", {"x": 8192}, {"y": 8192}), rows=1)
    phases = lower_rows(op, AMPERE, replace(SCALAR, warp_clocks=10)).kinds[0].phases
    assert [phase.issue_clocks for phase in phases] == [1280, 1280]


def test_a_chip_with_small_shared_memory_holds_fewer_threads() -> None:
    """1,536 threads an SM: one CTA of 1,024, or three of 512."""
    consumer = replace(AMPERE, shared_memory_bytes=100 * 1024)
    op = replace(elementwise("rope", {"x": 8192}, {"y": 8192}), rows=1)
    assert lower_rows(op, consumer, SCALAR).ctas_per_sm == 1
    assert lower_rows(op, consumer, replace(SCALAR, threads=512)).ctas_per_sm == 3
