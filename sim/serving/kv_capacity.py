"""How many blocks of KV one GPU of a replica has: what its memory holds beside the model."""

from dataclasses import dataclass

from sim.hardware.spec import ChipSpec
from sim.kernel.formats import KvFormat, WeightFormat
from sim.model.architecture import Model
from sim.model.memory import weights_bytes
from sim.serving.config import ServeConfig
from sim.serving.kv_layout import KvLayout, capacity_blocks, kv_layout
from sim.serving.memory_budget import profile_peak_bytes, runtime_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """One GPU's memory in bytes, and the blocks that it leaves for KV."""

    memory_bytes: int
    weights_bytes: int
    activations_bytes: int
    overhead_bytes: int
    layout: KvLayout
    blocks: int


def memory_plan(  # noqa: PLR0913 - a plan has that many facts
    model: Model,
    share: Model,
    weights: WeightFormat,
    kv: KvFormat,
    chip: ChipSpec,
    config: ServeConfig,
    *,
    draft: Model | None = None,
) -> MemoryPlan:
    """Return the plan of one GPU that holds `share` of `model`, and all of `draft` if there is one.

    `config.kv_blocks` replaces what would fit. The cache of the draft is not counted.
    """
    layout = kv_layout(
        model, kv, block_tokens=config.block_tokens, tensor_parallel=config.tensor_parallel
    )
    held = weights_bytes(share, weights) + (weights_bytes(draft, weights) if draft else 0)
    activations = profile_peak_bytes(
        model,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_num_seqs=config.max_num_seqs,
    )
    overhead = runtime_bytes(config.tensor_parallel)
    fits = capacity_blocks(
        layout,
        memory_bytes=chip.hbm_bytes,
        utilization=config.gpu_memory_utilization,
        weights_bytes=held,
        activations_bytes=activations,
        overhead_bytes=overhead,
    )
    return MemoryPlan(
        memory_bytes=chip.hbm_bytes,
        weights_bytes=held,
        activations_bytes=activations,
        overhead_bytes=overhead,
        layout=layout,
        blocks=fits if config.kv_blocks is None else config.kv_blocks,
    )
