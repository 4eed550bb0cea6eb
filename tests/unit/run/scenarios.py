"""A small scenario: a dense model and a mixture of experts, two batches, two contexts."""

from functools import cache

from sim.hardware.spec import load_chip
from sim.kernel.engine import AttentionVariant, Engine, LaunchMode
from sim.kernel.formats import BF16, KV_FORMATS
from sim.model.emitter import StepShape
from sim.model.importer import load_model
from sim.resources import chip_dirs, model_dirs
from sim.scenario.scenario import (
    Contestant,
    Grid,
    ReportOptions,
    Routing,
    Scenario,
    Simulation,
)

ENGINE = Engine(
    name="test",
    launch=LaunchMode.CUDA_GRAPH,
    attention=AttentionVariant.FLASH_DECODING,
    fusions=(("residual_add", "norm"),),
    merge_projections=True,
    host_time_ps=7_000_000,
    kv_block_tokens=16,
)


# One token of one sequence.
SHAPE = StepShape(
    batch=1,
    q_len=1,
    context=1,
    weight_format=BF16,
    kv_format=KV_FORMATS["bf16"],
    merge_projections=True,
)


@cache
def contestant(model: str, name: str = "", routing: Routing | None = None) -> Contestant:
    """Return a shipped model in bf16."""
    return Contestant(
        name=name or model,
        model=load_model(model, search_dirs=model_dirs()),
        weights=BF16,
        kv=KV_FORMATS["bf16"],
        tensor_parallel=1,
        routing=routing or Routing(draws=2),
    )


@cache
def scenario(
    models: tuple[str, ...] = ("qwen2.5-0.5b", "olmoe-1b-7b-0924"),
    batches: tuple[int, ...] = (1, 4),
    contexts: tuple[int, ...] = (128, 1024),
) -> Scenario:
    """Return a scenario on one H100."""
    return Scenario(
        name="small",
        title="Small",
        hardware=load_chip("h100-sxm", chip_dirs()),
        engine=ENGINE,
        seed=3,
        grid=Grid(batches=batches, contexts=contexts),
        contestants=tuple(contestant(model) for model in models),
        simulation=Simulation(),
        report=ReportOptions(),
    )
