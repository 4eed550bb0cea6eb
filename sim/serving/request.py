"""What a client asks for: requests with lengths and arrival times, and a trace of them."""

from dataclasses import dataclass

from sim.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of a trace.

    `index` is its place in the trace and its name everywhere; `prefix` are content hashes of the
    leading blocks of its prompt, each `Trace.prefix_block_tokens` tokens long, the last one maybe
    shorter (Mooncake's `hash_ids`; empty: nothing is known to be shared). `output_tokens` may be 0:
    then the request is done once its prompt is computed.
    """

    index: int
    arrival_ps: int
    input_tokens: int
    output_tokens: int
    prefix: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSettings:
    """The settings that a measured run states about itself; None where it does not.

    `kv_blocks` are as stated: with data parallel ranks, vLLM counts those of one rank.
    """

    model: str | None = None
    engine_version: str | None = None
    device: str | None = None
    dtype: str | None = None
    kv_cache_dtype: str | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    block_tokens: int | None = None
    kv_blocks: int | None = None
    gpu_memory_utilization: float | None = None
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None
    async_scheduling: bool | None = None
    tensor_parallel: int | None = None
    data_parallel: int | None = None
    expert_parallel: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTimes:
    """When a real server answered each request, in ps on the clock of the trace.

    `queued_ps` is when its engine took the request from the front end, between two steps, and
    `scheduled_ps` when it first put it into a batch; empty if it did not tell.
    """

    first_token_ps: tuple[int, ...]
    last_token_ps: tuple[int, ...]
    queued_ps: tuple[int, ...] = ()
    scheduled_ps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests by arrival (ties in the order of the source), numbered from 0.

    `skipped` tells of rows that were left out. With `concurrency` the client keeps at most so many
    requests in flight: a request is sent at its arrival time or when one before it is done,
    whichever is later, and that is when its clock starts (`vllm bench serve --max-concurrency`).
    """

    name: str
    requests: tuple[Request, ...]
    prefix_block_tokens: int = 512
    concurrency: int | None = None
    skipped: tuple[Problem, ...] = ()
    settings: MeasuredSettings | None = None
    measured: MeasuredTimes | None = None
