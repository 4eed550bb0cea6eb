"""Rows of moe.csv: a whole mixture-of-experts layer on one rank, no communication.

Routing top-k, quantisation, permutation, two grouped GEMMs with the activation between, and the
weighted sum. `inter` is the width before tensor parallelism, `n_experts` the experts of all ranks.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from analysis.validate.case import (
    BENCHMARK_ENGINE,
    KernelCase,
    Row,
    UnpredictableError,
    activation,
    engine_name,
    number,
)
from analysis.validate.rows.gemm import quantised
from sim.kernel.engine import GroupedTile
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


_SMALL_TILE: Final = GroupedTile(rows=32, tokens=16, k_bytes=128)
_DEFAULT_TILE: Final = GroupedTile(rows=64, tokens=64, k_bytes=64)
# DeepGEMM pads the tokens of every expert to its block of 128 rows.
_DEEP_GEMM_TILE: Final = GroupedTile(rows=128, tokens=128, k_bytes=128)
# SGLang ships tuned configurations (`fused_moe_triton/configs`) for most shapes of these GPUs, and
# of A100 for Mixtral in parts.
_TUNED_GPUS: Final = ("H100", "H200", "H800", "B200", "B300", "GB", "MI")
_TUNED_SHAPES: Final = frozenset({("8", 1792), ("8", 3584), ("8", 7168)})


def moe_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for a format or routing we lack."""
    name = _FORMATS.get(row["dtype"], "")
    if name not in WEIGHT_FORMATS:
        raise UnpredictableError(f"no expert format for {row['dtype']}")
    # Before Hopper SGLang widens mxfp4 experts to 16 bits when it loads them.
    widened = name == "mxfp4" and engine_name(row) == "sglang" and not _is_tuned(row)
    fmt = WEIGHT_FORMATS["bf16" if widened else name]
    tokens, hidden = number(row, "tokens"), number(row, "hidden")
    width = number(row, "inter") // max(1, number(row, "tp"))
    counts = tokens_per_expert(row)
    engine = replace(BENCHMARK_ENGINE, grouped_tile=_grouped_tile(row, width))
    operators = _layer(row, fmt, (tokens, hidden, width), counts)
    # Every replay reads the same experts, which stay in L2 if they fit.
    warm = tuple(
        replace(op.experts, size_bytes=experts_read_bytes(op))
        for op in operators
        if isinstance(op, GroupedGemm)
    )
    return KernelCase(operators=operators, engine=engine, warm=warm)


def _grouped_tile(row: Row, width: int) -> GroupedTile | None:
    """Return SGLang's default tile where it has no tuned configuration (`get_default_config`)."""
    if row["dtype"] == "fp8b128" and _is_tuned(row) and engine_name(row) != "vllm":
        return _DEEP_GEMM_TILE
    tuned = _is_tuned(row) or (row["n_experts"], width) in _TUNED_SHAPES
    if engine_name(row) != "sglang" or row["dtype"] not in ("bf16", "fp16") or tuned:
        return None
    few = number(row, "tokens") <= number(row, "n_experts")
    return _SMALL_TILE if few else _DEFAULT_TILE


def _is_tuned(row: Row) -> bool:
    return row["gpu"].startswith(_TUNED_GPUS)


def tokens_per_expert(row: Row) -> tuple[int, ...]:
    """Return how many tokens each expert of this rank gets.

    Balanced routing spreads the routed tokens evenly, so that `min(E, tokens x topk)` experts are
    active; `power_law_a` draws expert loads proportional to 1 / rank^a.
    """
    experts, topk = number(row, "n_experts"), number(row, "topk")
    ranks = max(1, number(row, "ep"))
    routed = number(row, "tokens") * topk
    loads = _loads(row["routing"], routed, experts)
    return loads[: experts // ranks]


def _loads(routing: str, routed: int, experts: int) -> tuple[int, ...]:
    if routing == "balanced":
        whole, rest = divmod(routed, experts)
        return tuple(whole + (i < rest) for i in range(experts))
    if routing.startswith("power_law_"):
        exponent = float(routing.removeprefix("power_law_"))
        shares = np.arange(1, experts + 1, dtype=float) ** -exponent
        ideal = shares / shares.sum() * routed
        counts = np.floor(ideal).astype(int)
        largest_rests = np.argsort(counts - ideal, kind="stable")
        counts[largest_rests[: routed - int(counts.sum())]] += 1
        return tuple(int(c) for c in counts)
    raise UnpredictableError(f"no routing {routing}")


def _layer(
    row: Row, fmt: WeightFormat, sizes: tuple[int, int, int], counts: tuple[int, ...]
) -> tuple[Operator, ...]:
    tokens, hidden, width = sizes
    experts, topk = number(row, "n_experts"), number(row, "topk")
    routed = sum(counts)
    # vLLM and SGLang align the tokens of experts to blocks in two kernels.
    triton = engine_name(row) in ("vllm", "sglang")
    filled = activation("filled", 4 * routed + 4)
    logits = activation("logits", 4 * tokens * experts)
    routing = activation("routing", 8 * tokens * topk)
    a, quantise = quantised("x", tokens, hidden, fmt)
    up = activation("up", 2 * routed * 2 * width)
    act = activation("act", 2 * routed * width)
    act_q, quantise_act = quantised("act", routed, width, fmt)
    down = activation("down", 2 * routed * hidden)
    out = activation("out", 2 * tokens * hidden)
    return (
        _pass("router_topk", (logits,), (routing,), flop=tokens * experts * topk),
        *quantise,
        _pass("permute", (routing,), (activation("sorted", 4 * routed + 4),)),
        *(_pass("permute_fill", (routing,), (filled,)) for _ in range(triton)),
        _grouped("up", counts, (2 * width, hidden), a, up, fmt),
        _pass("activation", (up,), (act,), flop=4 * routed * width, sfu=routed * width),
        *quantise_act,
        _grouped("down", counts, (hidden, width), act_q, down, fmt),
        _pass("combine", (down, routing), (out,), flop=2 * routed * hidden),
    )


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
