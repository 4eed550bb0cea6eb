"""`sim.kernel.lower.fusion`: what a fused kernel reads, writes, and keeps to itself."""

from collections.abc import Sequence

from sim.kernel.lower.fusion import fuse, live_in
from sim.kernel.operators import Elementwise, Operator
from tests.unit.kernel.samples import elementwise, gemm

NOTHING = frozenset[str]()
ADD = elementwise("residual_add", {"x": 100, "y": 100}, {"x": 100}, flop=50)
NORM = elementwise("norm", {"x": 100, "w": 10}, {"z": 100}, flop=200, sfu=1)
QUANTISE = elementwise("quantise", {"z": 100}, {"z8": 50}, flop=150)


def moved(op: Operator) -> tuple[dict[str, int], dict[str, int]]:
    """Return the bytes that an element-wise operator reads and writes, by name."""
    assert isinstance(op, Elementwise)
    return (
        {t.name: size for t, size in zip(op.inputs, op.read_bytes, strict=True)},
        {t.name: size for t, size in zip(op.outputs, op.written_bytes, strict=True)},
    )


def kinds(operators: Sequence[Operator]) -> list[str]:
    return [getattr(op, "kind", type(op).__name__) for op in operators]


def test_what_a_block_needs_is_what_it_reads_before_it_writes() -> None:
    """`x` is read first and written then; `z` is made inside."""
    assert live_in([ADD, NORM, QUANTISE]) == {"x", "y", "w"}
    assert live_in([]) == NOTHING


def test_a_fused_chain_reads_outside_tensors_once_and_drops_its_intermediates() -> None:
    """Three passes of 610 bytes become one of 260: nobody else needs `x` or `z`."""
    (fused,) = fuse([ADD, NORM, QUANTISE], [("residual_add", "norm", "quantise")], NOTHING)
    assert moved(fused) == ({"x": 100, "y": 100, "w": 10}, {"z8": 50})
    assert isinstance(fused, Elementwise)
    assert fused.name == fused.kind == "residual_add+norm+quantise"
    assert (fused.part, fused.vector_flop, fused.sfu_ops) == ("mlp", 400, 1)


def test_what_later_blocks_read_is_still_written() -> None:
    """The residual stream lives on."""
    (fused,) = fuse([ADD, NORM], [("residual_add", "norm")], frozenset({"x"}))
    assert moved(fused) == ({"x": 100, "y": 100, "w": 10}, {"x": 100, "z": 100})


def test_what_a_later_operator_of_the_block_reads_is_still_written() -> None:
    """`x` is added to again, further down."""
    later = elementwise("gate", {"x": 100}, {"g": 100})
    fused, rest = fuse([ADD, NORM, later], [("residual_add", "norm")], NOTHING)
    assert moved(fused)[1] == {"x": 100, "z": 100}
    assert rest is later


def test_what_is_overwritten_before_the_block_ends_is_not_kept_for_later_blocks() -> None:
    """The next blocks read another value under the same name."""
    later = elementwise("gate", {"z": 100}, {"x": 100})
    fused, _ = fuse([ADD, NORM, later], [("residual_add", "norm")], frozenset({"x"}))
    assert moved(fused)[1] == {"z": 100}


def test_the_longest_pattern_wins() -> None:
    """Whatever the order in the profile."""
    patterns = [("residual_add", "norm"), ("residual_add", "norm", "quantise")]
    for fusions in (patterns, patterns[::-1]):
        assert kinds(fuse([ADD, NORM, QUANTISE], fusions, NOTHING)) == [
            "residual_add+norm+quantise"
        ]


def test_a_chain_is_fused_wherever_it_occurs() -> None:
    """Left to right, without overlap."""
    chain = [ADD, NORM, ADD, ADD, NORM]
    assert kinds(fuse(chain, [("residual_add", "norm")], NOTHING)) == [
        "residual_add+norm",
        "residual_add",
        "residual_add+norm",
    ]


def test_other_operators_break_a_chain_and_pass_unchanged() -> None:
    """A GEMM between two passes keeps them apart."""
    product = gemm(1, 8, 8)
    unfused = fuse([ADD, product, NORM], [("residual_add", "norm")], NOTHING)
    assert unfused == (ADD, product, NORM)


def test_a_chain_cut_off_by_the_end_of_the_block_is_not_fused() -> None:
    """A pattern longer than what is left does not match."""
    assert fuse([ADD], [("residual_add", "norm")], NOTHING) == (ADD,)


def test_without_fusions_nothing_changes() -> None:
    """An eager engine runs every operator as written."""
    assert fuse([ADD, NORM, QUANTISE], [], NOTHING) == (ADD, NORM, QUANTISE)


def test_a_tensor_read_twice_is_read_once_at_its_larger_size() -> None:
    """Two passes over a buffer, one of them over half of it."""
    half = elementwise("scale", {"w": 40}, {"v": 40})
    (fused,) = fuse([half, NORM], [("scale", "norm")], NOTHING)
    assert moved(fused)[0] == {"w": 40, "x": 100}
