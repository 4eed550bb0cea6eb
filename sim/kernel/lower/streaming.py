"""Memory-bound kernels: element-wise passes over tensors."""

from collections.abc import Sequence

from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.gemm import segment_of
from sim.kernel.operators import Elementwise, Tensor
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

# A block of 512 threads with one 16-byte load each; four such blocks fill an SM.
_BLOCK_BYTES = 8 * 1024
_CTAS_PER_SM = 4
# Rows of a norm or a softmax stay in one block.
ROW_KINDS = frozenset({"norm", "qk_norm", "router_topk", "sample", "quantise"})
_ROW_BYTES = 16 * 1024
# Beyond this many blocks an SM, kernels loop over the grid instead (grid-stride).
_MOST_CTAS_PER_SM = 32


def _grid(wanted: int, target: Target) -> int:
    return max(1, min(wanted, target.sm_count * _MOST_CTAS_PER_SM))


def moves(
    inputs: Sequence[tuple[Tensor, int]], outputs: Sequence[tuple[Tensor, int]], count: int
) -> tuple[tuple[Segment, ...], tuple[Load, ...], tuple[Store, ...]]:
    """Return segments, loads and stores of one CTA of `count`; a tensor is one segment."""
    largest: dict[str, Segment] = {}
    for tensor, size in (*inputs, *outputs):
        known = largest.get(tensor.name)
        if known is None or known.size_bytes < size:
            largest[tensor.name] = segment_of(tensor, size)
    index = {name: i for i, name in enumerate(largest)}
    loads = tuple(
        Load(segment=index[t.name], size_bytes=ceil_div(size, count)) for t, size in inputs if size
    )
    read = {tensor.name for tensor, _ in inputs}
    stores = tuple(
        Store(segment=index[t.name], size_bytes=ceil_div(size, count), in_place=t.name in read)
        for t, size in outputs
    )
    return tuple(largest.values()), loads, stores


def lower_elementwise(op: Elementwise, target: Target) -> Kernel:
    """Return the kernel of one pass over tensors."""
    inputs = list(zip(op.inputs, op.read_bytes, strict=True))
    outputs = list(zip(op.outputs, op.written_bytes, strict=True))
    moved = max(sum(op.read_bytes), sum(op.written_bytes))
    by_row = not ROW_KINDS.isdisjoint(op.kind.split("+"))
    count = _grid(ceil_div(moved, _ROW_BYTES if by_row else _BLOCK_BYTES), target)
    segments, loads, stores = moves(inputs, outputs, count)
    phase = Phase(
        round_trips=2 if by_row else 1,
        loads=loads,
        stores=stores,
        vector_flop=ceil_div(op.vector_flop, count),
        sfu_ops=ceil_div(op.sfu_ops, count),
    )
    return Kernel(
        name=op.kind,
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=_BLOCK_BYTES),),
        segments=segments,
        ctas_per_sm=_CTAS_PER_SM,
        flop=operator_flop(op),
    )
