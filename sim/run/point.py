"""One point of a scenario: memory need, step graph, step on the device, metrics."""

from dataclasses import dataclass

import numpy as np

from sim.hardware.gpu import Gpu
from sim.kernel.operators import Traffic
from sim.model.memory import activations_bytes, kv_bytes, state_bytes, weights_bytes
from sim.model.routing import draw_routing, scale_counts
from sim.model.step import StepGraph, build_step
from sim.run.device import Device
from sim.run.memo import Memo, key_of
from sim.run.result import MemoryNeed, PointResult
from sim.run.step import StepRun, run_step
from sim.scenario.scenario import Contestant, RoutingKind, Scenario
from sim.units import PS_PER_S, transfer_ps, work_ps

# Streams of random numbers are independent per use: this one draws routings.
_ROUTING_STREAM = 1


@dataclass(slots=True, kw_only=True)
class PointRunner:
    """Runs the points of one scenario on one device."""

    scenario: Scenario
    memo: Memo

    def run(self, contestant: Contestant, batch: int, context: int) -> PointResult:
        """Return the result of one point; a point that does not fit is a result, too."""
        need = memory_need(contestant, batch, context, self.scenario)
        if not need.fits:
            return _unfit(contestant, batch, context, need)
        key = key_of("point", self._question(contestant), batch, context)
        known = self.memo.get(key)
        if isinstance(known, PointResult):
            return known
        result = self._simulate(contestant, batch, context, need)
        self.memo.put(key, result)
        return result

    def _question(self, contestant: Contestant) -> tuple[object, ...]:
        scenario = self.scenario
        return (
            _gpu(scenario).fingerprint(), scenario.engine, scenario.seed, contestant,
        )  # fmt: skip

    def _simulate(
        self, contestant: Contestant, batch: int, context: int, need: MemoryNeed
    ) -> PointResult:
        gpu = _gpu(self.scenario)
        device = Device(gpu=gpu, engine=self.scenario.engine, memo=self.memo)
        graph = step_graph(self.scenario, contestant, batch, context)
        step = run_step(graph, device)
        return _result(contestant, batch, context, need, step, gpu)


def _gpu(scenario: Scenario) -> Gpu:
    simulation = scenario.simulation
    return Gpu(
        spec=scenario.hardware,
        symmetry=simulation.symmetry,
        granule_bytes=simulation.granule_bytes,
    )


def memory_need(
    contestant: Contestant, batch: int, context: int, scenario: Scenario
) -> MemoryNeed:
    """Return what a point needs on the chip."""
    model = contestant.model
    return MemoryNeed(
        weights_bytes=weights_bytes(model, contestant.weights),
        kv_bytes=kv_bytes(model, contestant.kv, batch, context),
        state_bytes=state_bytes(model, batch),
        activations_bytes=activations_bytes(model, batch, 1),
        capacity_bytes=scenario.hardware.hbm_bytes,
    )


def step_graph(
    scenario: Scenario, contestant: Contestant, batch: int, context: int
) -> StepGraph:
    """Return the decode step of a point, with its routing drawn from the scenario's seed."""
    return build_step(
        contestant.model,
        batch=batch,
        q_len=1,
        context=context,
        weight_format=contestant.weights,
        kv_format=contestant.kv,
        merge_projections=scenario.engine.merge_projections,
        routing_draws=routing_draws(scenario.seed, contestant, batch),
    )


def routing_draws(seed: int, contestant: Contestant, tokens: int) -> tuple[tuple[int, ...], ...]:
    """Return the routing draws of a batch; layer i uses draw i modulo their number.

    They depend on seed, routing and batch alone, so every context of a batch sees the same ones.
    """
    moe = contestant.model.moe
    if moe is None:
        return ()
    routing = contestant.routing
    if routing.kind is RoutingKind.COUNTS and routing.counts is not None:
        scaled = scale_counts(routing.counts, tokens=tokens, top_k=moe.top_k)
        return (scaled,)
    rng = np.random.default_rng([seed, _ROUTING_STREAM, tokens])
    return tuple(
        draw_routing(
            routing.kind.value,
            tokens=tokens,
            n_experts=moe.n_experts,
            top_k=moe.top_k,
            rng=rng,
            exponent=routing.exponent or 1.0,
        )
        for _ in range(routing.draws)
    )


def _unfit(contestant: Contestant, batch: int, context: int, need: MemoryNeed) -> PointResult:
    return PointResult(
        contestant=contestant.name, batch=batch, context=context, memory=need, step_ps=0,
        roofline_ps=0, tokens_per_s=0.0, mbu=0.0, mfu=0.0, flop=0, bound="", ledger_ps={},
        traffic=(), operators=(),
    )  # fmt: skip


def _result(
    contestant: Contestant, batch: int, context: int, need: MemoryNeed, step: StepRun, gpu: Gpu
) -> PointResult:
    spec, step_ps = gpu.spec, step.time_ps
    compute = gpu.target().compute(contestant.weights.compute)
    peak_flop_per_s = spec.tensor_flop_per_s[compute]
    hbm_bytes, flop = step.hbm_bytes(), step.flop
    ledger = step.ledger_ps()
    seconds = step_ps / PS_PER_S
    return PointResult(
        contestant=contestant.name,
        batch=batch,
        context=context,
        memory=need,
        step_ps=step_ps,
        roofline_ps=max(
            transfer_ps(hbm_bytes, spec.hbm_bytes_per_s), work_ps(flop, peak_flop_per_s)
        ),
        tokens_per_s=batch / seconds,
        mbu=hbm_bytes / (spec.hbm_bytes_per_s * seconds),
        mfu=flop / (peak_flop_per_s * seconds),
        flop=flop,
        bound=max(ledger, key=lambda cause: ledger[cause]),
        ledger_ps=ledger,
        traffic=step.traffic(),
        operators=step.rows(),
    )


def expert_bytes(point: PointResult) -> int:
    """Return the expert bytes that HBM read in a point's step."""
    return sum(
        row.size_bytes
        for row in point.traffic
        if (row.traffic, row.level, row.direction) == (Traffic.EXPERTS.value, "hbm", "read")
    )
