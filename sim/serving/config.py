"""The settings of a serving engine, named as vLLM names them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What a request must keep, in ps; None: no limit. A request without a TPOT keeps any."""

    ttft_ps: int | None = None
    tpot_ps: int | None = None
    e2e_ps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """Speculative decoding: `draft_tokens` a step, each accepted if all before it were.

    `acceptance` are the chances that draft token 1, 2, ... is accepted given that the one before
    was; a single value holds for all. As how many hold is known only when a step ends, the next one
    is planned after it: `ServeConfig.async_scheduling` has no effect. (vLLM plans with placeholders
    for the tokens that may come.)
    """

    draft_tokens: int
    acceptance: tuple[float, ...]

    def chance(self, position: int) -> float:
        """Return the conditional acceptance of the draft token at `position`, from 0."""
        return self.acceptance[min(position, len(self.acceptance) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """How a cluster of replicas serves.

    `policy` and `router` are names in `sim.serving.policy.POLICIES` and
    `sim.serving.router.ROUTERS`. `prefill_replicas` above 0 sets that many of the `replicas` aside
    for prompts; the others decode (disaggregation). `kv_blocks` overrides the blocks that fit on
    the chip. `preemption` is "recompute" or "swap". `data_parallel` ranks of a replica step
    together, as the ranks of an expert-parallel model do. With `async_scheduling` a step is planned
    when the one before starts, so that what arrives or is freed meanwhile counts one step later.
    """

    policy: str = "chunked_prefill"
    router: str = "round_robin"
    replicas: int = 1
    prefill_replicas: int = 0
    tensor_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: bool = False
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.9
    block_tokens: int = 16
    kv_blocks: int | None = None
    enable_prefix_caching: bool = True
    preemption: str = "recompute"
    async_scheduling: bool = True
    speculation: Speculation | None = None
