"""What a serving run leaves behind: a record per request and a log of steps per replica.

Times are ps since the start of the trace. Arrays of a log have one entry per step, in order.
"""

from array import array
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

Integers: TypeAlias = "array[int]"


class Outcome(StrEnum):
    """How a request ended."""

    FINISHED = "finished"
    REJECTED = "rejected"


@dataclass(slots=True, kw_only=True)
class RequestRecord:
    """One request's life.

    `sent_ps` is when its clock starts (its arrival, later in a closed loop); a rejected request has
    no other time. `first_token_ps` is None if it asked for no token. `causes_ps` has one entry for
    each of `sim.measure.causes.REQUEST_CAUSES`, in that order, and sums to
    `finished_ps - sent_ps` exactly. `replica` is the place of its log in `ServeRun.replicas`, and
    `emitted` are runs (first step, last step) of steps of that log: it got tokens at the end of the
    first step of a run and of each later one that decodes; steps of prompts alone, in between, gave
    it none. With speculation a step gives several, listed one such step after the other in
    `tokens_per_step` (empty: one each). A first token that another replica made is in no run.
    """

    index: int
    sent_ps: int
    input_tokens: int
    output_tokens: int
    outcome: Outcome = Outcome.FINISHED
    reason: str = ""
    replica: int = 0
    scheduled_ps: int | None = None
    first_token_ps: int | None = None
    finished_ps: int | None = None
    preemptions: int = 0
    prefix_hit_tokens: int = 0
    causes_ps: tuple[int, ...] = ()
    emitted: list[tuple[int, int]] = field(default_factory=list)
    tokens_per_step: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ReplicaLog:
    """What one replica did, step by step; with data parallel ranks, one of these.

    `start_ps` and `end_ps` bound a step; `decodes` are sequences that decoded in it,
    `prefill_tokens` prompt tokens it computed, `generated` the tokens it gave out; `running`,
    `waiting` and `kv_blocks` (in use) are as of the step's planning, it included; `hbm_bytes` and
    `flop` are what it moved and computed on one GPU. `ledger_at` are (time, cumulative step ledger
    by `sim.measure.causes.CAUSES`) about once a second of simulated time, the last one at the end.
    `role` is "", or "prefill" or "decode" where these are apart.
    """

    role: str = ""
    gpus: int = 1
    kv_blocks_total: int = 0
    start_ps: Integers = field(default_factory=lambda: array("q"))
    end_ps: Integers = field(default_factory=lambda: array("q"))
    decodes: Integers = field(default_factory=lambda: array("q"))
    prefill_tokens: Integers = field(default_factory=lambda: array("q"))
    generated: Integers = field(default_factory=lambda: array("q"))
    running: Integers = field(default_factory=lambda: array("q"))
    waiting: Integers = field(default_factory=lambda: array("q"))
    kv_blocks: Integers = field(default_factory=lambda: array("q"))
    hbm_bytes: Integers = field(default_factory=lambda: array("q"))
    flop: Integers = field(default_factory=lambda: array("q"))
    ledger_at: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeRun:
    """Everything that one contestant's replay of one trace produced.

    `requests` are in the order of the trace; `events` counts what the event loop handled.
    """

    requests: tuple[RequestRecord, ...]
    replicas: tuple[ReplicaLog, ...]
    events: int
