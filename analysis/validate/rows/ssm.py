"""Rows of ssm.csv: the short convolution, the recurrent step and the chunked scan.

What the columns hide (docs/decisions/0016): recent harnesses put many repeats of a kernel into one
graph (floors of 1.5 us, less than a graph-to-graph gap); TensorRT-LLM and early SGLang read a
state of 32 bits and write one of 16 elsewhere, in tiles of 8 values; they timed the GDN convolution
on the channels of one projection, whatever the number of value heads; KDA's fused decode convolves
too.
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

_IN_ONE_GRAPH: Final = 20
"""Repeats in one graph of recent GDN harnesses; any number above a few gives the same time."""

_NARROW_TILE_BYTES: Final = 4096
"""128 keys x 8 values of 32 bits."""


def ssm_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for a kernel we do not know."""
    if row["family"] not in ("gdn", "kda") and "conv1d" not in row["kernel"]:
        raise UnpredictableError(f"no kernel {row['family']} {row['kernel']}")
    emitter = _emitter(row)
    net = _net(row)
    kernel = row["kernel"]
    if "conv1d" in kernel or "fused_kda" in kernel or "kda_fused" in kernel:
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
    read = _states(t for op in operators for t in op.reads())
    written = _states(t for op in operators for t in op.writes())
    fused = row["kernel"].endswith("flashinfer") or row["kernel"].startswith("flashkda")
    scan = ScanVariant.FUSED if fused else ScanVariant.CHUNKED
    return KernelCase(
        operators=operators,
        engine=replace(BENCHMARK_ENGINE, scan=scan),
        warm=tuple(t for t in read if t not in written),
        dirty=written,
        repeats=_IN_ONE_GRAPH if _many_in_graph(row) else 1,
        cached_code=_many_in_graph(row),
    )


def _emitter(row: Row) -> Emitter:
    q_len = 1 if row["phase"] == "generation" else number(row, "seq_len")
    return Emitter(
        StepShape(
            batch=number(row, "batch"),
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


def _many_in_graph(row: Row) -> bool:
    recent = row["framework"].startswith(("vllm-0.24", "sglang-0.5.14"))
    return recent and row["family"] == "gdn" and row["phase"] == "generation"


def _channels(row: Row, net: GatedDeltaNet) -> int:
    if row["family"] == "gdn" and _out_of_place(row):
        return net.n_k_heads * net.k_dim
    return 2 * net.n_k_heads * net.k_dim + net.n_v_heads * net.v_dim


def _as_stored(op: Operator, row: Row) -> Operator:
    """Return a recurrent step with the states that the row's engine reads and writes."""
    if isinstance(op, ChunkedScan):
        return replace(op, channel_gates=row["family"] == "kda")
    if not isinstance(op, StateUpdate) or op.name == "conv" or not _out_of_place(row):
        return op
    new = replace(op.state, name="new_state", size_bytes=op.state.size_bytes // 2)
    return replace(op, new_state=new, tile_bytes=_NARROW_TILE_BYTES)


def _states(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return tuple({t.name: t for t in tensors if t.traffic is Traffic.STATE}.values())
