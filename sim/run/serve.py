"""Runs a serving scenario: every contestant over the trace, and over the rates of a sweep."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import inf
from pathlib import Path

from sim.hardware.gpu import Gpu
from sim.model.architecture import Model
from sim.model.mixed import StepFormats
from sim.model.parallel import shard
from sim.model.step import Draws
from sim.run.device import Device
from sim.run.draws import drawn
from sim.run.memo import Entry, Memo, default_path
from sim.run.memo import write as write_memo
from sim.run.serve_device import ServeDevice
from sim.run.serve_result import Served, ServeInfo, Sweep, SweepPoint, served, sweep_point
from sim.scenario.serve_scenario import RateSweep, ServeContestant, ServeScenario
from sim.serving.capacity import keeps, max_rate
from sim.serving.config import ServeConfig
from sim.serving.engine import serve
from sim.serving.exact_cost import ExactCost
from sim.serving.interpolated_cost import InterpolatedCost, padded
from sim.serving.kv_cache import KvCache
from sim.serving.kv_capacity import memory_plan
from sim.serving.parts import ClusterParts, Wire
from sim.serving.request import Trace
from sim.serving.step_cost import StepCost
from sim.serving.trace_cut import cut_trace
from sim.units import PS_PER_S
from sim.version import version

Progress = Callable[[int, int], None]
# A network card of 400 Gbit/s as payload, for chips without a link to their peers.
_NETWORK = Wire(bytes_per_s=48 * 10**9, latency_ps=5 * 10**6)
# vLLM captures graphs of up to twice max_num_seqs tokens.
_CAPTURED_OVER_SEQUENCES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeResult:
    """What a serving scenario produced: a run per contestant, and the sweep if there was one."""

    contestants: tuple[Served, ...]
    sweep: Sweep | None


def execute_serve(
    scenario: ServeScenario, *, progress: Progress | None = None, jobs: int = 1, memo: bool = True
) -> ServeResult:
    """Return the runs of every contestant of `scenario`.

    `progress` is called with (contestants done, contestants in all); `jobs` processes share them;
    with `memo` device runs are looked up on disk and added to it. The result depends on none of
    the three.
    """
    path = default_path() if memo else None
    count = len(scenario.contestants)
    report = progress or _silent
    report(0, count)
    results: dict[int, _Outcome] = {}
    for index, outcome, entries in _map(scenario, path, jobs):
        results[index] = outcome
        if path:
            write_memo(path, entries)
        report(len(results), count)
    outcomes = [results[index] for index in range(count)]
    return ServeResult(
        contestants=tuple(outcome.run for outcome in outcomes), sweep=_sweep(scenario, outcomes)
    )


def _silent(done: int, total: int) -> None:
    """Report nothing."""
    del done, total


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    run: Served
    points: tuple[SweepPoint, ...] = ()
    max_rate: float | None = None


def _map(
    scenario: ServeScenario, path: Path | None, jobs: int
) -> Iterable[tuple[int, _Outcome, list[Entry]]]:
    indices = range(len(scenario.contestants))
    run = partial(_run_contestant, scenario, path)
    if jobs <= 1 or len(indices) <= 1:
        yield from map(run, indices)
        return
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.Pool(
        min(jobs, len(indices)), initializer=signal.signal, initargs=ignore
    ) as pool:
        yield from pool.imap_unordered(run, indices)


def _run_contestant(
    scenario: ServeScenario, path: Path | None, index: int
) -> tuple[int, _Outcome, list[Entry]]:
    contestant = scenario.contestants[index]
    with closing(Memo(path)) as memo:
        bench = Bench(scenario, contestant, memo)
        run = bench.run(scenario.trace)
        points, highest = bench.sweep(scenario.sweep) if scenario.sweep else ((), None)
        return index, _Outcome(run=run, points=points, max_rate=highest), memo.take_added()


class Bench:
    """One contestant, whose steps are priced once for all traces that it serves."""

    def __init__(self, scenario: ServeScenario, contestant: ServeContestant, memo: Memo) -> None:
        self.scenario = scenario
        self.contestant = contestant
        self.config = _independent(contestant.config)
        self.parts = cluster_parts(
            replace(contestant, config=self.config),
            memo,
            seed=scenario.seed,
            prefix_block_tokens=scenario.trace.prefix_block_tokens,
            exact=scenario.exact,
        )

    def run(self, trace: Trace, rate: float | None = None) -> Served:
        """Serve a trace; `rate` is told where it was made to have that one."""
        served_run = serve(trace, self.config, self.parts)
        return served(self._info(trace, rate), served_run, trace)

    def sweep(self, sweep: RateSweep) -> tuple[tuple[SweepPoint, ...], float | None]:
        """Return a point for each rate, and the highest rate that keeps the SLO if it is asked."""
        points: dict[float, SweepPoint] = {}

        def holds(rate: float) -> bool:
            one = self.run(self._at(rate), rate)
            slo = self.scenario.slo
            kept = None if slo is None else keeps(one.times, slo, sweep.share)
            points[rate] = sweep_point(one, kept)
            return bool(kept)

        for wanted in sweep.rates:
            holds(float(wanted))
        highest = None
        if sweep.search and self.scenario.slo is not None:
            low, high = float(min(sweep.rates)), float(max(sweep.rates))
            highest = max_rate(lambda r: self._known(r, points, holds), low, high).rate
        return tuple(points[rate] for rate in sorted(points)), highest

    def _known(
        self, rate: float, points: dict[float, SweepPoint], holds: Callable[[float], bool]
    ) -> bool:
        return bool(points[rate].holds) if rate in points else holds(rate)

    def _at(self, rate: float) -> Trace:
        trace = self.scenario.trace
        own = mean_rate(trace)
        scale = Fraction(rate).limit_denominator(10**6) / Fraction(own).limit_denominator(10**6)
        return cut_trace(trace, rate_scale=scale)

    def _info(self, trace: Trace, rate: float | None) -> ServeInfo:
        scenario, contestant = self.scenario, self.contestant
        chip = contestant.hardware
        target = Gpu(spec=chip).target()
        return ServeInfo(
            scenario=scenario.name,
            title=scenario.title,
            contestant=contestant.name,
            model=contestant.model.name,
            chip=chip.name,
            chip_title=chip.title,
            engine=contestant.engine.name,
            config=self.config,
            seed=scenario.seed,
            trace=trace.name,
            request_rate=inf if rate is None else rate,
            peak_bytes_per_s=chip.hbm_bytes_per_s,
            peak_flop_per_s=chip.tensor_flop_per_s[target.compute(contestant.weights.compute)],
            max_concurrency=trace.concurrency,
            slo=scenario.slo,
            skipped=len(trace.skipped),
            notes=contestant.model.notes,
            version=version(),
        )


def mean_rate(trace: Trace) -> float:
    """Return the requests per second of a trace, infinite if all arrive at once."""
    if len(trace.requests) < 2:  # noqa: PLR2004 - a rate needs two arrivals
        return inf
    span = trace.requests[-1].arrival_ps - trace.requests[0].arrival_ps
    return (len(trace.requests) - 1) * PS_PER_S / span if span else inf


def cluster_parts(
    contestant: ServeContestant,
    memo: Memo,
    *,
    seed: int,
    prefix_block_tokens: int,
    exact: bool,
) -> ClusterParts:
    """Return what a contestant's cluster is built of."""
    config, chip = contestant.config, contestant.hardware
    ranks = config.tensor_parallel * config.data_parallel
    share = shard(
        contestant.model,
        tensor=config.tensor_parallel,
        expert=ranks if config.expert_parallel else 1,
    )
    plan = memory_plan(
        contestant.model, share, contestant.weights, contestant.kv, chip, config,
        draft=contestant.draft,
    )  # fmt: skip
    most = _CAPTURED_OVER_SEQUENCES * config.max_num_seqs
    sizes = tuple(size for size in contestant.engine.graph_sizes if size <= most)
    cost = step_cost(contestant, share, memo, seed=seed, graph_sizes=sizes, exact=exact)
    return ClusterParts(
        cost=cost,
        make_kv=partial(
            KvCache,
            plan.layout,
            plan.blocks,
            prefix_caching=config.enable_prefix_caching,
            prefix_block_tokens=prefix_block_tokens,
        ),
        host=Wire(bytes_per_s=contestant.wires.host_bytes_per_s, latency_ps=10**7),
        peer=_peer(contestant),
        rows=lambda tokens: padded(tokens, sizes),
        draft=_draft_cost(contestant, memo, seed=seed, graph_sizes=sizes),
        seed=seed,
        exact=exact,
    )


def _draft_cost(
    contestant: ServeContestant, memo: Memo, *, seed: int, graph_sizes: tuple[int, ...]
) -> StepCost | None:
    """Return what steps of the draft model cost, spread over the same GPUs."""
    if contestant.draft is None:
        return None
    drafting = replace(contestant, model=contestant.draft)
    share = shard(contestant.draft, tensor=contestant.config.tensor_parallel)
    return step_cost(drafting, share, memo, seed=seed, graph_sizes=graph_sizes, exact=False)


def step_cost(
    contestant: ServeContestant,
    share: Model,
    memo: Memo,
    *,
    seed: int,
    graph_sizes: tuple[int, ...],
    exact: bool,
) -> StepCost:
    """Return what steps of a model, or of one rank's share of it, cost on a contestant's chip."""
    device = Device(gpu=Gpu(spec=contestant.hardware), engine=contestant.engine, memo=memo)
    runs = ServeDevice(
        device=device,
        model=share,
        formats=StepFormats(
            weight_format=contestant.weights,
            kv_format=contestant.kv,
            merge_projections=contestant.engine.merge_projections,
        ),
        draws=partial(_draws, contestant, share, seed),
    )
    if exact:
        return ExactCost(runs=runs, graph_sizes=graph_sizes)
    return InterpolatedCost(runs=runs, graph_sizes=graph_sizes)


def _draws(contestant: ServeContestant, share: Model, seed: int, tokens: int) -> Draws:
    return drawn(contestant.routing, contestant.model.moe, tokens * share.data_parallel, seed=seed)


def _peer(contestant: ServeContestant) -> Wire:
    """Return the way from GPUs that compute prompts to those that decode."""
    wires, link = contestant.wires, contestant.hardware.link
    base = _NETWORK
    if link is not None:
        base = Wire(bytes_per_s=int(link.bytes_per_s * link.efficiency), latency_ps=link.latency_ps)
    return Wire(
        bytes_per_s=wires.transfer_bytes_per_s or base.bytes_per_s,
        latency_ps=(
            base.latency_ps if wires.transfer_latency_ps is None else wires.transfer_latency_ps
        ),
    )


def _independent(config: ServeConfig) -> ServeConfig:
    """Return data-parallel ranks that share no experts as replicas: they do not step together."""
    if config.data_parallel == 1 or config.expert_parallel:
        return config
    return replace(
        config,
        replicas=config.replicas * config.data_parallel,
        data_parallel=1,
        router="least_loaded",
    )


def _sweep(scenario: ServeScenario, outcomes: list[_Outcome]) -> Sweep | None:
    if scenario.sweep is None:
        return None
    highest = {
        outcome.run.info.contestant: outcome.max_rate
        for outcome in outcomes
        if scenario.sweep.search
    }
    return Sweep(
        points=tuple(point for outcome in outcomes for point in outcome.points),
        max_rate=highest,
        slo=scenario.slo,
    )
