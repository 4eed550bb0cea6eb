"""Rows of ssm.csv: the short convolution, the recurrent step and the chunked scan.

What the columns hide (docs/decisions/0016): the GDN harnesses of SGLang 0.5.14 and vLLM 0.24 put
ten repeats of a kernel into one graph; TensorRT-LLM and early SGLang read a state of 16 bits and
write one of 32 elsewhere, in tiles of 8 values; they timed the GDN convolution on the channels of
one projection, whatever the number of value heads; KDA's fused decode is one kernel that convolves
and normalises, too; vLLM's KDA harness puts its first request into slot 0, which the kernels of
decode skip as padding.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from analysis.validate.case import (
    BENCHMARK_ENGINE,
    KernelCase,
    Row,
    UnpredictableError,
    number,
)
from sim.kernel.engine import ScanVariant
from sim.kernel.formats import BF16, KV_FORMATS
from sim.kernel.operators import ChunkedScan, Operator, StateUpdate, Tensor, Traffic
from sim.model.conv import CausalConv
from sim.model.delta_net import GatedDeltaNet
from sim.model.emitter import Emitter, StepShape

_IN_ONE_GRAPH: Final = 10
"""Repeats in one graph of recent GDN harnesses (aiconfigurator `collect_gdn.py`, `repeat_n`)."""

_NARROW_TILE_BYTES: Final = 2048
"""128 keys x 8 values of 16 bits (flash-linear-attention `fused_recurrent.py`: BV = 8)."""

_PACKED_KDA_WARPS: Final = 4
"""vLLM `fused_recurrent_kda_packed_decode`: 32 values a CTA as elsewhere, but four warps."""

_SGLANG_CONV_STEPS: Final = 3
"""Turn of a CTA of SGLang's Triton convolution for GDN: 2.9, 2.8 and 2.6 chains on H100, L40S and
A100, where the kernels of vLLM and TensorRT-LLM take 1.9 to 2.2 (read 2026-11-27)."""

_FLASHINFER_WARPS: Final = 4
_TILE_BYTES_16_BITS: Final = 8 * 1024
"""FlashInfer `gated_delta_rule_decode_pretranspose`: four warps, a state of 16 bits in place."""

_FUSED_TILE_BYTES: Final = 64 * 1024
_FUSED_WARPS: Final = 8
_FUSED_STEPS: Final = 5
"""KDA's fused decode: a CTA owns a head, 128 x 128 in float32, after the chains of a convolution;
7.3 us with one head an SM on H100 (vllm-0.1.dev19262, read 2026-11-27)."""

_HOST_PACE: Final = (("sglang-0.5.10", 2.0), ("sglang", 1.25), ("trtllm", 1.27), ("vllm", 1.03))
"""Smallest replay of a one-kernel graph over that of the chip's specification, by engine: host and
CUDA version of its harness (aiconfigurator-core 0.12.0, read 2026-11-27: H100 4.1, 3.9 and 3.3 us,
L40S 4.75, 4.9 and 4.05 us; A100 6.6 us)."""


def ssm_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for a kernel we do not know."""
    if row["family"] not in ("gdn", "kda") and "conv1d" not in row["kernel"]:
        raise UnpredictableError(f"no kernel {row['family']} {row['kernel']}")
    operators = _operators(row)
    read = _lasting(t for op in operators for t in op.reads())
    written = _lasting(t for op in operators for t in op.writes())
    fused = row["kernel"].endswith("flashinfer") or row["kernel"].startswith("flashkda")
    scan = ScanVariant.FUSED if fused else ScanVariant.CHUNKED
    pace = next((pace for name, pace in _HOST_PACE if row["framework"].startswith(name)), 1.0)
    return KernelCase(
        operators=operators,
        engine=replace(BENCHMARK_ENGINE, scan=scan),
        warm=tuple(t for t in read if t not in written),
        dirty=written,
        repeats=_IN_ONE_GRAPH if _many_in_graph(row) else 1,
        cached_code=row["phase"] == "generation",
        host_pace=pace,
    )


def _operators(row: Row) -> tuple[Operator, ...]:
    """Return what ran: a convolution, a step or scan, or both in one."""
    kernel = row["kernel"]
    live = number(row, "batch") - _skips_first(row)
    emitter = _emitter(row, max(1, live))
    net = _net(row)
    if not live:
        out = emitter.activation("out", net.n_v_heads * net.v_dim)
        emitter.elementwise("padding", "padding", part="benchmark", reads=(), writes=(out,), flop=0)
        return emitter.operators()
    fused = "fused_kda" in kernel or "kda_fused" in kernel
    if "conv1d" in kernel or fused:
        channels = _channels(row, net)
        source = emitter.activation("conv_in", channels)
        CausalConv(channels=channels, kernel=net.kernel, bias=False).emit(
            emitter, source, part="benchmark"
        )
    if "conv1d" not in kernel:
        gates = net.n_v_heads * (1 if row["family"] == "gdn" else net.k_dim)
        inputs = (
            emitter.activation("qkv", 2 * net.n_k_heads * net.k_dim + net.n_v_heads * net.v_dim),
            emitter.activation("gates", gates + net.n_v_heads),
        )
        out = emitter.activation("out", net.n_v_heads * net.v_dim)
        net.recurrence().emit(emitter, inputs, out, part="benchmark")
    operators = tuple(_as_stored(op, row) for op in emitter.operators())
    return (_in_one(*operators),) if fused else operators


def _in_one(conv: Operator, step: Operator) -> StateUpdate:
    """Return the kernel that convolves its input before a recurrent step, and norms after it."""
    if not isinstance(conv, StateUpdate) or not isinstance(step, StateUpdate):
        raise UnpredictableError("a fused step of decode, but not in decode")
    _qkv, *gates = step.inputs
    return replace(
        step,
        inputs=(*conv.inputs, conv.state, *gates),
        outputs=(*step.outputs, conv.state),
        vector_flop=conv.vector_flop + step.vector_flop,
        sfu_ops=conv.sfu_ops + step.sfu_ops,
        tile_bytes=_FUSED_TILE_BYTES,
        warps=_FUSED_WARPS,
        extra_steps=_FUSED_STEPS,
    )


def _emitter(row: Row, batch: int) -> Emitter:
    q_len = 1 if row["phase"] == "generation" else number(row, "seq_len")
    return Emitter(
        StepShape(
            batch=batch,
            q_len=q_len,
            context=q_len,
            weight_format=BF16,
            kv_format=KV_FORMATS["bf16"],
            merge_projections=True,
        )
    )


def _net(row: Row) -> GatedDeltaNet:
    return GatedDeltaNet(
        hidden=number(row, "d_model"),
        n_k_heads=number(row, "n_k_heads"),
        n_v_heads=number(row, "n_v_heads"),
        k_dim=number(row, "k_dim"),
        v_dim=number(row, "v_dim"),
        kernel=number(row, "d_conv"),
    )


def _out_of_place(row: Row) -> bool:
    return row["framework"].startswith(("trtllm", "sglang-0.5.10"))


def _skips_first(row: Row) -> bool:
    decodes = row["phase"] == "generation" and not row["kernel"].startswith("fused_kda")
    return decodes and row["family"] == "kda" and row["framework"].startswith("vllm")


def _many_in_graph(row: Row) -> bool:
    if row["family"] != "gdn":
        return False
    vllm = row["framework"].startswith("vllm-0.24") and row["phase"] == "generation"
    return vllm or row["framework"].startswith("sglang-0.5.14")


def _channels(row: Row, net: GatedDeltaNet) -> int:
    if row["family"] == "gdn" and _out_of_place(row):
        return net.n_k_heads * net.k_dim
    return 2 * net.n_k_heads * net.k_dim + net.n_v_heads * net.v_dim


def _as_stored(op: Operator, row: Row) -> Operator:
    """Return a recurrent step or scan with the states that the row's engine reads and writes."""
    if not isinstance(op, StateUpdate):
        return _scan_as_stored(op, row) if isinstance(op, ChunkedScan) else op
    if op.name == "conv":
        sglang = row["family"] == "gdn" and row["framework"].startswith("sglang")
        return replace(op, turn_steps=_SGLANG_CONV_STEPS) if sglang else op
    if row["kernel"] == "fused_recurrent_kda_packed_decode" and row["framework"].startswith("vllm"):
        return replace(op, warps=_PACKED_KDA_WARPS)
    if row["kernel"].startswith("flashinfer"):
        state = replace(op.state, size_bytes=op.state.size_bytes // 2)
        return replace(op, state=state, tile_bytes=_TILE_BYTES_16_BITS, warps=_FLASHINFER_WARPS)
    if not _out_of_place(row):
        return op
    old = replace(op.state, size_bytes=op.state.size_bytes // 2)
    new = replace(op.state, name="new_state")
    return replace(op, state=old, new_state=new, tile_bytes=_NARROW_TILE_BYTES)


def _scan_as_stored(op: ChunkedScan, row: Row) -> ChunkedScan:
    norms = row["framework"].startswith("sglang") or row["family"] == "kda"
    scan = replace(op, channel_gates=row["family"] == "kda", norms=norms)
    if row["framework"].startswith("trtllm"):
        # Its harness gives no initial state and asks for no final one: a byte stands for each.
        return replace(scan, state=replace(op.state, size_bytes=op.batch * op.n_heads))
    return scan


def _lasting(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Return the states and the weights."""
    kinds = (Traffic.STATE, Traffic.WEIGHTS)
    return tuple({t.name: t for t in tensors if t.traffic in kinds}.values())
