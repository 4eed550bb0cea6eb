"""Rows of mla_decode.csv: latent attention, and the two batched GEMMs that absorb W_UK and W_UV.

Before the attention every head's query (128 values without position) is multiplied into the
latent space, after it every head's latent output (kv_lora values) back to 128 values
(DeepSeek-V2, arXiv 2405.04434, appendix B).
"""

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
from analysis.validate.chips import is_before_hopper
from analysis.validate.rows.attention import kv_format
from sim.kernel.engine import LatentVariant
from sim.kernel.formats import BF16, WEIGHT_FORMATS
from sim.kernel.operators import Elementwise, GroupedGemm, MlaAttention, Tensor, Traffic

_HEAD_DIM: Final = 128


def mla_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for an operation we do not know."""
    match row["op"]:
        case "mla_decode_attn":
            return _attention(row)
        case "mla_gen_pre_bmm":
            return _absorbed(row, n=number(row, "kv_lora"), k=_HEAD_DIM)
        case "mla_gen_post_bmm":
            return _absorbed(row, n=_HEAD_DIM, k=number(row, "kv_lora"))
        case other:
            raise UnpredictableError(f"no MLA operation {other}")


def _absorbed(row: Row, *, n: int, k: int) -> KernelCase:
    """Return one batched product; fp8 rows quantise their bf16 activations in blocks first."""
    heads, batch = number(row, "n_q_heads"), number(row, "batch")
    fp8 = row["dtype_kv"] == "fp8"
    fmt = WEIGHT_FORMATS["fp8_block"] if fp8 else BF16
    weights = Tensor(name="w", size_bytes=fmt.bytes_of(heads * n * k), traffic=Traffic.WEIGHTS)
    values = heads * batch * k
    a, out = activation("a", 2 * values), activation("out", 2 * heads * batch * n)
    quantised = activation("a_fp8", values + values // 32)
    quantise = Elementwise(
        name="quantise",
        part="benchmark",
        kind="quantise",
        inputs=(a,),
        outputs=(quantised,),
        read_bytes=(a.size_bytes,),
        written_bytes=(quantised.size_bytes,),
        vector_flop=4 * values,
    )
    op = GroupedGemm(
        name="bmm",
        part="benchmark",
        tokens_per_expert=(batch,) * heads,
        n=n,
        k=k,
        a=quantised if fp8 else a,
        experts=weights,
        out=out,
        weight_format=fmt,
    )
    return KernelCase(
        operators=(quantise, op) if fp8 else (op,),
        warm=(weights,) if row["l2"] == "warm" else (),
        dirty=(out,),
    )


def _attention(row: Row) -> KernelCase:
    batch, context, heads = (number(row, key) for key in ("batch", "context", "n_q_heads"))
    lora, rope = number(row, "kv_lora"), number(row, "rope_dim")
    latent = _variant(row)
    # The context kernel has no fp8 latent cache: fp8 rows take as long as bf16 rows.
    fmt = kv_format("bf16" if latent is LatentVariant.TILED else row["dtype_kv"])
    kv = Tensor(
        name="kv", size_bytes=fmt.bytes_of(batch * context, lora + rope), traffic=Traffic.KV
    )
    new = activation("new_kv", 2 * batch * (lora + rope))
    append = Elementwise(
        name="append",
        part="benchmark",
        kind="kv_append",
        inputs=(new,),
        outputs=(kv,),
        read_bytes=(new.size_bytes,),
        written_bytes=(fmt.bytes_of(batch, lora + rope),),
        vector_flop=0,
    )
    attention = MlaAttention(
        name="attention",
        part="benchmark",
        batch=batch,
        q_len=1,
        context=context,
        n_heads=heads,
        kv_lora=lora,
        rope_dim=rope,
        q=activation("q", 2 * batch * heads * (lora + rope)),
        kv=kv,
        out=activation("out", 2 * batch * heads * lora),
        kv_format=fmt,
        kv_read_bytes=kv.size_bytes,
    )
    return KernelCase(
        operators=(append, attention),
        engine=replace(BENCHMARK_ENGINE, latent=latent),
        warm=(kv, attention.q),
        dirty=(attention.out,),
    )


def _variant(row: Row) -> LatentVariant:
    """Return the kernel that a row's engine has for its chip."""
    engine = engine_name(row)
    if engine == "trtllm" and row["framework"].startswith("trtllm-1.0"):
        return LatentVariant.TILED
    if engine == "sglang" and is_before_hopper(row):
        return LatentVariant.GROUPED
    return LatentVariant.FLASH_MLA
