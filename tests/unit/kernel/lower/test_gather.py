"""`sim.kernel.lower.gather`: PyTorch's embedding."""

from dataclasses import replace

from sim.kernel.engine import GatherKernels
from sim.kernel.kernel import Kernel, Phase
from sim.kernel.lower import lower
from sim.kernel.lower.gather import lower_gather
from sim.kernel.operators import Elementwise
from tests.unit.kernel.samples import AMPERE, elementwise, engine

OLD = GatherKernels(serial_rows=16, warp_clocks=60)
NEW = GatherKernels(serial_rows=16, warp_clocks=0)


def rows_of_4096(rows: int) -> Elementwise:
    """Return an embedding of rows of 4,096 values."""
    size = rows * 8192
    return replace(elementwise("embedding", {"table": size}, {"x": size}), rows=rows)


def only_phase(kernel: Kernel) -> Phase:
    """Return the phase of a kernel that has one."""
    (kind,) = kernel.kinds
    (phase,) = kind.phases
    return phase


def test_up_to_sixteen_rows_follow_each_other_in_every_thread() -> None:
    """Eight more rows are eight more round trips for their indices, and no more CTAs."""
    few, many = (lower_gather(rows_of_4096(rows), AMPERE, OLD) for rows in (8, 16))
    assert few.n_ctas == many.n_ctas == 4096 // 128
    assert only_phase(many).round_trips - only_phase(few).round_trips == 8
    assert only_phase(few).issue_clocks == 0


def test_more_rows_are_copied_value_by_value_by_a_full_chip() -> None:
    """Eight blocks an SM; each warp pays its clocks for every value of a thread."""
    op = rows_of_4096(1024)
    kernel = lower_gather(op, AMPERE, OLD)
    turns = -(-1024 * 4096 // (kernel.n_ctas * 128))
    assert kernel.n_ctas == 108 * 8
    assert only_phase(kernel).issue_clocks == turns * 4 * 60


def test_later_versions_copy_a_row_in_a_block_with_vector_loads() -> None:
    """No arithmetic bounds them."""
    kernel = lower_gather(rows_of_4096(1024), AMPERE, NEW)
    assert kernel.n_ctas == 1024
    assert only_phase(kernel).issue_clocks == 0


def test_an_engine_that_names_no_gather_copies_as_any_other_pass_does() -> None:
    """Engine profiles opt in."""
    op = rows_of_4096(8)
    ((usual,),) = lower(op, AMPERE, engine())
    ((gather,),) = lower(op, AMPERE, replace(engine(), gather=OLD))
    assert (usual.name, gather.name) == ("embedding", "index_select_serial")
