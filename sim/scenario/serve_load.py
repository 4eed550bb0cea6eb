"""From a serving scenario's TOML to a `ServeScenario`, or to every problem at once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from sim.checking import Checker
from sim.errors import InputError, ScenarioError
from sim.hardware.spec import load_chip
from sim.kernel.engine import Engine
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.model.architecture import Model
from sim.resources import chip_dirs, engine_dirs, find_trace, trace_dirs
from sim.scenario.engines import load_engine
from sim.scenario.references import find_model, referred, routing_of
from sim.scenario.scenario import Routing
from sim.scenario.schema import RoutingTable
from sim.scenario.serve_checks import check_cluster
from sim.scenario.serve_scenario import RateSweep, ServeContestant, ServeScenario, WireRates
from sim.scenario.serve_schema import (
    EngineArguments,
    ServeContestantTable,
    ServeScenarioTable,
    ServeTable,
    SloTable,
    TrafficTable,
)
from sim.serving.config import ServeConfig, Slo, Speculation
from sim.serving.request import MeasuredSettings, Trace
from sim.serving.trace import read_trace
from sim.serving.trace_cut import cut_trace
from sim.serving.traffic import Traffic, draw_trace, lengths_of, traffic_problems
from sim.toml_source import KeyPath

T = TypeVar("T")
# PCIe 4.0 x16 as payload: what pinned copies reach on most hosts.
_HOST_BYTES_PER_S: Final = 25 * 10**9
_TRAFFIC_STREAM: Final = 2
_DEFAULT: Final = ServeConfig()


def load_serve(checker: Checker, path: Path) -> ServeScenario:
    """Return the serving scenario that `checker`'s source describes; `path` is its file.

    Raises ScenarioError with every problem of the file, its trace, chips, engines and models.
    """
    table = checker.table(ServeScenarioTable)
    names = _Names(checker, path.parent)
    if table is None:
        _refer_all(names)
        raise checker.error(ScenarioError)
    traffic = _traffic(names, table.serve.traffic)
    trace = _trace(names, table.serve, traffic, table.seed)
    settings = (trace.settings if trace else None) or MeasuredSettings()
    entries = table.contestants or [ServeContestantTable(name=table.model or path.stem)]
    contestants = [
        _contestant(names, table, entry, index if table.contestants else None, settings)
        for index, entry in enumerate(entries)
    ]
    _check_names(checker, table)
    if checker.problems or trace is None:
        raise checker.error(ScenarioError)
    report = table.report
    return ServeScenario(
        name=path.stem,
        title=table.title,
        seed=table.seed,
        trace=trace,
        traffic=traffic,
        contestants=tuple(contestant for contestant in contestants if contestant),
        slo=_slo(table.serve.slo),
        sweep=_sweep(table.serve),
        exact=table.serve.exact,
        report=report.report,
        timeline=report.timeline,
        detailed=report.detailed,
    )


@dataclass(slots=True)
class _Names:
    """Looks up what a scenario names, and notes what is wrong with it where it stands."""

    checker: Checker
    folder: Path

    def refer(self, path: KeyPath, load: Callable[[str], T]) -> T | None:
        """Return what the text at `path` names, None after noting why not."""
        return referred(self.checker, path, self.folder, load)

    def first(self, paths: tuple[KeyPath, ...], load: Callable[[str], T]) -> T | None:
        """Return what the first of the texts at `paths` names."""
        path = next((p for p in paths if self.checker.source.get(p) is not None), None)
        if path is None:
            self.checker.wrong(paths[-1], "is missing", at_key=True)
            return None
        return self.refer(path, load)


def _trace(names: _Names, table: ServeTable, traffic: Traffic | None, seed: int) -> Trace | None:
    checker, path = names.checker, ("serve", "trace")
    if (table.trace is None) == (table.traffic is None):
        message = "needs a trace or traffic" if table.trace is None else "stands beside traffic"
        checker.wrong(path if table.trace else ("serve",), message, expected="one of them")
        return None

    if traffic is not None and _lacks_sense(checker, traffic):
        return None

    def read(text: str) -> Trace:
        found = find_trace(text, trace_dirs())
        return read_trace(
            found,
            format=table.trace_format,
            on_bad_row="skip" if table.on_bad_row == "skip" else "stop",
        )

    try:
        if traffic is None:
            trace = names.refer(path, read) if table.trace else None
        else:
            trace = draw_trace(traffic, np.random.default_rng([seed, _TRAFFIC_STREAM]))
        return None if trace is None else _cut(trace, table)
    except InputError as error:
        checker.problems.extend(error.problems)
        return None


def _lacks_sense(checker: Checker, traffic: Traffic) -> bool:
    """Note what is wrong with the laws of some traffic, where they stand."""
    problems = list(traffic_problems(traffic, ""))
    for problem in problems:
        at = tuple(problem.key.split(".")) if problem.key else ()
        checker.wrong(
            ("serve", "traffic", *at),
            problem.message,
            expected=problem.expected,
            likely=problem.nearest,
        )
    return bool(problems)


def _refer_all(names: _Names) -> None:
    """Note what is wrong with the chips, models and engines of a file that is wrong elsewhere."""
    listed = names.checker.source.get(("contestants",))
    count = len(listed) if isinstance(listed, list) else 0
    for place in ((), *(("contestants", index) for index in range(count))):
        names.refer((*place, "hardware"), lambda text: load_chip(text, chip_dirs()))
        names.refer((*place, "model"), find_model)
        names.refer((*place, "engine"), lambda text: load_engine(text, engine_dirs()))


def _cut(trace: Trace, table: ServeTable) -> Trace:
    return cut_trace(
        trace,
        start_s=table.start_s,
        end_s=table.end_s,
        limit=table.limit,
        rate_scale=table.rate_scale,
    )


def _traffic(names: _Names, table: TrafficTable | None) -> Traffic | None:
    if table is None:
        return None
    pairs: tuple[tuple[int, int], ...] = ()
    if table.lengths_of is not None:
        path: KeyPath = ("serve", "traffic", "lengths_of")
        of = names.refer(path, lambda text: read_trace(find_trace(text, trace_dirs())))
        pairs = lengths_of(of) if of else ((1, 1),)
    return Traffic(
        requests=table.requests,
        arrivals=table.arrivals,
        input_tokens=table.input_tokens,
        output_tokens=table.output_tokens,
        pairs=pairs,
        prefix_groups=table.prefix_groups,
        prefix_tokens=table.prefix_tokens,
        concurrency=table.concurrency,
    )


def _contestant(
    names: _Names,
    table: ServeScenarioTable,
    entry: ServeContestantTable,
    index: int | None,
    settings: MeasuredSettings,
) -> ServeContestant | None:
    place: KeyPath = () if index is None else ("contestants", index)

    def paths(key: str) -> tuple[KeyPath, ...]:
        return ((*place, key), (key,)) if place else ((key,),)

    chip = names.first(paths("hardware"), lambda text: load_chip(text, chip_dirs()))
    model = names.first(paths("model"), find_model)
    engine = _engine(names, paths("engine"))
    said = [entry.serve, table.serve]
    config = _config(said, settings)
    draft = _draft(names, place, said)
    if chip is None or model is None or engine is None:
        return None
    contestant = ServeContestant(
        name=entry.name if index is not None else model.name,
        model=model,
        weights=WEIGHT_FORMATS[entry.weights or table.weights],
        kv=KV_FORMATS[entry.kv or table.kv],
        hardware=chip,
        engine=engine,
        config=config,
        routing=_routing(entry.routing or table.routing),
        wires=WireRates(
            host_bytes_per_s=_said(said, "host_bandwidth") or _HOST_BYTES_PER_S,
            transfer_bytes_per_s=_said(said, "kv_transfer_bandwidth"),
            transfer_latency_ps=_said(said, "kv_transfer_latency"),
        ),
        draft=draft,
    )
    check_cluster(names.checker, (*place, "serve"), contestant)
    return contestant


def _routing(table: RoutingTable | None) -> Routing:
    # Two draws: a step of a few tokens is drawn anew for every second layer.
    return routing_of(RoutingTable(draws=2) if table is None else table)


def _engine(names: _Names, paths: tuple[KeyPath, ...]) -> Engine | None:
    def load(text: str) -> Engine:
        return load_engine(text, engine_dirs())

    if all(names.checker.source.get(path) is None for path in paths):
        return load(ServeScenarioTable.model_fields["engine"].default)
    return names.first(paths, load)


def _draft(names: _Names, place: KeyPath, said: list[EngineArguments]) -> Model | None:
    speculation = _said(said, "speculation")
    if speculation is None or speculation.draft_model is None:
        return None
    own = place and said[0].speculation is not None
    base = (*place, "serve") if own else ("serve",)
    return names.refer((*base, "speculation", "draft_model"), find_model)


def _said(said: list[EngineArguments], key: str) -> Any:  # noqa: ANN401 - any engine argument
    """Return an engine argument from the first that says it."""
    return next((v for args in said if (v := getattr(args, key)) is not None), None)


# Engine arguments, and what a measured run and `ServeConfig` call them.
_ARGUMENTS: Final = {
    "policy": "policy", "router": "router", "replicas": "replicas",
    "prefill_replicas": "prefill_replicas", "tensor_parallel": "tensor_parallel",
    "data_parallel": "data_parallel", "expert_parallel": "expert_parallel",
    "max_num_seqs": "max_num_seqs", "max_num_batched_tokens": "max_num_batched_tokens",
    "max_model_len": "max_model_len", "gpu_memory_utilization": "gpu_memory_utilization",
    "block_size": "block_tokens", "num_gpu_blocks": "kv_blocks",
    "enable_prefix_caching": "enable_prefix_caching", "async_scheduling": "async_scheduling",
    "preemption": "preemption",
}  # fmt: skip


def _config(said: list[EngineArguments], settings: MeasuredSettings) -> ServeConfig:
    """Return the engine arguments: as said, else as a measured run states, else the defaults."""
    values: dict[str, Any] = {}
    for key, name in _ARGUMENTS.items():
        value = _said(said, key)
        if value is None:
            value = getattr(settings, name, None)
        values[name] = getattr(_DEFAULT, name) if value is None else value
    values["gpu_memory_utilization"] = float(values["gpu_memory_utilization"])
    table = _said(said, "speculation")
    if table is not None:
        values["speculation"] = Speculation(
            draft_tokens=table.draft_tokens, acceptance=tuple(table.acceptance)
        )
    return ServeConfig(**values)


def _slo(table: SloTable | None) -> Slo | None:
    return None if table is None else Slo(ttft_ps=table.ttft, tpot_ps=table.tpot, e2e_ps=table.e2e)


def _sweep(table: ServeTable) -> RateSweep | None:
    sweep = table.sweep
    if sweep is None:
        return None
    return RateSweep(rates=tuple(sweep.rates), search=sweep.max_rate, share=sweep.share)


def _check_names(checker: Checker, table: ServeScenarioTable) -> None:
    seen: dict[str, int] = {}
    for index, entry in enumerate(table.contestants):
        if seen.setdefault(entry.name, index) != index:
            checker.wrong(
                ("contestants", index, "name"),
                f"{entry.name!r} is also the name of contestants.{seen[entry.name]}",
                expected="a name of its own",
            )
