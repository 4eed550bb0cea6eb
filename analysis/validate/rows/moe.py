"""Rows of moe.csv: a whole mixture-of-experts layer on one rank, no communication.

Routing top-k, quantisation, permutation, two grouped GEMMs with the activation between, and the
weighted sum. `inter` is the width before tensor parallelism, `n_experts` the experts of all ranks.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from analysis.validate.case import (
    BENCHMARK_ENGINE,
    KernelCase,
    Row,
    UnpredictableError,
    activation,
    engine_name,
    number,
)
from analysis.validate.chips import chip_of
from analysis.validate.rows.gemm import quantised
from analysis.validate.rows.moe_engines import (
    experts_of,
    grouped_kernels,
    grouped_tile,
    has_blackwell_kernels,
    has_hopper_kernels,
    runs_deep_gemm,
)
from analysis.validate.rows.moe_routing import RankLoad, rank_load
from sim.kernel.formats import WEIGHT_FORMATS, WeightFormat
from sim.kernel.operators import Elementwise, GroupedGemm, Operator, Tensor, Traffic
from sim.kernel.work import experts_read_bytes

_FORMATS: Final = {
    "bf16": "bf16",
    "fp16": "bf16",
    "fp8": "fp8",
    "fp8b128": "fp8_block",
    "int4_wo": "int4",
    "w4a16_mxfp4": "mxfp4",
    "nvfp4": "nvfp4",
}


# Experts in this format run through the engine's whole layer, which routes inside.
_INSIDE: Final = "w4a16_mxfp4"
_CLAMPING: Final = "sglang-0.5.10"
# SGLang sums and scales so few tokens with two PyTorch kernels.
_FEW_TOKENS: Final = 32
_PAIR: Final = 2
_TRITON_ROUTING: Final = 10
_GROUPED_IN_PYTORCH: Final = "trtllm-1.0.0"
_GROUPED_EXPERTS: Final = "256"
_PYTORCH_ROUTING: Final = 22
_RENORMALISING: Final = 5
_ROUTED_AT_ONCE: Final = (_INSIDE, "fp8b128")
# Rows of a layer cost 6.2 ns more for every 1024 values that are scaled (H100, 8192 tokens, four
# models, aiconfigurator-core 0.12.0, read 2026-11-27), as vector operations a value.
_SCALE_FLOP: Final = 400
# TensorRT-LLM sorts more tokens than this in three kernels instead of one.
_SORTED_AT_ONCE: Final = 256


def moe_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for a format or routing we lack."""
    name = _FORMATS.get(row["dtype"], "")
    if name not in WEIGHT_FORMATS:
        raise UnpredictableError(f"no expert format for {row['dtype']}")
    # Before Blackwell SGLang widens mxfp4 experts to 16 bits when it loads them.
    widened = name == "mxfp4" and engine_name(row) == "sglang" and not has_blackwell_kernels(row)
    fmt = WEIGHT_FORMATS["bf16" if widened else name]
    load = load_of(row)
    experts = experts_of(row, fmt.name, load)
    engine = replace(
        BENCHMARK_ENGINE,
        grouped_tile=grouped_tile(row, experts),
        grouped=grouped_kernels(row, experts),
    )
    operators = _layer(row, fmt, (number(row, "hidden"), experts.width), load)
    grouped = [op for op in operators if isinstance(op, GroupedGemm)]
    return KernelCase(operators=operators, engine=engine, warm=_warm(row, grouped))


def _warm(row: Row, grouped: Sequence[GroupedGemm]) -> tuple[Tensor, ...]:
    """Return the experts that a replay reads again, which stay in L2 if they fit.

    A power law is replayed with ten draws, which hit nearly all experts between them: in turn, but
    for SGLang, which replays each ten times.
    """
    chip = chip_of(row)
    in_turn = row["routing"] != "balanced" and engine_name(row) != "sglang"
    if in_turn and sum(op.experts.size_bytes for op in grouped) > chip.l2_bytes:
        return ()
    return tuple(replace(op.experts, size_bytes=experts_read_bytes(op)) for op in grouped)


def load_of(row: Row) -> RankLoad:
    """Return what the timed rank gets. Raises UnpredictableError for an unknown routing."""
    name, apart = engine_name(row), row["dtype"] != _INSIDE
    ranks = max(1, number(row, "ep"))
    # Timings of SGLang 0.5.10 are those of all rows; from 0.5.14 on they are so with one expert.
    clamps = row["framework"].startswith(_CLAMPING) or number(row, "n_experts") == ranks
    return rank_load(
        row,
        selects=name == "sglang" and apart,
        clamps=clamps,
        keeps_rows=name == "vllm" and apart,
    )


def _routing(row: Row, tokens: int) -> tuple[Operator, ...]:
    """Return the kernels that choose experts, as far as the benchmark of the engine times them.

    vLLM's starts from chosen experts, as does SGLang's with expert parallelism; else SGLang's
    copies what it chose for its Triton kernels (`collect_moe.py` of aiconfigurator).
    """
    experts, topk = number(row, "n_experts"), number(row, "topk")
    name, inside = engine_name(row), row["dtype"] == _INSIDE
    chosen_before = name == "vllm" or (name == "sglang" and number(row, "ep") > 1)
    if chosen_before and not inside:
        return ()
    logits = activation("logits", 4 * tokens * experts)
    routing = activation("routing", 8 * tokens * topk)
    router = _pass("router_topk", (logits,), (routing,), flop=tokens * experts * topk)
    chain = _chain_of(row)
    if chain:
        return (router, *(_pass("permute_fill", (routing,), (routing,)),) * chain)
    if name != "sglang" or inside or row["dtype"] == "int4_wo":
        return (router,)
    filled = activation("filled", 4 * tokens * topk)
    copied = activation("copied", logits.size_bytes)
    copies = (_pass("permute_fill", (routing,), (filled,)),) * 2
    return (router, *copies, _pass("permute_fill", (logits,), (copied,)))


def _chain_of(row: Row) -> int:
    """Return the small kernels of engines that route by more than one.

    Triton's routing of mxfp4 experts sorts in ten kernels (`triton_kernels/routing.py`). The
    grouped top-k of DeepSeek was a chain of PyTorch kernels in TensorRT-LLM 1.0; later layers in L2
    take 12 us more than their kernels on H100 and L40S: top-k in two, softmax and casts.
    """
    if row["dtype"] == _INSIDE and engine_name(row) == "vllm" and has_hopper_kernels(row):
        return _TRITON_ROUTING
    if row["framework"] == _GROUPED_IN_PYTORCH:
        return _PYTORCH_ROUTING if row["n_experts"] == _GROUPED_EXPERTS else 0
    renormalises = engine_name(row) == "trtllm" and row["dtype"] not in _ROUTED_AT_ONCE
    return _RENORMALISING if renormalises else 0


def _layer(
    row: Row, fmt: WeightFormat, sizes: tuple[int, int], load: RankLoad
) -> tuple[Operator, ...]:
    hidden, width = sizes
    tokens, rows, counts = load.tokens, load.rows, load.per_expert
    scales = engine_name(row) == "sglang" and tokens <= _FEW_TOKENS and number(row, "topk") > _PAIR
    routing = activation("routing", 8 * tokens * number(row, "topk"))
    a, before, expand = _inputs(row, fmt, hidden, load)
    up = activation("up", 2 * rows * 2 * width)
    act, act_q, quantise_act = _activated(row, fmt, rows, width)
    down = activation("down", 2 * rows * hidden)
    out = activation("out", 2 * tokens * hidden)
    return (
        *_routing(row, tokens),
        *before,
        *_sorted(row, load, routing),
        *expand,
        _grouped("up", counts, (2 * width, hidden), a, up, fmt),
        _pass("activation", (up,), (act,), flop=4 * rows * width, sfu=rows * width),
        *quantise_act,
        _grouped("down", counts, (hidden, width), act_q, down, fmt),
        _pass("combine", (down, routing), (out,), flop=2 * rows * hidden),
        *(_pass("combine", (out,), (out,), flop=tokens * hidden) for _ in range(scales)),
    )


def _sorted(row: Row, load: RankLoad, routing: Tensor) -> tuple[Operator, ...]:
    """Return the kernels that sort tokens by expert.

    vLLM and SGLang align the tokens of experts to blocks in two. TensorRT-LLM's Hopper kernels
    need strides of every expert, which are one more.
    """
    fills = 1
    if engine_name(row) == "trtllm":
        fills = has_hopper_kernels(row) + 2 * (load.tokens > _SORTED_AT_ONCE)
    ordered = activation("sorted", 4 * load.rows + 4)
    filled = activation("filled", 4 * load.rows + 4)
    fill = _pass("permute_fill", (routing,), (filled,))
    return (_pass("permute", (routing,), (ordered,)), *(fill for _ in range(fills)))


_Inputs = tuple[Tensor, tuple[Operator, ...], tuple[Operator, ...]]


def _inputs(row: Row, fmt: WeightFormat, hidden: int, load: RankLoad) -> _Inputs:
    """Return what the first GEMM reads, and the kernels before and after the sort that make it.

    Triton's kernels gather tokens by index; CUTLASS's read a copy for every expert. TensorRT-LLM
    scales the copies of block-scaled experts, else the tokens.
    """
    tokens, rows = load.tokens, load.rows
    routing = activation("routing", 8 * tokens * number(row, "topk"))
    if _scales_copies(row, fmt):
        a, scale = _scaled("x", rows, hidden, fmt)
        x = activation("tokens", 2 * tokens * hidden)
        return a, (), (_pass("permute", (x, routing), tuple(scale[0].reads())), *scale)
    a, quantise = quantised("x", tokens, hidden, fmt)
    if engine_name(row) != "trtllm":
        return a, quantise, ()
    expanded = activation("expanded", a.size_bytes * rows // tokens)
    copy = _pass("permute", (a, routing), (expanded,))
    if expanded.size_bytes > chip_of(row).l2_bytes:
        # Copies of a token are an expert apart: those between them push it out of L2.
        copy = replace(copy, read_bytes=(expanded.size_bytes, routing.size_bytes))
    return expanded, quantise, (copy,)


def _activated(
    row: Row, fmt: WeightFormat, rows: int, width: int
) -> tuple[Tensor, Tensor, tuple[Operator, ...]]:
    """Return what the activation writes, what the second GEMM reads, and the kernels between.

    TensorRT-LLM's activation writes fp8 itself where one scale holds for all of it.
    """
    scaled = _scaled if _scales_copies(row, fmt) else quantised
    act_q, quantise = scaled("act", rows, width, fmt)
    if engine_name(row) == "trtllm" and fmt.name == "fp8":
        return act_q, act_q, ()
    return activation("act", 2 * rows * width), act_q, quantise


def _scales_copies(row: Row, fmt: WeightFormat) -> bool:
    return engine_name(row) == "trtllm" and fmt.name == "fp8_block" and runs_deep_gemm(row)


def _scaled(
    name: str, rows: int, width: int, fmt: WeightFormat
) -> tuple[Tensor, tuple[Operator, ...]]:
    """Return what TensorRT-LLM's `scale_1x128_kernel` makes, and that kernel.

    It gives each 128 values a warp that loads, reduces, stores and ends: a step of a CTA a group.
    """
    plain = activation(name, 2 * rows * width)
    small = activation(f"{name}.quantised", fmt.activation_bytes_of(rows, width))
    scale = _pass("scale", (plain,), (small,), flop=_SCALE_FLOP * rows * width)
    return small, (replace(scale, name=f"scale_{name}"),)


def _pass(
    kind: str, reads: tuple[Tensor, ...], writes: tuple[Tensor, ...], *, flop: int = 0, sfu: int = 0
) -> Elementwise:
    return Elementwise(
        name=kind,
        part="benchmark",
        kind=kind.split("_fill", maxsplit=1)[0],
        inputs=reads,
        outputs=writes,
        read_bytes=tuple(t.size_bytes for t in reads),
        written_bytes=tuple(t.size_bytes for t in writes),
        vector_flop=flop,
        sfu_ops=sfu,
    )


def _grouped(
    name: str,
    counts: tuple[int, ...],
    shape: tuple[int, int],
    a: Tensor,
    out: Tensor,
    fmt: WeightFormat,
) -> GroupedGemm:
    n, k = shape
    size = fmt.bytes_of(n * k) * len(counts)
    return GroupedGemm(
        name=name,
        part="benchmark",
        tokens_per_expert=counts,
        n=n,
        k=k,
        a=a,
        experts=Tensor(name=f"experts.{name}", size_bytes=size, traffic=Traffic.EXPERTS),
        out=out,
        weight_format=fmt,
    )
