"""Shared strategies: small sane chips, random kernels, L2 states that fit, real-looking operators.

Sizes are chosen so that a run takes milliseconds, and ratios (bytes in flight, bandwidth per SM,
latency) so that every resource is the bottleneck somewhere.
"""

from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import accumulate

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from sim.hardware.address_map import AddressMap, EvenMap, InterleavedMap
from sim.hardware.placement import KV_PAGES
from sim.hardware.residency import L2State, Resident
from sim.hardware.spec import ChipSpec, load_chip
from sim.kernel.engine import AttentionVariant, Engine, LaunchMode
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS, WeightFormat
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.layout import KvTokens, Layout, Slices
from sim.kernel.operators import (
    Attention,
    ChunkedScan,
    Elementwise,
    Gemm,
    GroupedGemm,
    MixedAttention,
    MlaAttention,
    Operator,
    StateUpdate,
    Tensor,
    Traffic,
)
from sim.resources import chip_dirs

NS = 1000
KIB = 1024
GB = 10**9
TFLOP = 10**12
PIECE_BYTES = 32 * KIB

Launch = tuple[ChipSpec, Kernel, L2State]

ENGINE = Engine(
    name="test",
    launch=LaunchMode.CUDA_GRAPH,
    attention=AttentionVariant.FLASH_DECODING,
    fusions=(),
    merge_projections=True,
    host_time_ps=0,
    kv_block_tokens=16,
)


@cache
def real_chip(name: str) -> ChipSpec:
    """Return a shipped chip, read once."""
    return load_chip(name, chip_dirs())


def small_chip(
    *,
    sm_count: int = 8,
    channels: int = 8,
    hbm_gb_per_s: int = 200,
    l2_gb_per_s: int = 600,
    l2_bytes: int = 1024 * KIB,
) -> ChipSpec:
    """Return an H100 cut down to a few SMs and channels."""
    return replace(
        real_chip("h100-sxm"),
        name="small",
        title="",
        aliases=(),
        notes=(),
        provenance={},
        sm_count=sm_count,
        pseudo_channels=channels,
        hbm_bytes_per_s=hbm_gb_per_s * GB,
        l2_bytes_per_s=l2_gb_per_s * GB,
        l2_bytes=l2_bytes,
        tensor_flop_per_s={"bf16": sm_count * 7 * TFLOP, "fp8": sm_count * 14 * TFLOP},
        vector_flop_per_s=sm_count * TFLOP // 2,
    )


@st.composite
def chips(draw: DrawFn) -> ChipSpec:
    """Draw a chip of 4 to 12 SMs and 4 to 16 channels with consistent numbers."""
    base = small_chip(
        sm_count=draw(st.integers(4, 12)),
        channels=draw(st.integers(4, 16)),
        hbm_gb_per_s=draw(st.integers(60, 700)),
        l2_bytes=draw(st.integers(64, 4096)) * KIB,
    )
    read, copy, tile = sorted(
        draw(st.lists(st.integers(60, 98), min_size=3, max_size=3)), reverse=True
    )
    l2_latency_ns = draw(st.integers(80, 350))
    return replace(
        base,
        clock_hz=draw(st.integers(900, 2500)) * 10**6,
        l2_bytes_per_s=base.hbm_bytes_per_s * draw(st.integers(11, 50)) // 10,
        l2_latency_ps=l2_latency_ns * NS,
        hbm_latency_ps=(l2_latency_ns + draw(st.integers(50, 400))) * NS,
        step_latency_ps=draw(st.integers(0, 150)) * NS,
        kernel_start_ps=draw(st.integers(0, 1000)) * NS,
        graph_replay_ps=0,
        read_efficiency=Fraction(read, 100),
        copy_efficiency=Fraction(copy, 100),
        tile_efficiency=Fraction(tile, 100),
        sustained_fraction=Fraction(draw(st.integers(50, 100)), 100),
        interleave_bytes=draw(st.sampled_from((256, 1024, 4096))),
    )


@st.composite
def address_maps(draw: DrawFn, spec: ChipSpec) -> AddressMap:
    """Draw one of the address maps of a chip."""
    n_channels = spec.pseudo_channels
    chunk_bytes = draw(st.sampled_from((256, 4096, 65536)))
    if draw(st.booleans()):
        return InterleavedMap(
            n_channels=n_channels,
            chunk_bytes=chunk_bytes,
            hashed=draw(st.booleans()),
            pages=draw(st.sampled_from(KV_PAGES)),
            seed=draw(st.integers(0, 3)),
        )
    return EvenMap(n_channels=n_channels)


@st.composite
def kv_tokens(draw: DrawFn) -> KvTokens:
    """Draw a few tokens of a few sequences, in blocks of any size."""
    return KvTokens(
        sequences=draw(st.integers(1, 9)),
        first_token=draw(st.integers(0, 40)),
        tokens=draw(st.integers(1, 90)),
        block_tokens=draw(st.integers(1, 32)),
        token_bytes=tuple(draw(st.lists(st.integers(1, 700), min_size=1, max_size=2))),
    )


@st.composite
def slices(draw: DrawFn) -> Slices:
    """Draw some slices of a tensor."""
    count = draw(st.integers(1, 20))
    chosen = draw(st.sets(st.integers(0, count - 1), min_size=1))
    return Slices(
        count=count, chosen=tuple(sorted(chosen)), slice_bytes=draw(st.integers(1, 30_000))
    )


def layouts() -> st.SearchStrategy[Layout]:
    """Draw a layout of a segment."""
    return st.one_of(kv_tokens(), slices())


@st.composite
def segments(draw: DrawFn) -> tuple[Segment, ...]:
    """Draw one to four segments of any class, tiled or not."""
    return tuple(
        Segment(
            name=f"t{i}",
            size_bytes=draw(st.integers(1, 2048 * KIB)),
            traffic=draw(st.sampled_from(Traffic)),
            tiled=draw(st.booleans()),
            layout=draw(st.none() | layouts()),
        )
        for i in range(draw(st.integers(1, 4)))
    )


@st.composite
def phases(draw: DrawFn, n_segments: int) -> Phase:
    """Draw a phase with any mix of loads, stores, work, round trips and steps."""
    segment = st.integers(0, n_segments - 1)
    size = st.integers(0, PIECE_BYTES)
    loads = st.builds(Load, segment=segment, size_bytes=size, sharers=st.integers(1, 5))
    stores = st.builds(Store, segment=segment, size_bytes=size, in_place=st.booleans())
    return Phase(
        loads=tuple(draw(st.lists(loads, max_size=3))),
        stores=tuple(draw(st.lists(stores, max_size=2))),
        round_trips=draw(st.integers(0, 4)),
        steps=draw(st.integers(0, 10)),
        compute=draw(st.sampled_from(("bf16", "fp8"))),
        tensor_flop=draw(st.integers(0, 10**7)),
        vector_flop=draw(st.integers(0, 10**6)),
        sfu_ops=draw(st.integers(0, 10**4)),
        issue_clocks=draw(st.integers(0, 10**4)),
        overlapped=draw(st.booleans()),
    )


@st.composite
def kernels(
    draw: DrawFn,
    *,
    parts: tuple[Segment, ...] | None = None,
    max_kinds: int = 3,
    max_phases: int = 2,
    max_count: int = 24,
) -> Kernel:
    """Draw a kernel, over `parts` if given: a few kinds of CTA of a few phases each."""
    parts = parts or draw(segments())
    kinds = tuple(
        CtaKind(
            count=draw(st.integers(1, max_count)),
            phases=tuple(draw(st.lists(phases(len(parts)), min_size=1, max_size=max_phases))),
            buffer_bytes=draw(st.integers(4, 128)) * KIB,
        )
        for _ in range(draw(st.integers(1, max_kinds)))
    )
    return kernel_of(
        kinds,
        parts,
        ctas_per_sm=draw(st.integers(1, 4)),
        setup_round_trips=draw(st.integers(0, 3)),
    )


def kernel_of(
    kinds: tuple[CtaKind, ...],
    parts: tuple[Segment, ...],
    *,
    ctas_per_sm: int = 1,
    setup_round_trips: int = 0,
    name: str = "k",
) -> Kernel:
    """Return a kernel of these kinds and segments; its useful FLOP are those it issues."""
    flop = sum(k.count * p.tensor_flop for k in kinds for p in k.phases)
    return Kernel(
        name=name,
        operator="op",
        part="part",
        kinds=kinds,
        segments=parts,
        ctas_per_sm=ctas_per_sm,
        flop=flop,
        setup_round_trips=setup_round_trips,
    )


def uniform_kernel(count: int, phase: Phase, *parts: Segment, buffer_bytes: int) -> Kernel:
    """Return a kernel of `count` identical CTAs of one phase, two an SM."""
    kind = CtaKind(count=count, phases=(phase,), buffer_bytes=buffer_bytes)
    return kernel_of((kind,), parts, ctas_per_sm=2)


@st.composite
def l2_states(draw: DrawFn, spec: ChipSpec, kernel: Kernel) -> L2State:
    """Draw what earlier kernels left: bytes of this kernel's tensors and of others, in any order.

    Sizes are cuts of the capacity, so that the state fits exactly, or nearly, or by far.
    """
    names = [(s.name, s.traffic) for s in kernel.segments]
    names += [("", Traffic.WEIGHTS), ("other", Traffic.ACTIVATIONS), ("", Traffic.KV)]
    chosen = draw(st.lists(st.sampled_from(names), max_size=5, unique_by=lambda pair: pair))
    if not chosen:
        return ()
    weights = draw(st.lists(st.integers(1, 100), min_size=len(chosen), max_size=len(chosen)))
    room = spec.l2_bytes * draw(st.integers(1, 100)) // 100
    cuts = [0, *(room * total // sum(weights) for total in accumulate(weights))]
    state = []
    for (name, traffic), low, high in zip(chosen, cuts, cuts[1:], strict=False):
        dirty = draw(st.integers(0, high - low))
        state.append(
            Resident(name=name, traffic=traffic, resident_bytes=high - low, dirty_bytes=dirty)
        )
    return tuple(entry for entry in state if entry.resident_bytes)


@st.composite
def launches(draw: DrawFn) -> Launch:
    """Draw a chip, a kernel and what L2 holds when the kernel starts."""
    spec = draw(chips())
    kernel = draw(kernels())
    return spec, kernel, draw(l2_states(spec, kernel))


@st.composite
def chains(draw: DrawFn) -> tuple[ChipSpec, tuple[Kernel, ...], L2State]:
    """Draw a chip, kernels that share their tensors, and the L2 state before the first."""
    spec, parts = draw(chips()), draw(segments())
    chain = tuple(draw(st.lists(kernels(parts=parts, max_kinds=2), min_size=2, max_size=4)))
    return spec, chain, draw(l2_states(spec, chain[0]))


def activations(name: str, size_bytes: int) -> Tensor:
    """Return an activation tensor."""
    return Tensor(name=name, size_bytes=size_bytes, traffic=Traffic.ACTIVATIONS)


def gemm(m: int, n: int, k: int, fmt: WeightFormat = WEIGHT_FORMATS["bf16"]) -> Gemm:
    """Return out[m, n] = a[m, k] @ weight[n, k]^T."""
    width = 1 if fmt.quantises_activations else 2
    weight = Tensor(name="w", size_bytes=fmt.bytes_of(n * k), traffic=Traffic.WEIGHTS)
    return Gemm(
        name="gemm",
        part="mlp",
        m=m,
        n=n,
        k=k,
        a=activations("a", m * k * width),
        weight=weight,
        out=activations("out", m * n * 2),
        weight_format=fmt,
    )


def grouped_gemm(
    counts: tuple[int, ...], n: int, k: int, fmt: WeightFormat = WEIGHT_FORMATS["bf16"]
) -> GroupedGemm:
    """Return the GEMMs of experts that got `counts` tokens each."""
    size = len(counts) * fmt.bytes_of(n * k)
    tokens = sum(counts)
    return GroupedGemm(
        name="experts",
        part="moe",
        tokens_per_expert=counts,
        n=n,
        k=k,
        a=activations("a", tokens * k * 2),
        experts=Tensor(name="experts", size_bytes=size, traffic=Traffic.EXPERTS),
        out=activations("out", tokens * n * 2),
        weight_format=fmt,
    )


def attention(
    batch: int,
    context: int,
    n_q_heads: int,
    n_kv_heads: int,
    *,
    q_len: int = 1,
    dim: int = 128,
    window: int | None = None,
    kv: str = "bf16",
) -> Attention:
    """Return attention of `q_len` new tokens; only what the window shows is read."""
    fmt = KV_FORMATS[kv]
    seen = context if window is None else min(context, window + q_len - 1)
    vectors = 2 * batch * n_kv_heads
    cache = Tensor(name="kv", size_bytes=fmt.bytes_of(vectors * context, dim), traffic=Traffic.KV)
    size = batch * q_len * n_q_heads * dim * 2
    return Attention(
        name="attention",
        part="attention",
        batch=batch,
        q_len=q_len,
        context=context,
        n_q_heads=n_q_heads,
        n_kv_heads=n_kv_heads,
        qk_dim=dim,
        v_dim=dim,
        window=window,
        q=activations("q", size),
        kv=cache,
        out=activations("out", size),
        kv_format=fmt,
        kv_read_bytes=fmt.bytes_of(vectors * seen, dim),
    )


def mla(batch: int, context: int, n_heads: int) -> MlaAttention:
    """Return DeepSeek's latent attention in decode."""
    size = 2 * batch * context * 576
    return MlaAttention(
        name="mla",
        part="attention",
        batch=batch,
        q_len=1,
        context=context,
        n_heads=n_heads,
        kv_lora=512,
        rope_dim=64,
        q=activations("q", batch * n_heads * 576 * 2),
        kv=Tensor(name="kv", size_bytes=size, traffic=Traffic.KV),
        out=activations("out", batch * n_heads * 512 * 2),
        kv_format=KV_FORMATS["bf16"],
        kv_read_bytes=size,
    )


def elementwise(rows: int, width: int, kind: str = "norm") -> Elementwise:
    """Return a pass over `rows` x `width` 16-bit values: two tensors in, one out."""
    size = rows * width * 2
    return Elementwise(
        name=kind,
        part="norm",
        kind=kind,
        inputs=(activations("x", size), activations("y", size)),
        outputs=(activations("z", size),),
        read_bytes=(size, size),
        written_bytes=(size,),
        vector_flop=4 * rows * width,
        sfu_ops=rows,
    )


def state_update(batch: int, n_heads: int, head_bytes: int = 32 * KIB) -> StateUpdate:
    """Return one recurrent decode step over `head_bytes` of state a head."""
    size = batch * n_heads * head_bytes
    state = Tensor(name="state", size_bytes=size, traffic=Traffic.STATE)
    return StateUpdate(
        name="ssm",
        part="ssm",
        batch=batch,
        n_heads=n_heads,
        state=state,
        inputs=(activations("x", batch * n_heads * 256),),
        outputs=(activations("y", batch * n_heads * 128),),
        vector_flop=size,
        sfu_ops=batch * n_heads,
    )


def chunked_scan(batch: int, n_heads: int, q_len: int, chunk: int = 256) -> ChunkedScan:
    """Return a chunked recurrence of `q_len` tokens."""
    moved = batch * n_heads * q_len * 128
    state = Tensor(name="state", size_bytes=batch * n_heads * 32 * KIB, traffic=Traffic.STATE)
    return ChunkedScan(
        name="scan",
        part="ssm",
        batch=batch,
        n_heads=n_heads,
        q_len=q_len,
        chunk=chunk,
        state=state,
        inputs=(activations("x", 2 * moved),),
        outputs=(activations("y", moved),),
        tensor_flop=moved * chunk,
        vector_flop=moved,
        sfu_ops=moved // 64,
    )


WIDTHS = st.integers(1, 128).map(lambda i: 64 * i)
WEIGHTS = st.sampled_from(tuple(WEIGHT_FORMATS.values()))
HEADS = st.sampled_from(((8, 8), (32, 8), (40, 8), (64, 8), (16, 1), (71, 1), (24, 24)))

gemms: SearchStrategy[Gemm] = st.builds(gemm, st.integers(1, 512), WIDTHS, WIDTHS, WEIGHTS)


@st.composite
def grouped_gemms(draw: DrawFn) -> GroupedGemm:
    """Draw a grouped GEMM of 1 to 64 experts, of which at least one has tokens."""
    counts = draw(st.lists(st.integers(0, 96), min_size=1, max_size=64).filter(any))
    width = st.integers(1, 32).map(lambda i: 64 * i)
    return grouped_gemm(tuple(counts), draw(width), draw(width), draw(WEIGHTS))


@st.composite
def decode_attentions(draw: DrawFn) -> Attention:
    """Draw one decode step of attention."""
    n_q_heads, n_kv_heads = draw(HEADS)
    return attention(
        draw(st.integers(1, 48)),
        draw(st.integers(1, 12_000)),
        n_q_heads,
        n_kv_heads,
        dim=draw(st.sampled_from((64, 128, 256))),
        window=draw(st.none() | st.sampled_from((128, 1024, 4096))),
        kv=draw(st.sampled_from(tuple(KV_FORMATS))),
    )


@st.composite
def prefill_attentions(draw: DrawFn) -> Attention:
    """Draw a causal prefill, perhaps behind a cached prefix."""
    n_q_heads, n_kv_heads = draw(HEADS)
    q_len = draw(st.integers(2, 3000))
    context = q_len + draw(st.integers(0, 3000))
    return attention(draw(st.integers(1, 3)), context, n_q_heads, n_kv_heads, q_len=q_len)


def _named(op: Attention, name: str, buffer: str) -> Attention:
    """Return an attention with a cache of its own, whose queries and output lie in a buffer."""
    q, out = (replace(x, name=f"{buffer}.{x.name}") for x in (op.q, op.out))
    return replace(op, name=name, q=q, kv=replace(op.kv, name=f"{name}.kv"), out=out)


@st.composite
def mixed_attentions(draw: DrawFn) -> MixedAttention:
    """Draw a chunk of prefill beside one or two batches of decodes of the same heads."""
    chunk = draw(prefill_attentions().filter(lambda op: op.batch == 1))
    parts = [_named(chunk, "chunk", "chunk")]
    for i in range(draw(st.integers(1, 2))):
        batch, context = draw(st.integers(1, 48)), draw(st.integers(1, 12_000))
        decode = attention(batch, context, chunk.n_q_heads, chunk.n_kv_heads)
        parts.append(_named(decode, f"decode{i}", "decodes"))
    return MixedAttention(name="attention", part="attention", attentions=tuple(parts))


elementwises: SearchStrategy[Elementwise] = st.builds(
    elementwise,
    st.integers(1, 300),
    WIDTHS,
    st.sampled_from(("norm", "activation", "residual_add", "rope")),
)
state_updates: SearchStrategy[StateUpdate] = st.builds(
    state_update, st.integers(1, 48), st.integers(1, 96), st.sampled_from((4096, 32768, 65536))
)
mlas: SearchStrategy[MlaAttention] = st.builds(
    mla, st.integers(1, 48), st.integers(1, 9000), st.sampled_from((16, 64, 128))
)
scans: SearchStrategy[ChunkedScan] = st.builds(
    chunked_scan, st.integers(1, 4), st.integers(1, 96), st.integers(1, 3000)
)
decode_operators: SearchStrategy[Operator] = st.one_of(
    gemms, grouped_gemms(), decode_attentions(), elementwises, state_updates
)
operators: SearchStrategy[Operator] = st.one_of(
    decode_operators, prefill_attentions(), mixed_attentions(), mlas, scans
)


@st.composite
def whole_kernels(
    draw: DrawFn, *, max_kinds: int = 3, max_phases: int = 2, most_bytes: int = 4096 * KIB
) -> Kernel:
    """Draw a kernel whose loads and stores each cover a tensor of their own exactly once.

    Of the CTAs of a kind, groups of `sharers` read the same bytes; all tensors together have
    `most_bytes` at most.
    """
    parts: list[Segment] = []
    kinds: list[CtaKind] = []
    for _ in range(draw(st.integers(1, max_kinds))):
        sharers = draw(st.integers(1, 4))
        count = sharers * draw(st.integers(1, 10))
        base = draw(kernels(max_kinds=1, max_phases=max_phases))
        own: list[Phase] = []
        for phase in base.kinds[0].phases:
            room = most_bytes - sum(part.size_bytes for part in parts)
            cap = room // (count * (len(phase.loads) + len(phase.stores) or 1))
            loads: list[Load] = []
            for load in phase.loads:
                size = min(load.size_bytes, cap)
                loads.append(Load(segment=len(parts), size_bytes=size, sharers=sharers))
                parts.append(_tensor(draw, len(parts), count * size // sharers))
            stores: list[Store] = []
            for store in phase.stores:
                size = min(store.size_bytes, cap)
                stores.append(replace(store, segment=len(parts), size_bytes=size))
                parts.append(_tensor(draw, len(parts), count * size))
            own.append(replace(phase, loads=tuple(loads), stores=tuple(stores)))
        kinds.append(
            CtaKind(count=count, phases=tuple(own), buffer_bytes=base.kinds[0].buffer_bytes)
        )
    occupancy, setup = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    return kernel_of(tuple(kinds), tuple(parts), ctas_per_sm=occupancy, setup_round_trips=setup)


def _tensor(draw: DrawFn, index: int, size_bytes: int) -> Segment:
    traffic, tiled = draw(st.sampled_from(Traffic)), draw(st.booleans())
    return Segment(name=f"t{index}", size_bytes=size_bytes, traffic=traffic, tiled=tiled)
