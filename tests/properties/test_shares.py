"""Laws of steps that several GPUs share, for any model, link and number of GPUs."""

from fractions import Fraction
from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.collective_library import LIBRARIES
from sim.hardware.gpu import Gpu
from sim.hardware.link_spec import LinkSpec
from sim.kernel.collective import Op
from sim.kernel.engine import AttentionVariant, Engine, LaunchMode
from sim.kernel.formats import BF16, KV_FORMATS
from sim.kernel.operators import Elementwise, Exchange, GroupedGemm
from sim.kernel.work import experts_read_bytes
from sim.measure.causes import CAUSES
from sim.model.architecture import Model
from sim.model.importer import load_model
from sim.model.parallel import shard
from sim.model.routing import draw_routing, heaviest_share
from sim.model.step import Block, StepGraph, build_step
from sim.resources import model_dirs
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.step import run_step
from tests.unit.hardware.chips import toy_chip

NAMES = ("qwen2.5-0.5b", "olmoe-1b-7b-0924", "deepseek-v2-lite", "lfm2-1.2b", "mamba-130m")
ROUTED = ("olmoe-1b-7b-0924", "deepseek-v2-lite")


@cache
def model_of(name: str) -> Model:
    return load_model(name, search_dirs=model_dirs())


@st.composite
def links(draw: st.DrawFn) -> LinkSpec:
    return LinkSpec(
        type="any",
        bytes_per_s=draw(st.integers(10**9, 10**12)),
        efficiency=Fraction(draw(st.integers(1, 10)), 10),
        latency_ps=draw(st.integers(0, 10**7)),
        issue_ps=draw(st.integers(0, 10**5)),
        setup_ps=draw(st.integers(0, 10**7)),
        ranks=draw(st.sampled_from((2, 4))),
        multicast=draw(st.booleans()),
    )


def device(link: LinkSpec, library: str = "nccl") -> Device:
    engine = Engine(
        name="any",
        launch=LaunchMode.CUDA_GRAPH,
        attention=AttentionVariant.FLASH_DECODING,
        fusions=(("residual_add", "norm"),),
        merge_projections=True,
        host_time_ps=0,
        kv_block_tokens=16,
        collectives=library,
    )
    chip = toy_chip(link=link, l2_bytes=4_000_000, shared_memory_bytes=164 * 1024)
    return Device(gpu=Gpu(spec=chip), engine=engine, memo=Memo(None))


def first_layers(model: Model, share: Model, *, batch: int, data: int = 1) -> StepGraph:
    """Return embedding, two layers and head of a decode step of one rank."""
    draws: tuple[tuple[int, ...], ...] = ()
    if model.moe is not None:
        draws = (
            draw_routing(
                "uniform",
                tokens=batch * data,
                n_experts=model.moe.n_experts,
                top_k=model.moe.top_k,
                rng=np.random.default_rng(batch * data),
            ),
        )
    graph = build_step(
        share,
        batch=batch,
        q_len=1,
        context=300,
        weight_format=BF16,
        kv_format=KV_FORMATS["bf16"],
        merge_projections=True,
        routing_draws=draws,
    )
    return StepGraph(shape=graph.shape, blocks=(*graph.blocks[:3], graph.blocks[-1]))


def light(graph: StepGraph) -> StepGraph:
    """Return the step without its large kernels, which no law here depends on."""
    return StepGraph(
        shape=graph.shape,
        blocks=tuple(
            Block(
                index=block.index,
                operators=tuple(
                    op for op in block.operators if isinstance(op, Exchange | Elementwise)
                ),
            )
            for block in graph.blocks
        ),
    )


@given(
    name=st.sampled_from(NAMES),
    batch=st.integers(1, 8),
    link=links(),
    library=st.sampled_from(sorted(LIBRARIES)),
)
def test_a_shared_step_s_causes_and_bytes_sum(
    name: str, batch: int, link: LinkSpec, library: str
) -> None:
    """Time is kernels, exchanges and gaps; each rank sends what the algorithms say.

    A sum of n bytes on two GPUs takes n bytes of each, whichever the library's algorithm; the
    switch sums and copies, so with multicast it takes half as much more.
    """
    model = model_of(name)
    graph = light(first_layers(model, shard(model, tensor=2), batch=batch))
    step = run_step(graph, device(link, library))
    ledger = step.ledger_ps()
    assert set(ledger) == set(CAUSES)
    assert sum(ledger.values()) == step.time_ps
    asked = [op.what for _, op in graph.operators() if isinstance(op, Exchange)]
    exchanged = [op for op in step.operators.values() if any("link" in k for k in op.traffic)]
    assert sum(op.runs for op in exchanged) == len(asked)
    sent = sum(row.size_bytes for row in step.traffic() if row.level == "link")
    least = sum(w.size_bytes // (1 if w.op is Op.ALL_REDUCE else 2) for w in asked)
    assert least <= sent <= 1.5 * least + 2 * len(asked)


@given(
    name=st.sampled_from(NAMES),
    batch=st.integers(1, 8),
    link=links(),
    tensor=st.sampled_from((1, 2)),
)
def test_a_faster_link_makes_no_step_longer(
    name: str, batch: int, link: LinkSpec, tensor: int
) -> None:
    """Kernels do not depend on the link, and exchanges never gain by a slower one."""
    model = model_of(name)
    share = shard(model, tensor=tensor)
    graph = light(first_layers(model, share, batch=batch))
    slow = run_step(graph, device(link))
    fields = {f: getattr(link, f) for f in LinkSpec.__dataclass_fields__}
    fast = run_step(graph, device(LinkSpec(**{**fields, "bytes_per_s": 2 * link.bytes_per_s})))
    assert fast.time_ps <= slow.time_ps
    assert tensor == 2 or fast.time_ps == slow.time_ps


@given(name=st.sampled_from(ROUTED), batch=st.integers(1, 64))
def test_a_rank_reads_half_of_the_experts_that_all_tokens_hit_or_more(
    name: str, batch: int
) -> None:
    """It is the rank that the other waits for, and it never reads more than all of them."""
    model = model_of(name)
    alone = first_layers(model, model, batch=2 * batch)
    shared = first_layers(model, shard(model, expert=2), batch=batch, data=2)
    whole, part = (
        sum(experts_read_bytes(op) for _, op in graph.operators() if isinstance(op, GroupedGemm))
        for graph in (alone, shared)
    )
    assert whole <= 2 * part <= 2 * whole


@given(
    counts=st.lists(st.integers(0, 9), min_size=2, max_size=64).filter(lambda c: len(c) % 2 == 0)
)
def test_the_heaviest_share_is_a_share_with_at_least_half_of_the_hit(counts: list[int]) -> None:
    """No other half has more experts with a token."""
    half = len(counts) // 2
    share = heaviest_share(counts, 2)
    assert list(share) in (counts[:half], counts[half:])
    hit = sum(count > 0 for count in share)
    assert 2 * hit >= sum(count > 0 for count in counts)
