"""Rows of norm_activation.csv: passes over activations, `bytes` of which are read or written."""

from typing import Final

from analysis.validate.case import (
    KernelCase,
    Row,
    Timing,
    UnpredictableError,
    activation,
    engine_name,
    number,
)
from sim.kernel.operators import Elementwise

# Column op: kind of element-wise operator, share of the bytes that are read.
_KINDS: Final = {
    "embedding": ("embedding", 1 / 2),
    "add": ("residual_add", 2 / 3),
    "rmsnorm": ("norm", 1 / 2),
    "rms_norm": ("norm", 1 / 2),
    "layernorm": ("norm", 1 / 2),
    "fused_add_rmsnorm": ("residual_add+norm", 1 / 2),
    "fused_add_rms_norm": ("residual_add+norm", 1 / 2),
    "rope": ("rope", 1 / 2),
    "silu_mul": ("activation", 2 / 3),
    "fp8_static_quant": ("quantise", 2 / 3),
}
_GRAPHS: Final = frozenset({"vllm", "sglang", "trtllm"})


def streaming_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for an operation we do not know."""
    if row["op"] not in _KINDS:
        raise UnpredictableError(f"no element-wise operation {row['op']}")
    kind, share = _KINDS[row["op"]]
    size = number(row, "bytes")
    read = round(size * share)
    values = number(row, "tokens") * number(row, "hidden")
    op = Elementwise(
        name=kind,
        part="benchmark",
        kind=kind,
        inputs=(activation("x", read),),
        outputs=(activation("y", size - read),),
        read_bytes=(read,),
        written_bytes=(size - read,),
        vector_flop=4 * values,
    )
    graph = engine_name(row) in _GRAPHS and row["source"].startswith("aic")
    return KernelCase(operators=(op,), timing=Timing.GRAPH if graph else Timing.KERNELS)
