"""Rows of norm_activation.csv: passes over activations, `bytes` of which are read or written.

aiconfigurator replays a graph of five quantisations of one tensor; TensorRT-LLM's kernel starts up
while the one before runs (programmatic dependent launch). Liger's benchmark (Triton `do_bench`)
zeroes a buffer larger than L2 before every call and times the call with events. Vidur and
LLMServingSim profile kernels of a model in eager mode: a CTA per token, in Vidur's (the vLLM of
2023) with scalar loads, as vLLM's rotary embedding has them to this day; embeddings and Vidur's
residual adds are PyTorch's. Their inputs are what the model's kernels before left in L2.
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
from analysis.validate.found import Found
from sim.kernel.engine import Engine, GatherKernels, RowKernels
from sim.kernel.operators import Elementwise
from sim.units import ceil_div

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
_FLOP: Final = 4
_TWO_INPUTS: Final = frozenset({"add", "silu_mul", "fused_add_rmsnorm", "fused_add_rms_norm"})
_GRAPHS: Final = frozenset({"vllm", "sglang", "trtllm"})
_REPEATS: Final = 5
# What a zeroed buffer leaves dirty in L2, by how much more than their bytes Liger's norms take:
# 30 MB on A100 and on H100 alike (Liger-Kernel @ead96b61, read 2026-11-23).
_FLUSHED_BYTES: Final = 30_000_000
# Addresses of vectorised kernels follow from the block's number: nothing is awaited. vLLM's
# quantisation takes 59 clocks a warp of 16 values each on H100, with 25 MB in L2.
_VECTOR: Final = RowKernels(threads=1024, load_bytes=16, round_trips=0)
_QUANTISE: Final = RowKernels(threads=256, load_bytes=32, round_trips=0, warp_clocks=50)
# TensorRT-LLM's `scaleMatrixPerTensorVec` (cudaFp8Utils.cu): blocks of 256 threads with 8 values
# each; 41 clocks a warp on H100, 25 to 38 on L40S, where its launch takes longer than an empty
# kernel's (aiconfigurator-core 0.12.0, read 2026-11-27).
_SCALE_MATRIX: Final = RowKernels(
    threads=256, load_bytes=16, warp_clocks=35, round_trips=0, setup_round_trips=4
)
_SCALED_VALUES: Final = 256 * 8
# Clocks of an SM for an iteration of a warp, read off full SMs, nearly the same on A100 and H100
# (Vidur @7d475133, read 2026-11-27).
_VIDUR: Final = {
    "silu_mul": RowKernels(threads=1024, load_bytes=2, warp_clocks=23, round_trips=0),
    "rmsnorm": RowKernels(threads=1024, load_bytes=2, warp_clocks=10),
    "rope": RowKernels(threads=512, load_bytes=4, warp_clocks=38),
}
# The same of vLLM 0.19 (LLMServingSim @5daddb21, RTX 4090, read 2026-11-27): eight values at a time
# in the activation, still one pair in rope.
_SERVED: Final = {
    "silu_mul": RowKernels(threads=1024, load_bytes=16, warp_clocks=43),
    "rope": RowKernels(threads=512, load_bytes=4, warp_clocks=20),
}
_GATHER_2023: Final = GatherKernels(serial_rows=16, warp_clocks=58)
_GATHER: Final = GatherKernels(serial_rows=16, warp_clocks=0)
# PyTorch's layer norm: Welford's update divides for every value, one after the other.
_LAYER_NORM: Final = RowKernels(threads=128, load_bytes=8, warp_clocks=22, round_trips=12)
# PyTorch's GELU: blocks of 512 values, with an exact error function.
_GELU: Final = RowKernels(threads=128, load_bytes=8, warp_clocks=54, round_trips=0)
_GELU_VALUES: Final = 512
# Models whose MLP has no gate (PyTorch's GELU), whose norm is a layer norm, and whose block adds
# attention and MLP to the residual at once, in two kernels.
_PARALLEL: Final = frozenset({"phi-2"})
# A pass that adds two tensors moves three times what it writes before the next one reads it.
_FLOW_OF_ADD: Final = 3


def streaming_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for an operation we do not know."""
    name, source = engine_name(row), row["source"]
    if name in _GRAPHS and source.startswith("aic"):
        return _replayed(row, name)
    if source.startswith("Liger"):
        flushed = activation("flushed", _FLUSHED_BYTES)
        return KernelCase(operators=(_operator(row),), timing=Timing.EVENTS, dirty=(flushed,))
    return _vidur(row) if source == "vidur" else _profiled(row)


def _replayed(row: Row, name: str) -> KernelCase:
    op = _operator(row)
    if name == "trtllm":
        op = replace(op, rows=ceil_div(op.vector_flop // _FLOP, _SCALED_VALUES))
    kernels = {"vllm": _QUANTISE, "trtllm": _SCALE_MATRIX}
    return KernelCase(
        operators=(op,),
        engine=_engine(kernels.get(name)),
        repeats=_REPEATS,
        early_launch=name == "trtllm",
    )


def _vidur(row: Row) -> KernelCase:
    op, kind = _operator(row), row["op"]
    rows = _VIDUR.get(kind)
    operators: tuple[Elementwise, ...] = (op,)
    if _model(row) in _PARALLEL:
        rows = {"rmsnorm": _LAYER_NORM, "silu_mul": _GELU}.get(kind, rows)
        if kind == "silu_mul":
            op = replace(op, rows=ceil_div(op.vector_flop // _FLOP, _GELU_VALUES))
        operators = (op, replace(op, name="again")) if kind == "add" else (op,)
    return KernelCase(
        operators=operators,
        engine=replace(_engine(rows), gather=_GATHER_2023),
        timing=Timing.KERNELS,
        found=_found(op, kind),
        whole_us=True,
    )


def _profiled(row: Row) -> KernelCase:
    op, kind = _operator(row), row["op"]
    # Its dummy tokens are the same: their row comes from L2 (2,048 rows at 3.3 TB/s).
    one_row = (Found(tensor=op.inputs[0], flow=1),)
    return KernelCase(
        operators=(op,),
        engine=replace(_engine(_SERVED.get(kind, _VECTOR)), gather=_GATHER),
        timing=Timing.KERNELS,
        found=one_row if kind == "embedding" else _found(op, kind),
    )


def _found(op: Elementwise, kind: str) -> tuple[Found, ...]:
    """Return what a model's kernels left: GEMMs feed all but embeddings and norms after an add.

    The first input of an addition is the residual, written before the weights of a GEMM passed.
    PyTorch's adds take as long as if neither input were there (A100 and H100, 0.4 to 8 MB each).
    """
    if kind == "rmsnorm":
        return (Found(tensor=op.inputs[0], flow=_FLOW_OF_ADD),)
    if kind == "embedding":
        return ()
    if kind == "add":
        return (Found(tensor=op.inputs[1], lost=True),)
    fresh = op.inputs[1:] if op.kind.startswith("residual_add") else op.inputs
    return tuple(Found(tensor=tensor) for tensor in fresh)


def _model(row: Row) -> str:
    return row["framework"].rpartition("/")[2]


def _operator(row: Row) -> Elementwise:
    if row["op"] not in _KINDS:
        raise UnpredictableError(f"no element-wise operation {row['op']}")
    kind, share = _KINDS[row["op"]]
    size = number(row, "bytes")
    two = row["op"] in _TWO_INPUTS
    if row["op"] == "silu_mul" and _model(row) in _PARALLEL:
        size, share, two = size * 2 // 3, 1 / 2, False
    read = round(size * share)
    parts = (read // 2, read - read // 2) if two else (read,)
    values = number(row, "tokens") * number(row, "hidden")
    return Elementwise(
        name=kind,
        part="benchmark",
        kind=kind,
        inputs=tuple(activation(f"x{i}", part) for i, part in enumerate(parts)),
        outputs=(activation("y", size - read),),
        read_bytes=parts,
        written_bytes=(size - read,),
        vector_flop=_FLOP * values,
        rows=number(row, "tokens"),
    )


def _engine(rows: RowKernels | None) -> Engine:
    return replace(BENCHMARK_ENGINE, row_kernels=rows)
