"""Rows of attention_decode.csv, attention_prefill.csv and attention_mixed.csv.

Decode rows of inference engines include the append of the new keys and values to the cache. A KV
cache is read again by every replay, so it is warm if it fits L2. TensorRT-LLM's kernels launch
early where the chip can (programmatic dependent launch).
"""

from collections import defaultdict
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
from sim.kernel.engine import DecodeKernel, Engine, PrefillKernel, RowKernels
from sim.kernel.formats import KV_FORMATS, KvFormat
from sim.kernel.operators import Attention, Elementwise, MixedAttention, Tensor, Traffic

_SINK_HEAD_DIM: Final = 64
_PREFILL: Final = {
    "sglang": PrefillKernel.FLASH_ATTENTION_3,
    "trtllm": PrefillKernel.TENSORRT_LLM,
}
# vLLM captures graphs with room for so many splits of FlashAttention-3
# (`flash_attn_max_num_splits_for_cuda_graph`).
_GRAPH_SPLITS: Final = 32
# With an fp8 cache SGLang casts keys and values in kernels of their own; vLLM's FlashInfer graphs
# are planned with kernels for the largest batch. Floors of L40S: 7.6, 8.8 and 10.1 us, where a bf16
# cache takes 5.6 (aiconfigurator-core 0.12.0, read 2026-11-27).
_FP8_HELPERS: Final = defaultdict(
    lambda: 1, {"triton": 2, "flashinfer": 3, "vllm_flashinfer_fidecode": 4}
)
# SGLang 0.5.10 stores keys and values in kernels of their own, later versions in one.
_STORES_APART: Final = "sglang-0.5.10"
# vLLM's reshape_and_cache_flash: one block of up to 512 threads a token.
_APPEND: Final = RowKernels(threads=512, load_bytes=16)
# TensorRT-LLM computes sines, cosines and powers of every pair anew, in full precision: its kernel
# takes 2.5 (heads of 128) to 4.6 ps (64) for each rotated value on L40S (aiconfigurator-core
# 0.12.0, read 2026-11-27).
_ROTATION_FLOP: Final = 230
_KV: Final = {"bf16": "bf16", "fp16": "fp16", "fp8": "fp8", "int8": "int8"}


def kv_format(dtype: str) -> KvFormat:
    """Return the KV format of a column. Raises UnpredictableError if there is none."""
    if dtype not in _KV:
        raise UnpredictableError(f"no KV format for {dtype}")
    return KV_FORMATS[_KV[dtype]]


def decode_case(row: Row) -> KernelCase:
    """Return what a row of attention_decode.csv timed."""
    profiled = row["source"].startswith("LLMServingSim")
    # LLMServingSim's contexts leave out the new token: a context of 128 costs a second block.
    context = number(row, "context") + profiled
    attention, append = attention_operators(
        row, batch=number(row, "batch"), q_len=1, context=context, fmt=kv_format(row["dtype_kv"])
    )
    kv_read = Tensor(name=attention.kv.name, size_bytes=attention.kv_read_bytes, traffic=Traffic.KV)
    return KernelCase(
        operators=(attention,) if profiled else (append, attention),
        engine=_appending(_decode_engine(row), row),
        timing=Timing.KERNELS if profiled else Timing.GRAPH,
        # Between two runs of a model's layer its weights and other layers pass through L2.
        warm=() if profiled else (kv_read,),
        early_launch=engine_name(row) == "trtllm",
    )


def prefill_case(row: Row) -> KernelCase:
    """Return what a row of attention_prefill.csv timed."""
    seq_len, prefix = number(row, "seq_len"), number(row, "prefix_len")
    attention, append = attention_operators(
        row, batch=number(row, "batch"), q_len=seq_len, context=seq_len + prefix,
        fmt=kv_format(row["dtype"]),
    )  # fmt: skip
    profiled = row["source"].startswith("LLMServingSim")
    return KernelCase(
        operators=(attention,) if profiled else (append, attention),
        engine=replace(
            _appending(BENCHMARK_ENGINE, row),
            prefill=_prefill_kernel(row),
            decode_helpers=int(engine_name(row) == "vllm" and not profiled),
        ),
        timing=Timing.KERNELS if profiled else Timing.GRAPH,
        early_launch=engine_name(row) == "trtllm",
    )


def _appending(engine: Engine, row: Row) -> Engine:
    """Return the engine with vLLM's append, which gives every token a CTA."""
    return replace(engine, row_kernels=_APPEND) if engine_name(row) == "vllm" else engine


def _decode_engine(row: Row) -> Engine:
    """Return the engine of a decode row, by its framework and kernel.

    vLLM's FlashAttention-3 schedules its splits in a kernel of its own and always merges; fp8
    caches make it and SGLang quantise the query, too. Others may run TensorRT-LLM's kernel.
    """
    name, kernel = engine_name(row), row.get("kernel", "")
    fp8 = row["dtype_kv"] == "fp8"
    if "flashinfer" in kernel or kernel == "triton":
        helpers = _FP8_HELPERS[kernel] if fp8 else 0
        return replace(BENCHMARK_ENGINE, decode=DecodeKernel.FLASHINFER, decode_helpers=helpers)
    if kernel == "torch_flow" or "trtllm" in kernel:
        return replace(BENCHMARK_ENGINE, decode=DecodeKernel.XQA)
    if name == "sglang":
        helpers = int(fp8) + int(row["framework"].startswith(_STORES_APART))
        return replace(
            BENCHMARK_ENGINE, decode=DecodeKernel.FLASH_ATTENTION_3, decode_helpers=helpers
        )
    scheduled = kernel.endswith("fa3")
    helpers = int(scheduled) + int(fp8)
    splits = _GRAPH_SPLITS if scheduled else BENCHMARK_ENGINE.decode_splits
    return replace(BENCHMARK_ENGINE, decode_helpers=helpers, decode_splits=splits)


def _prefill_kernel(row: Row) -> PrefillKernel:
    """Return the kernel of the row's engine: SGLang runs gpt-oss (heads of 64, sinks) in Triton."""
    if engine_name(row) == "sglang" and number(row, "head_dim") == _SINK_HEAD_DIM:
        return PrefillKernel.TRITON
    return _PREFILL.get(engine_name(row), PrefillKernel.FLASH_ATTENTION)


def mixed_case(row: Row) -> KernelCase:
    """Return what a row of attention_mixed.csv timed: one chunk of prefill beside decodes.

    Its contexts leave out the new token of a decode.
    """
    chunk, cached = number(row, "prefill_chunk"), number(row, "kv_prefill")
    parts: list[Attention] = []
    if chunk:
        prefill, _ = attention_operators(
            row, batch=1, q_len=chunk, context=cached + chunk, fmt=KV_FORMATS["bf16"]
        )
        parts.append(prefill)
    if number(row, "n_decode"):
        decode, _ = attention_operators(
            row, batch=number(row, "n_decode"), q_len=1, context=number(row, "kv_decode") + 1,
            fmt=KV_FORMATS["bf16"], name="decode",
        )  # fmt: skip
        parts.append(decode)
    mixed = MixedAttention(name="attention", part="benchmark", attentions=tuple(parts))
    return KernelCase(operators=(mixed,), timing=Timing.KERNELS)


def attention_operators(
    row: Row, *, batch: int, q_len: int, context: int, fmt: KvFormat, name: str = "attention"
) -> tuple[Attention, Elementwise]:
    """Return the attention of a batch of equal sequences, and the append of its new tokens."""
    heads, kv_heads, dim = (number(row, key) for key in ("n_q_heads", "n_kv_heads", "head_dim"))
    window = number(row, "window") or None
    visible = context if window is None else min(context, window + q_len - 1)
    vectors = 2 * batch * kv_heads
    q_bytes = 2 * batch * q_len * heads * dim
    new = activation(f"{name}.new_kv", 2 * vectors * q_len * dim)
    kv_bytes = fmt.bytes_of(vectors * context, dim)
    kv = Tensor(name=f"{name}.kv", size_bytes=kv_bytes, traffic=Traffic.KV)
    append = Elementwise(
        name=f"{name}.append",
        part="benchmark",
        kind="kv_append",
        inputs=(new,),
        outputs=(kv,),
        read_bytes=(new.size_bytes,),
        written_bytes=(fmt.bytes_of(vectors * q_len, dim),),
        vector_flop=0,
        rows=batch * q_len,
    )
    attention = Attention(
        name=name,
        part="benchmark",
        batch=batch,
        q_len=q_len,
        context=context,
        n_q_heads=heads,
        n_kv_heads=kv_heads,
        qk_dim=dim,
        v_dim=dim,
        window=window,
        q=activation(f"{name}.q", q_bytes),
        kv=kv,
        out=activation(f"{name}.out", q_bytes),
        kv_format=fmt,
        kv_read_bytes=fmt.bytes_of(vectors * visible, dim),
    )
    return attention, _rotating(append, attention) if engine_name(row) == "trtllm" else append


def _rotating(append: Elementwise, attention: Attention) -> Elementwise:
    """Return TensorRT-LLM's append, which also rotates queries and keys (RoPE)."""
    q = attention.q
    unrotated = activation(f"{q.name}.unrotated", q.size_bytes)
    values = (q.size_bytes + append.read_bytes[0] // 2) // 2
    return replace(
        append,
        inputs=(*append.inputs, unrotated),
        outputs=(*append.outputs, q),
        read_bytes=(*append.read_bytes, q.size_bytes),
        written_bytes=(*append.written_bytes, q.size_bytes),
        vector_flop=_ROTATION_FLOP * values,
    )
