"""The shape of a serving scenario's TOML: what can be checked without opening another file.

Keys of `[serve]` are named as vLLM's engine arguments.
"""

from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field

from sim.checking import Bandwidth, Count, Duration, Ratio, Real, Table, Text, one_of, wrong
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.scenario.schema import RoutingTable
from sim.serving.law_choice import Choice
from sim.serving.policy import POLICIES
from sim.serving.router import ROUTERS
from sim.serving.trace import READERS

DEFAULT_SERVE_ENGINE = "vllm"
_CHOICE_FORM = 'a table such as { law = "poisson", rate_per_s = 3 }'


def _choice(value: object) -> Choice:
    if not isinstance(value, dict) or not isinstance(value.get("law"), str):
        raise wrong("is not the choice of a law", _CHOICE_FORM)
    numbers = tuple((key, number) for key, number in value.items() if key != "law")
    if not all(isinstance(n, Decimal | int) and not isinstance(n, bool) for _, n in numbers):
        raise wrong("has a parameter that is no number", _CHOICE_FORM)
    return Choice(law=value["law"], values=numbers)


def _rate(value: object) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, Decimal | int) or not value > 0:
        raise wrong("is not a rate", "requests per second, more than 0")
    return Fraction(value)


_Law = Annotated[Choice, BeforeValidator(_choice)]
_Rate = Annotated[Fraction, BeforeValidator(_rate)]
_Chance = Annotated[Real, Field(ge=0, le=1)]
_Weights = Annotated[str, one_of("weight format", tuple(WEIGHT_FORMATS))]
_Kv = Annotated[str, one_of("KV format", tuple(KV_FORMATS))]


class SpeculationTable(Table):
    """`speculation`: how well a draft model guesses (none: a proposer that costs nothing)."""

    draft_model: Text | None = None
    draft_tokens: Count
    acceptance: Annotated[list[_Chance], Field(min_length=1)]


class EngineArguments(Table):
    """What `[serve]` and a contestant's `serve` say of an engine; None: not said."""

    policy: Annotated[str, one_of("policy", tuple(POLICIES))] | None = None
    router: Annotated[str, one_of("router", tuple(ROUTERS))] | None = None
    replicas: Count | None = None
    prefill_replicas: Annotated[int, Field(ge=0)] | None = None
    tensor_parallel: Count | None = None
    data_parallel: Count | None = None
    expert_parallel: bool | None = None
    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    max_model_len: Count | None = None
    gpu_memory_utilization: Ratio | None = None
    block_size: Count | None = None
    num_gpu_blocks: Count | None = None
    enable_prefix_caching: bool | None = None
    async_scheduling: bool | None = None
    preemption: Annotated[str, one_of("preemption", ("recompute", "swap"))] | None = None
    speculation: SpeculationTable | None = None
    host_bandwidth: Bandwidth | None = None
    kv_transfer_bandwidth: Bandwidth | None = None
    kv_transfer_latency: Duration | None = None


class TrafficTable(Table):
    """`[serve.traffic]`: synthetic requests."""

    requests: Count
    arrivals: _Law
    input_tokens: _Law | None = None
    output_tokens: _Law | None = None
    lengths_of: Text | None = None
    prefix_groups: Annotated[int, Field(ge=0)] = 0
    prefix_tokens: Annotated[int, Field(ge=0)] = 0
    concurrency: Count | None = None


class SloTable(Table):
    """`[serve.slo]`."""

    ttft: Duration | None = None
    tpot: Duration | None = None
    e2e: Duration | None = None


class SweepTable(Table):
    """`[serve.sweep]`."""

    rates: Annotated[list[_Rate], Field(min_length=1)]
    max_rate: bool = False
    share: Annotated[Real, Field(gt=0, le=1)] = 0.99


class ServeTable(EngineArguments):
    """`[serve]`."""

    trace: Text | None = None
    trace_format: Annotated[str, one_of("trace format", tuple(READERS))] | None = None
    on_bad_row: Annotated[str, one_of("choice", ("stop", "skip"))] = "stop"
    limit: Count | None = None
    start_s: Annotated[Real, Field(ge=0)] = 0.0
    end_s: Annotated[Real, Field(gt=0)] | None = None
    rate_scale: _Rate = Fraction(1)
    traffic: TrafficTable | None = None
    slo: SloTable | None = None
    sweep: SweepTable | None = None
    exact: bool = False


class ServeContestantTable(Table):
    """One of `[[contestants]]` of a serving scenario: what it has of its own."""

    name: Text
    model: Text | None = None
    weights: _Weights | None = None
    kv: _Kv | None = None
    hardware: Text | None = None
    engine: Text | None = None
    routing: RoutingTable | None = None
    serve: EngineArguments = EngineArguments()


class ServeReportTable(Table):
    """`[report]` of a serving scenario."""

    report: bool = True
    timeline: bool = False
    detailed: bool = False


class ServeScenarioTable(Table):
    """The whole file."""

    title: Text
    hardware: Text | None = None
    engine: Text = DEFAULT_SERVE_ENGINE
    model: Text | None = None
    weights: _Weights = "bf16"
    kv: _Kv = "bf16"
    routing: RoutingTable | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    serve: ServeTable
    contestants: Annotated[list[ServeContestantTable], Field(default_factory=list)]
    report: ServeReportTable = ServeReportTable()
