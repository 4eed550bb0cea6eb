"""Rows of gemm.csv: one weight matrix times `m` tokens.

Quantised formats that need quantised activations include the dynamic quantisation of the 16-bit
activations (per token; per 128 values where the weights carry 128 x 128 block scales).
"""

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
from sim.kernel.formats import WEIGHT_FORMATS, WeightFormat
from sim.kernel.operators import Elementwise, Gemm, Operator, Tensor, Traffic

# Column dtype_w, and whether the activations are quantised, to a weight format.
_FORMATS: Final = {
    ("bf16", False): "bf16",
    ("fp16", False): "fp16",
    ("fp8", True): "fp8",
    ("fp8b128", True): "fp8_block",
    ("int8", True): "int8_w8a8",
    ("int8", False): "int8",
    ("int4", False): "int4",
    ("nvfp4", True): "nvfp4",
    ("fp4", True): "nvfp4",
    ("mxfp4", False): "mxfp4",
}
# Profilers of single kernels: their times hold no gaps and no quantisation kernel.
_PROFILED: Final = frozenset({"torch", "sarathi"})


def gemm_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for a format we do not have."""
    fmt = weight_format(row["dtype_a"], row["dtype_w"])
    m, n, k = (number(row, key) for key in "mnk")
    profiled = engine_name(row) in _PROFILED or row["source"].startswith("LLMServingSim")
    a, quantise = quantised("a", m, k, fmt)
    op = gemm((m, n, k), fmt, a)
    warm = (op.weight,) if row.get("l2") == "warm" else ()
    return KernelCase(
        operators=(op,) if profiled else (*quantise, op),
        engine=BENCHMARK_ENGINE,
        timing=Timing.KERNELS if profiled else Timing.GRAPH,
        warm=warm,
    )


def weight_format(dtype_a: str, dtype_w: str) -> WeightFormat:
    """Return the format of a pair of columns. Raises UnpredictableError if there is none."""
    key = (dtype_w, dtype_a not in ("bf16", "fp16"))
    name = _FORMATS.get(key, "")
    if name not in WEIGHT_FORMATS:
        raise UnpredictableError(f"no weight format for {dtype_a} x {dtype_w}")
    return WEIGHT_FORMATS[name]


def quantised(
    name: str, rows: int, width: int, fmt: WeightFormat
) -> tuple[Tensor, tuple[Operator, ...]]:
    """Return the activations as the GEMM reads them, and the kernel that makes them so."""
    plain = activation(name, 2 * rows * width)
    if not fmt.quantises_activations:
        return plain, ()
    small = activation(f"{name}.quantised", fmt.activation_bytes_of(rows, width))
    op = Elementwise(
        name=f"quantise_{name}",
        part="benchmark",
        kind="quantise",
        inputs=(plain,),
        outputs=(small,),
        read_bytes=(plain.size_bytes,),
        written_bytes=(small.size_bytes,),
        vector_flop=4 * rows * width,
    )
    return small, (op,)


def gemm(shape: tuple[int, int, int], fmt: WeightFormat, a: Tensor) -> Gemm:
    """Return the operator of a GEMM of (m, n, k) on activations `a`."""
    m, n, k = shape
    return Gemm(
        name="gemm",
        part="benchmark",
        m=m,
        n=n,
        k=k,
        a=a,
        weight=Tensor(name="w", size_bytes=fmt.bytes_of(n * k), traffic=Traffic.WEIGHTS),
        out=activation("out", 2 * m * n),
        weight_format=fmt,
    )
