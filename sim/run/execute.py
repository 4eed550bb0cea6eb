"""Runs a scenario: every point, on several cores, remembered on disk."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from sim.model.memory import kv_bytes, weights_bytes
from sim.run.answer import answer
from sim.run.memo import Entry, Memo, default_path
from sim.run.memo import write as write_memo
from sim.run.point import PointRunner, build_device
from sim.run.result import SCHEMA_VERSION, ChipInfo, ContestantInfo, PointResult, Result
from sim.scenario.scenario import Contestant, Scenario
from sim.version import version

Progress = Callable[[int, int], None]
# One task: all contexts of one contestant at one batch, which share their GEMMs.
Task = tuple[Scenario, int, int, Path | None]


def execute(
    scenario: Scenario, *, progress: Progress | None = None, jobs: int = 1, memo: bool = True
) -> Result:
    """Return the result of every point of `scenario`.

    `progress` is called with (points done, points in all); `jobs` processes share the work; with
    `memo` kernels and points are looked up on disk and added to it. The result depends on none
    of the three.
    """
    path = default_path() if memo else None
    total = len(scenario.contestants) * len(scenario.grid.batches) * len(scenario.grid.contexts)
    report = progress or _silent
    points, tasks = _recall(scenario, path)
    report(len(points), total)
    added: list[Entry] = []
    for group, entries in _map(tasks, jobs):
        points.extend(group)
        added.extend(entries)
        report(len(points), total)
    if path:
        write_memo(path, added)
    return _result(scenario, _in_order(scenario, points))


def _silent(done: int, total: int) -> None:
    """Report nothing."""
    del done, total


def _recall(scenario: Scenario, path: Path | None) -> tuple[list[PointResult], list[Task]]:
    """Return the points that the memo knows, and tasks for the others."""
    points: list[PointResult] = []
    tasks: list[Task] = []
    with closing(Memo(path)) as memo:
        for index in range(len(scenario.contestants)):
            runner = _runner(scenario, index, memo)
            for batch in scenario.grid.batches:
                known = [runner.recall(batch, context) for context in scenario.grid.contexts]
                found = [point for point in known if point is not None]
                if len(found) == len(known):
                    points.extend(found)
                else:
                    tasks.append((scenario, index, batch, path))
    return points, tasks


def _map(tasks: list[Task], jobs: int) -> Iterable[tuple[list[PointResult], list[Entry]]]:
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(_run_task, tasks)
        return
    workers = min(jobs, len(tasks))
    # Ctrl-C is for the parent: it ends the pool.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.Pool(workers, initializer=signal.signal, initargs=ignore) as pool:
        # Big batches first: they are the long tasks.
        yield from pool.imap_unordered(_run_task, sorted(tasks, key=lambda task: -task[2]))


def _run_task(task: Task) -> tuple[list[PointResult], list[Entry]]:
    scenario, index, batch, path = task
    with closing(Memo(path)) as memo:
        runner = _runner(scenario, index, memo)
        points = [runner.run(batch, context) for context in scenario.grid.contexts]
        return points, memo.take_added()


def _runner(scenario: Scenario, index: int, memo: Memo) -> PointRunner:
    contestant = scenario.contestants[index]
    device = build_device(scenario, memo, contestant.placement)
    return PointRunner(scenario=scenario, contestant=contestant, device=device)


def _in_order(scenario: Scenario, points: list[PointResult]) -> tuple[PointResult, ...]:
    place = {(p.contestant, p.batch, p.context): p for p in points}
    return tuple(
        place[contestant.name, batch, context]
        for contestant in scenario.contestants
        for batch in scenario.grid.batches
        for context in scenario.grid.contexts
    )


def _result(scenario: Scenario, points: tuple[PointResult, ...]) -> Result:
    contestants = tuple(_contestant_info(contestant) for contestant in scenario.contestants)
    chip = _chip_info(scenario)
    return Result(
        schema_version=SCHEMA_VERSION,
        name=scenario.name,
        title=scenario.title,
        version=version(),
        seed=scenario.seed,
        phase="decode",
        chip=chip,
        engine=scenario.engine.name,
        contestants=contestants,
        batches=scenario.grid.batches,
        contexts=scenario.grid.contexts,
        points=points,
        answer=answer(scenario.title, points, contestants, chip),
    )


def _contestant_info(contestant: Contestant) -> ContestantInfo:
    model = contestant.model
    return ContestantInfo(
        name=contestant.name,
        model=model.name,
        family=model.family,
        weight_format=contestant.weights.name,
        kv_format=contestant.kv.name,
        parameters=model.parameters(),
        active_parameters=model.active_parameters(),
        weights_bytes=weights_bytes(model, contestant.weights),
        kv_bytes_per_token=kv_bytes(model, contestant.kv, batch=1, context=1),
        notes=model.notes,
    )


def _chip_info(scenario: Scenario) -> ChipInfo:
    spec = scenario.hardware
    return ChipInfo(
        name=spec.name,
        title=spec.title,
        peak_bytes_per_s=spec.hbm_bytes_per_s,
        memory_bytes=spec.hbm_bytes,
        l2_bytes=spec.l2_bytes,
        sm_count=spec.sm_count,
        tensor_flop_per_s=dict(spec.tensor_flop_per_s),
        notes=spec.notes,
    )
