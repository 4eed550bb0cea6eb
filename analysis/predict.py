"""Predictions of measured rows: the kernels a benchmark timed, run on the simulated device.

A benchmark that replays a CUDA graph of one operator measures the operator's kernels, the gaps
between them and one graph-to-graph gap. Weights that rotate over copies are cold; a KV cache that
is read again in every replay is warm if it fits L2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.hardware.gpu import Gpu
from sim.hardware.residency import L2State, Resident
from sim.hardware.spec import ChipSpec
from sim.kernel.engine import AttentionVariant, Engine, LaunchMode
from sim.kernel.formats import KvFormat, WeightFormat
from sim.kernel.operators import Attention, Elementwise, Gemm, Operator, Tensor, Traffic
from sim.model.architecture import Model
from sim.model.step import build_step
from sim.run.device import Device, warm_activations
from sim.run.memo import Memo
from sim.run.step import run_step
from sim.units import PS_PER_US

_GEMMS_A_GRAPH = 6
BENCHMARK_ENGINE = Engine(
    name="benchmark",
    launch=LaunchMode.CUDA_GRAPH,
    attention=AttentionVariant.FLASH_DECODING,
    fusions=(),
    merge_projections=True,
    host_time_ps=0,
    kv_block_tokens=16,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeAttentionRow:
    """The shape of a measured decode attention; `warm` if its KV was read just before."""

    batch: int
    context: int
    n_q_heads: int
    n_kv_heads: int
    head_dim: int
    window: int | None
    kv_format: KvFormat
    warm: bool


def gemm_us(chip: ChipSpec, shape: tuple[int, int, int], fmt: WeightFormat) -> float:
    """Return the predicted time of a GEMM of (m, n, k) with cold weights, in us.

    It is one of six in a graph, as vLLM's and SGLang's GEMMs are benchmarked.
    """
    op = gemm(shape, fmt)
    return _graph_us([op], chip, warm_activations(op, chip.l2_bytes), repeats=_GEMMS_A_GRAPH)


def gemm(shape: tuple[int, int, int], fmt: WeightFormat) -> Gemm:
    """Return the operator of a GEMM of (m, n, k)."""
    m, n, k = shape
    return Gemm(
        name="gemm",
        part="benchmark",
        m=m,
        n=n,
        k=k,
        a=Tensor(name="a", size_bytes=2 * m * k, traffic=Traffic.ACTIVATIONS),
        weight=Tensor(name="w", size_bytes=fmt.bytes_of(n * k), traffic=Traffic.WEIGHTS),
        out=Tensor(name="out", size_bytes=2 * m * n, traffic=Traffic.ACTIVATIONS),
        weight_format=fmt,
    )


def decode_attention_us(chip: ChipSpec, row: DecodeAttentionRow) -> float:
    """Return the predicted time of a KV append and a decode attention in one graph, in us."""
    visible = row.context if row.window is None else min(row.context, row.window)
    vectors = 2 * row.batch * row.n_kv_heads
    read_bytes = row.kv_format.bytes_of(vectors * visible, row.head_dim)
    width = 2 * row.batch * row.head_dim
    new = Tensor(name="new_kv", size_bytes=2 * width * row.n_kv_heads, traffic=Traffic.ACTIVATIONS)
    kv_bytes = row.kv_format.bytes_of(vectors * row.context, row.head_dim)
    kv = Tensor(name="kv", size_bytes=kv_bytes, traffic=Traffic.KV)
    appended = row.kv_format.bytes_of(vectors, row.head_dim)
    append = Elementwise(
        name="kv_append",
        part="benchmark",
        kind="kv_append",
        inputs=(new,),
        outputs=(kv,),
        read_bytes=(new.size_bytes,),
        written_bytes=(appended,),
        vector_flop=0,
    )
    attention = Attention(
        name="attention",
        part="benchmark",
        batch=row.batch,
        q_len=1,
        context=row.context,
        n_q_heads=row.n_q_heads,
        n_kv_heads=row.n_kv_heads,
        qk_dim=row.head_dim,
        v_dim=row.head_dim,
        window=row.window,
        q=Tensor(name="q", size_bytes=width * row.n_q_heads, traffic=Traffic.ACTIVATIONS),
        kv=kv,
        out=Tensor(name="out", size_bytes=width * row.n_q_heads, traffic=Traffic.ACTIVATIONS),
        kv_format=row.kv_format,
        kv_read_bytes=read_bytes,
    )
    l2 = _warm(kv, read_bytes, chip) if row.warm else ()
    return _graph_us([append, attention], chip, l2)


def decode_step_ms(  # noqa: PLR0913 - a measured step has that many conditions
    model: Model,
    chip: ChipSpec,
    engine: Engine,
    *,
    batch: int,
    context: int,
    weights: WeightFormat,
    kv: KvFormat,
) -> float:
    """Return the predicted time of one decode step of a model without experts, in ms."""
    graph = build_step(
        model,
        batch=batch,
        q_len=1,
        context=context,
        weight_format=weights,
        kv_format=kv,
        merge_projections=engine.merge_projections,
    )
    device = Device(gpu=Gpu(spec=chip), engine=engine, memo=Memo(None))
    return run_step(graph, device).time_ps / (1000 * PS_PER_US)


def _warm(kv: Tensor, read_bytes: int, chip: ChipSpec) -> L2State:
    size = min(read_bytes, chip.l2_bytes)
    entry = Resident(name=kv.name, traffic=kv.traffic, resident_bytes=size, dirty_bytes=0)
    return (entry,)


def _graph_us(
    operators: Sequence[Operator], chip: ChipSpec, l2: L2State, *, repeats: int = 1
) -> float:
    device = Device(gpu=Gpu(spec=chip), engine=BENCHMARK_ENGINE, memo=Memo(None))
    total = (chip.graph_to_graph_gap_ps - chip.cuda_graph_gap_ps) // repeats
    for op in operators:
        for kernel in device.tune(op):
            run = device.run(kernel, l2)
            l2 = run.l2
            total += run.time_ps + chip.cuda_graph_gap_ps
    return total / PS_PER_US
