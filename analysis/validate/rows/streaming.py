"""Rows of norm_activation.csv: passes over activations, `bytes` of which are read or written.

aiconfigurator replays a graph of five quantisations of one tensor; TensorRT-LLM's kernel starts up
while the one before runs (programmatic dependent launch, Hopper). Liger's benchmark (Triton
`do_bench`) zeroes a buffer larger than L2 before every call and times the call with events. Vidur
and LLMServingSim profile kernels of an engine in eager mode: a CTA per token, in Vidur's (the vLLM
of 2023) with scalar loads.
"""

from dataclasses import replace
from typing import Final

from analysis.validate.case import (
    BENCHMARK_ENGINE,
    KernelCase,
    Row,
    Timing,
    UnpredictableError,
    activation,
    engine_name,
    number,
)
from sim.kernel.engine import Engine, RowKernels
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
    "fp8_static_quant": ("scale", 2 / 3),
}
_TWO_INPUTS: Final = frozenset({"add", "silu_mul", "fused_add_rmsnorm", "fused_add_rms_norm"})
_GRAPHS: Final = frozenset({"vllm", "sglang", "trtllm"})
_REPEATS: Final = 5
# What a zeroed buffer leaves dirty in L2, by how much more than their bytes Liger's norms take:
# 30 MB on A100 and on H100 alike (Liger-Kernel @ead96b61, read 2026-11-23).
_FLUSHED_BYTES: Final = 30_000_000
_SCALAR: Final = RowKernels(threads=1024, load_bytes=2)
_VECTOR: Final = RowKernels(threads=1024, load_bytes=16)
_QUANTISE: Final = RowKernels(threads=256, load_bytes=32)
# PyTorch's own kernels: grids of blocks over all values.
_TORCH_OPS: Final = frozenset({"add", "embedding"})
_EARLY_LAUNCH: Final = frozenset({"H100-SXM", "H200-SXM", "B200"})


def streaming_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for an operation we do not know."""
    op = _operator(row)
    name, source = engine_name(row), row["source"]
    if name in _GRAPHS and source.startswith("aic"):
        return KernelCase(
            operators=(op,),
            engine=_engine(_QUANTISE if name == "vllm" else None),
            repeats=_REPEATS,
            early_launch=name == "trtllm" and row["gpu"] in _EARLY_LAUNCH,
        )
    if source.startswith("Liger"):
        flushed = activation("flushed", _FLUSHED_BYTES)
        return KernelCase(operators=(op,), timing=Timing.EVENTS, dirty=(flushed,))
    loads = _SCALAR if source == "vidur" else _VECTOR
    rows = None if row["op"] in _TORCH_OPS else loads
    return KernelCase(operators=(op,), engine=_engine(rows), timing=Timing.KERNELS)


def _operator(row: Row) -> Elementwise:
    if row["op"] not in _KINDS:
        raise UnpredictableError(f"no element-wise operation {row['op']}")
    kind, share = _KINDS[row["op"]]
    size = number(row, "bytes")
    read = round(size * share)
    parts = (read // 2, read - read // 2) if row["op"] in _TWO_INPUTS else (read,)
    values = number(row, "tokens") * number(row, "hidden")
    return Elementwise(
        name=kind,
        part="benchmark",
        kind=kind,
        inputs=tuple(activation(f"x{i}", part) for i, part in enumerate(parts)),
        outputs=(activation("y", size - read),),
        read_bytes=parts,
        written_bytes=(size - read,),
        vector_flop=4 * values,
        rows=number(row, "tokens"),
    )


def _engine(rows: RowKernels | None) -> Engine:
    return replace(BENCHMARK_ENGINE, row_kernels=rows)
