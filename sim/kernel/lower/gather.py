"""PyTorch's embedding: rows of a table, copied value by value.

`indexSelectSmallIndex` (up to 16 rows) gives a thread one column: for every row it reads the index,
then the value, then goes to the next row, so rows follow each other however few bytes they have.
`indexSelectLargeIndex` goes over all values with at most eight blocks of 128 threads an SM; a value
costs two divisions and the strides of three tensors (aten/src/ATen/native/cuda/Indexing.cu). Later
versions copy long rows in 16-byte pieces, a block per row.
"""

from typing import Final

from sim.kernel.engine import GatherKernels, RowKernels
from sim.kernel.kernel import CtaKind, Kernel, Phase
from sim.kernel.lower.row_kernels import lower_rows
from sim.kernel.lower.streaming import moves
from sim.kernel.operators import Elementwise
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

_THREADS: Final = 128
_WARP: Final = 32
_VALUE_BYTES: Final = 2
_CTAS_PER_SM: Final = 8
# Before the first value: its index. Single rows take 0.5 to 1 us more on A100 and RTX 4090 (Vidur,
# LLMServingSim): launch parameters with the strides of three tensors are cold.
_INDEX_ROUND_TRIPS: Final = 2
_START_ROUND_TRIPS: Final = 8
_VECTORISED: Final = RowKernels(threads=1024, load_bytes=16, round_trips=_START_ROUND_TRIPS)


def lower_gather(op: Elementwise, target: Target, kernels: GatherKernels) -> Kernel:
    """Return the kernel that copies `op.rows` rows."""
    serial = op.rows <= kernels.serial_rows
    if not serial and not kernels.warp_clocks:
        return lower_rows(op, target, _VECTORISED)
    block_bytes = _THREADS * _VALUE_BYTES
    columns = ceil_div(sum(op.written_bytes), op.rows if serial else 1)
    count = min(ceil_div(columns, block_bytes), target.sm_count * _CTAS_PER_SM)
    turns = ceil_div(sum(op.written_bytes), count * block_bytes)
    inputs = list(zip(op.inputs, op.read_bytes, strict=True))
    outputs = list(zip(op.outputs, op.written_bytes, strict=True))
    segments, loads, stores = moves(inputs, outputs, count)
    phase = Phase(
        round_trips=_START_ROUND_TRIPS + turns - 1 if serial else _INDEX_ROUND_TRIPS,
        loads=loads,
        stores=stores,
        issue_clocks=0 if serial else turns * _THREADS // _WARP * kernels.warp_clocks,
    )
    return Kernel(
        name="index_select_serial" if serial else "index_select",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=block_bytes),),
        segments=segments,
        ctas_per_sm=_CTAS_PER_SM,
        flop=operator_flop(op),
    )
