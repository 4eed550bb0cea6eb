"""Rows of moe.csv: a whole mixture-of-experts layer on one rank, no communication.

Routing top-k, quantisation, permutation, two grouped GEMMs with the activation between, and the
weighted sum. `inter` is the width before tensor parallelism, `n_experts` the experts of all ranks.
"""

from typing import Final

import numpy as np

from analysis.validate.case import KernelCase, Row, UnpredictableError, activation, number
from analysis.validate.rows.gemm import quantised
from sim.kernel.formats import WEIGHT_FORMATS, WeightFormat
from sim.kernel.operators import Elementwise, GroupedGemm, Operator, Tensor, Traffic

_FORMATS: Final = {
    "bf16": "bf16",
    "fp16": "bf16",
    "fp8": "fp8",
    "fp8b128": "fp8_block",
    "int4_wo": "int4",
    "w4a16_mxfp4": "mxfp4",
    "nvfp4": "nvfp4",
}


def moe_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for a format or routing we lack."""
    name = _FORMATS.get(row["dtype"], "")
    if name not in WEIGHT_FORMATS:
        raise UnpredictableError(f"no expert format for {row['dtype']}")
    fmt = WEIGHT_FORMATS[name]
    tokens, hidden = number(row, "tokens"), number(row, "hidden")
    width = number(row, "inter") // max(1, number(row, "tp"))
    counts = tokens_per_expert(row)
    return KernelCase(operators=_layer(row, fmt, (tokens, hidden, width), counts))


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
        kind=kind,
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
