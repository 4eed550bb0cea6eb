"""Runs of decode steps at once leave exactly what the steps one by one leave."""

from dataclasses import replace

import numpy as np
import pytest

from sim.kernel.formats import KV_FORMATS
from sim.scenario.references import find_model
from sim.serving.config import ServeConfig
from sim.serving.engine import serve
from sim.serving.interpolated_cost import InterpolatedCost
from sim.serving.kv_cache import KvCache
from sim.serving.kv_layout import kv_layout
from sim.serving.law_choice import choose
from sim.serving.parts import ClusterParts, Wire
from sim.serving.record import ServeRun
from sim.serving.request import Trace
from sim.serving.step_cost import COLUMNS, BatchShape, Columns, Price
from sim.serving.traffic import Traffic, draw_trace

LAYOUT = kv_layout(find_model("llama-3.2-1b"), KV_FORMATS["bf16"], block_tokens=16)


class ToyRuns:
    """Device runs that are smooth functions of what is asked."""

    mixes = False

    def _columns(self, time_ps: float) -> Columns:
        columns = np.zeros(len(COLUMNS))
        columns[:3] = time_ps * np.array([0.5, 0.3, 0.2])
        columns[-2:] = time_ps, 2 * time_ps
        return columns

    def host(self, sequences: int) -> Columns:
        return self._columns(1e6 + sequences)

    def tokens(self, rows: int, form: str) -> Columns:
        return self._columns(5e9 + 1e6 * rows)

    def head(self, rows: int) -> Columns:
        return self._columns(1e8 + 1e5 * rows)

    def sequences(self, groups: object, *, beside: bool = False, rough: bool = False) -> Columns:
        total = sum(g.count * g.context**1.1 * g.q_len for g in groups)  # type: ignore[attr-defined]
        return self._columns(1e5 * total)

    def whole(self, groups: object, rows: int) -> Columns:
        raise NotImplementedError


class StepByStep:
    """A cost that prices steps one at a time only."""

    def __init__(self, cost: InterpolatedCost) -> None:
        self._cost = cost

    def price(self, shape: BatchShape) -> Price:
        return self._cost.price(shape)


def trace(rate: float) -> Trace:
    return draw_trace(
        Traffic(
            requests=60,
            arrivals=choose("poisson", rate_per_s=rate),
            input_tokens=choose("uniform", least=10, most=400),
            output_tokens=choose("uniform", least=1, most=200),
        ),
        np.random.default_rng(3),
    )


def run(served: Trace, config: ServeConfig, blocks: int, *, glides: bool) -> ServeRun:
    cost = InterpolatedCost(runs=ToyRuns(), graph_sizes=(1, 2, 4, 8, 16))
    wire = Wire(bytes_per_s=10**10, latency_ps=10**6)
    parts = ClusterParts(
        cost=cost if glides else StepByStep(cost),
        make_kv=lambda: KvCache(LAYOUT, blocks, prefix_caching=True, prefix_block_tokens=512),
        host=wire,
        peer=wire,
        rows=lambda tokens: tokens,
    )
    return serve(served, config, parts)


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize(("rate", "blocks"), [(3, 2000), (30, 2000), (30, 90)])
def test_gliding_changes_nothing_but_the_number_of_events(
    rate: float, blocks: int, asynchronous: bool
) -> None:
    config = ServeConfig(max_num_seqs=16, async_scheduling=asynchronous)
    quick = run(trace(rate), config, blocks, glides=True)
    slow = run(trace(rate), config, blocks, glides=False)
    assert quick.requests == slow.requests
    (a,), (b,) = quick.replicas, slow.replicas
    assert replace(a, ledger_at=[]) == replace(b, ledger_at=[])
    assert a.ledger_at[-1] == b.ledger_at[-1]
    assert len(a.end_ps) > 400
