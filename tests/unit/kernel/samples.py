"""Operators in round numbers and two chips to lower them for."""

from sim.kernel.collective import Collective, Op
from sim.kernel.engine import (
    AttentionVariant,
    DecodeKernel,
    Engine,
    LaunchMode,
    PrefillKernel,
)
from sim.kernel.formats import BF16, KV_FORMATS, WeightFormat
from sim.kernel.operators import (
    Attention,
    Elementwise,
    Exchange,
    Gemm,
    GroupedGemm,
    MlaAttention,
    Tensor,
    Traffic,
)
from sim.kernel.target import Target

AMPERE = Target(
    sm_count=108,
    shared_memory_bytes=164 * 1024,
    max_ctas=32,
    bulk_copy=False,
    compute_formats=frozenset({"bf16", "fp16", "int8"}),
)
HOPPER = Target(
    sm_count=132,
    shared_memory_bytes=228 * 1024,
    max_ctas=32,
    bulk_copy=True,
    compute_formats=frozenset({"bf16", "fp16", "fp8", "int8"}),
)


def engine(
    attention: AttentionVariant = AttentionVariant.FLASH_DECODING,
    *,
    decode: DecodeKernel = DecodeKernel.FLASH_ATTENTION,
    prefill: PrefillKernel = PrefillKernel.FLASH_ATTENTION,
    decode_helpers: int = 0,
    decode_splits: int = 128,
) -> Engine:
    """Return an engine without fusions whose attention kernels are given."""
    return Engine(
        name="toy",
        launch=LaunchMode.CUDA_GRAPH,
        attention=attention,
        fusions=(),
        merge_projections=False,
        host_time_ps=0,
        kv_block_tokens=16,
        decode=decode,
        prefill=prefill,
        decode_helpers=decode_helpers,
        decode_splits=decode_splits,
    )


def activation(name: str, size_bytes: int) -> Tensor:
    """Return an activation."""
    return Tensor(name=name, size_bytes=size_bytes, traffic=Traffic.ACTIVATIONS)


def gemm(m: int, n: int, k: int, weight_format: WeightFormat = BF16) -> Gemm:
    """Return a GEMM; activations are as wide as its format multiplies them."""
    width = 1 if weight_format.quantises_activations else 2
    return Gemm(
        name="gemm",
        part="mlp",
        m=m,
        n=n,
        k=k,
        a=activation("a", m * k * width),
        weight=Tensor(
            name="weight", size_bytes=weight_format.bytes_of(n * k), traffic=Traffic.WEIGHTS
        ),
        out=activation("out", 2 * m * n),
        weight_format=weight_format,
    )


def grouped_gemm(
    tokens: tuple[int, ...], n: int, k: int, weight_format: WeightFormat = BF16
) -> GroupedGemm:
    """Return the GEMMs of a mixture of experts."""
    rows = sum(tokens)
    width = 1 if weight_format.quantises_activations else 2
    return GroupedGemm(
        name="experts",
        part="moe",
        tokens_per_expert=tokens,
        n=n,
        k=k,
        a=activation("a", rows * k * width),
        experts=Tensor(
            name="experts",
            size_bytes=len(tokens) * weight_format.bytes_of(n * k),
            traffic=Traffic.EXPERTS,
        ),
        out=activation("out", 2 * rows * n),
        weight_format=weight_format,
    )


def attention(
    *,
    batch: int = 1,
    q_len: int = 1,
    context: int = 4096,
    heads: tuple[int, int] = (32, 8),
    dim: int = 128,
    window: int | None = None,
    kv_format: str = "bf16",
) -> Attention:
    """Return an attention with (query, KV) heads whose keys and values are `dim` wide."""
    n_q, n_kv = heads
    tokens = batch * q_len
    fmt = KV_FORMATS[kv_format]
    seen = context if window is None else min(context, window + q_len - 1)
    return Attention(
        name="attention",
        part="attention",
        batch=batch,
        q_len=q_len,
        context=context,
        n_q_heads=n_q,
        n_kv_heads=n_kv,
        qk_dim=dim,
        v_dim=dim,
        window=window,
        q=activation("q", 2 * tokens * n_q * dim),
        kv=Tensor(
            name="kv",
            size_bytes=fmt.bytes_of(2 * batch * n_kv * context, dim),
            traffic=Traffic.KV,
        ),
        out=activation("attention_out", 2 * tokens * n_q * dim),
        kv_format=fmt,
        kv_read_bytes=fmt.bytes_of(2 * batch * n_kv * seen, dim),
    )


def mla(*, batch: int = 1, q_len: int = 1, context: int = 4096, n_heads: int = 128) -> MlaAttention:
    """Return the latent attention of DeepSeek-V3: 512 + 64 values a token."""
    tokens = batch * q_len
    size = 2 * batch * context * 576
    return MlaAttention(
        name="attention",
        part="attention",
        batch=batch,
        q_len=q_len,
        context=context,
        n_heads=n_heads,
        kv_lora=512,
        rope_dim=64,
        q=activation("q", 2 * tokens * n_heads * 576),
        kv=Tensor(name="kv", size_bytes=size, traffic=Traffic.KV),
        out=activation("attention_out", 2 * tokens * n_heads * 512),
        kv_format=KV_FORMATS["bf16"],
        kv_read_bytes=size,
    )


def elementwise(
    kind: str,
    reads: dict[str, int],
    writes: dict[str, int],
    *,
    name: str | None = None,
    flop: int = 0,
    sfu: int = 0,
) -> Elementwise:
    """Return a pass over activations, given as bytes by name."""
    return Elementwise(
        name=name or kind,
        part="mlp",
        kind=kind,
        inputs=tuple(activation(n, size) for n, size in reads.items()),
        outputs=tuple(activation(n, size) for n, size in writes.items()),
        read_bytes=tuple(reads.values()),
        written_bytes=tuple(writes.values()),
        vector_flop=flop,
        sfu_ops=sfu,
    )


def exchange(op: Op = Op.ALL_REDUCE, ranks: int = 2, size_bytes: int = 4096) -> Exchange:
    """Return a collective that sums `x` in place, or makes `y` of it."""
    x = activation("x", size_bytes)
    y = x if op is Op.ALL_REDUCE else activation("y", size_bytes)
    what = Collective(op=op, ranks=ranks, per_node=ranks, size_bytes=size_bytes)
    return Exchange(name="exchange", part="mlp", what=what, inputs=(x,), outputs=(y,))
