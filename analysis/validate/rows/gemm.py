"""Rows of gemm.csv: one weight matrix times `m` tokens.

aiconfigurator replays graphs of several GEMMs whose weights are copies: six (vLLM, SGLang), five,
or one where a copy fills L2 (TensorRT-LLM). Its int8 and int4 rows are times of one layer of a
TensorRT engine, after layers of 300 MB each, and hold no quantisation kernel; its fp8 rows include
the quantisation of the 16-bit activations: with a static scale in vLLM, per token in SGLang, per
tensor in TensorRT-LLM (collectors of aiconfigurator, read 2026-11-23). LLMServingSim and Vidur
profiled kernels of a model's layer in eager mode.
"""

from dataclasses import replace
from enum import StrEnum
from types import MappingProxyType
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
from analysis.validate.chips import chip_of
from sim.kernel.engine import Engine, FixedTile, RowKernels, TileSet
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
_REPEATS: Final = MappingProxyType({"vllm": 6, "sglang": 6, "trtllm": 5, "cublaslt": 100})
_DISPATCHED: Final = frozenset({"vllm", "sglang"})
_TENSORRT_LAYERS: Final = frozenset({"int8", "int4"})
_ENGINE: Final = replace(BENCHMARK_ENGINE, row_kernels=RowKernels(threads=256, load_bytes=32))
# vLLM (scaled_mm_c2x, _c3x) and SGLang (fp8_gemm_kernel) dispatch 8-bit GEMMs by m to tiles.
_SMALL_TILES: Final = (
    FixedTile(most_tokens=16, rows=64, tokens=16),
    FixedTile(most_tokens=64, rows=64, tokens=64),
    FixedTile(most_tokens=128, rows=128, tokens=64),
)
_LARGE_TILE: Final = FixedTile(most_tokens=256, rows=128, tokens=128)
_ADA_TILES: Final = (
    FixedTile(most_tokens=16, rows=64, tokens=16),
    FixedTile(most_tokens=32, rows=64, tokens=32),
    FixedTile(most_tokens=256, rows=64, tokens=64),
)
# TensorRT-LLM's tiles for int8 x int8 (int8_gemm) and for packed weights (fpA_intB): up to 128
# rows. The latter may split K sevenfold, but their splits add to the output in turn, so that more
# than a few do not pay: three fits 280 rows of A100 best (aiconfigurator-core, read 2026-11-23).
_SMOOTH_QUANT: Final = replace(_ENGINE, tile_set=TileSet(rows=(64, 128), most_splits=1))
_WEIGHT_ONLY: Final = replace(_ENGINE, tile_set=TileSet(rows=(128,), most_splits=3))
_LAYER_ENGINES: Final = MappingProxyType(
    {"int8_w8a8": _SMOOTH_QUANT, "int8": _WEIGHT_ONLY, "int4": _WEIGHT_ONLY}
)
# Its block-scaled fp8 kernel for Ada has one tile.
_ADA_BLOCKS: Final = replace(_ENGINE, fixed_tiles=(FixedTile(most_tokens=64, rows=64, tokens=64),))
_ADA: Final = "ada"


def gemm_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for a format we do not have."""
    fmt = weight_format(row["dtype_a"], row["dtype_w"])
    m, n, k = _shape(row)
    name = engine_name(row)
    if name in _PROFILED or row["source"].startswith("LLMServingSim"):
        timing = Timing.KERNELS
    elif row["dtype_w"] in _TENSORRT_LAYERS:
        timing = Timing.EVENTS
    else:
        timing = Timing.GRAPH
    a, quantise = quantised("a", m, k, fmt, scheme=_SCHEMES.get(name, Scheme.PER_TOKEN))
    op = gemm((m, n, k), fmt, a)
    warm = row.get("l2") == "warm" and timing is Timing.GRAPH
    single = name == "trtllm" and row["framework"] != "trtllm-1.0.0" and not warm
    return KernelCase(
        operators=(*quantise, op) if timing is Timing.GRAPH and name != "cublaslt" else (op,),
        engine=_engine(row, fmt),
        timing=timing,
        warm=(op.weight,) if warm else (),
        repeats=1 if single else _REPEATS.get(name, 1),
    )


def _engine(row: Row, fmt: WeightFormat) -> Engine:
    if fmt.name in _LAYER_ENGINES:
        return _LAYER_ENGINES[fmt.name]
    if fmt.name == "fp8_block" and chip_of(row).generation == _ADA:
        return _ADA_BLOCKS
    if engine_name(row) not in _DISPATCHED or fmt.name != "fp8":
        return _ENGINE
    small = _ADA_TILES if chip_of(row).generation == _ADA else _SMALL_TILES
    return replace(_ENGINE, fixed_tiles=(*small, _LARGE_TILE))


def _shape(row: Row) -> tuple[int, int, int]:
    """Return (m, n, k) of the GEMM that ran.

    The LLMServingSim-v0 profile of Mixtral did not split experts over tensor-parallel ranks: the
    rows of tp1, tp2 and tp4 agree within 3 %, whatever width they name.
    """
    m, n, k = (number(row, key) for key in "mnk")
    _, _, model = row["framework"].partition("/")
    if row["source"] == "LLMServingSim-v0" and ":expert." in model:
        ranks = int(model.partition(":")[0].rpartition("-tp")[2])
        return (m, n, k * ranks) if model.endswith("w2") else (m, n * ranks, k)
    return m, n, k


def weight_format(dtype_a: str, dtype_w: str) -> WeightFormat:
    """Return the format of a pair of columns. Raises UnpredictableError if there is none."""
    key = (dtype_w, dtype_a not in ("bf16", "fp16"))
    name = _FORMATS.get(key, "")
    if name not in WEIGHT_FORMATS:
        raise UnpredictableError(f"no weight format for {dtype_a} x {dtype_w}")
    return WEIGHT_FORMATS[name]


class Scheme(StrEnum):
    """Where the scale of quantised activations comes from."""

    STATIC = "static"
    PER_TOKEN = "per_token"
    PER_TENSOR = "per_tensor"


_SCHEMES: Final = MappingProxyType({"vllm": Scheme.STATIC, "trtllm": Scheme.PER_TENSOR})


def quantised(
    name: str, rows: int, width: int, fmt: WeightFormat, *, scheme: Scheme = Scheme.PER_TOKEN
) -> tuple[Tensor, tuple[Operator, ...]]:
    """Return the activations as the GEMM reads them, and the kernels that make them so.

    A scale per tensor needs a pass that finds the largest value before the pass that scales.
    """
    plain = activation(name, 2 * rows * width)
    if not fmt.quantises_activations:
        return plain, ()
    small = activation(f"{name}.quantised", fmt.activation_bytes_of(rows, width))
    scale = Elementwise(
        name=f"quantise_{name}",
        part="benchmark",
        kind="quantise" if scheme is Scheme.PER_TOKEN else "scale",
        inputs=(plain,),
        outputs=(small,),
        read_bytes=(plain.size_bytes,),
        written_bytes=(small.size_bytes,),
        vector_flop=4 * rows * width,
        rows=rows,
    )
    if scheme is not Scheme.PER_TENSOR or fmt.name != "fp8":
        return small, (scale,)
    largest = replace(
        scale,
        name=f"largest_{name}",
        kind="norm",
        outputs=(activation(f"{name}.scale", 4),),
        written_bytes=(4,),
    )
    return small, (largest, scale)


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
