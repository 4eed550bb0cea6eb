"""From a scenario TOML and its overrides to a `Scenario`, or to every problem at once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

from sim.checking import Checker
from sim.errors import InputError, ScenarioError
from sim.hardware.address_map import MapKind, Placement
from sim.hardware.placement import KvPages
from sim.hardware.residency import L2Policy
from sim.hardware.spec import ChipSpec, load_chip
from sim.kernel.engine import Engine
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.kernel.operators import Traffic
from sim.model.architecture import Model
from sim.resources import (
    chip_dirs,
    display,
    engine_dirs,
    find_file,
    named_files,
    scenario_dirs,
)
from sim.scenario.checks import check_contestant, check_grid, check_names, check_placement
from sim.scenario.engines import load_engine
from sim.scenario.microscope_load import load_microscope
from sim.scenario.microscope_scenario import MicroScenario
from sim.scenario.overrides import apply_overrides
from sim.scenario.references import find_model, referred, routing_of
from sim.scenario.scenario import (
    Contestant,
    Grid,
    ReportOptions,
    Scenario,
    Simulation,
)
from sim.scenario.schema import (
    DEFAULT_ENGINE,
    ContestantTable,
    GridTable,
    L2Table,
    RoutingTable,
    ScenarioTable,
    SimulationTable,
)
from sim.scenario.serve_load import load_serve
from sim.scenario.serve_scenario import ServeScenario
from sim.toml_source import KeyPath, read_toml
from sim.units import BYTES

T = TypeVar("T")
_MIB = BYTES["MiB"]


def available_scenarios(search_dirs: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of all scenarios in `search_dirs`, sorted."""
    return tuple(named_files(search_dirs))


def load_scenario(name_or_path: str, overrides: Iterable[str] = ()) -> Scenario:
    """Return the scenario of this name or path, changed by `overrides` ("key=value").

    Raises ScenarioError with every problem of the file, of the overrides, and of the chip, engine
    and models that they name; a serving scenario is one, too.
    """
    checker, path = _read(name_or_path, overrides)
    for key, kind in (("serve", "serving"), ("patterns", "microscope")):
        if checker.source.get((key,)) is not None:
            message = f"makes a {kind} scenario"
            checker.wrong((key,), message, expected="one with a grid of points")
            raise checker.error(ScenarioError)
    return _resolved(checker, path)


def load_any(
    name_or_path: str, overrides: Iterable[str] = ()
) -> Scenario | ServeScenario | MicroScenario:
    """Return the scenario, of a grid of points, of serving or a microscope, of this name or path.

    Raises ScenarioError as `load_scenario` does. What has a table `serve` is a serving scenario,
    what has `patterns` is one for the microscope.
    """
    checker, path = _read(name_or_path, overrides)
    if checker.source.get(("patterns",)) is not None:
        return load_microscope(checker, path)
    if checker.source.get(("serve",)) is not None:
        return load_serve(checker, path)
    return _resolved(checker, path)


def _read(name_or_path: str, overrides: Iterable[str]) -> tuple[Checker, Path]:
    try:
        path = find_file(name_or_path, named_files(scenario_dirs()), what="scenario")
        source = read_toml(path, file=display(path))
    except InputError as error:
        raise ScenarioError(error.problems) from error
    source, problems = apply_overrides(source, overrides)
    checker = Checker(source)
    checker.problems.extend(problems)
    return checker, path


@dataclass(frozen=True, slots=True, kw_only=True)
class _References:
    """What the names in a scenario mean; None where a name is wrong."""

    chip: ChipSpec | None
    engine: Engine | None
    models: tuple[Model | None, ...]


def _resolved(checker: Checker, path: Path) -> Scenario:
    table = checker.table(ScenarioTable)
    found = _references(checker, path.parent)
    grid = checker.valid(GridTable, ("grid",))
    check_grid(checker)
    _check_l2(checker, found.chip)
    check_names(checker, found.models)
    check_placement(checker, len(found.models))
    for index, model in enumerate(found.models):
        if model:
            check_contestant(checker, index, model, found.chip, grid)
    if table is None or found.chip is None or found.engine is None or checker.problems:
        raise checker.error(ScenarioError)
    return Scenario(
        name=path.stem,
        title=table.title,
        hardware=_with_l2(found.chip, table.l2),
        engine=found.engine,
        seed=table.seed,
        grid=Grid(batches=tuple(table.grid.batch), contexts=tuple(table.grid.context)),
        contestants=tuple(
            _contestant(entry, model, table.simulation)
            for entry, model in zip(table.contestants, found.models, strict=True)
            if model is not None
        ),
        simulation=Simulation(
            granule_bytes=table.simulation.granule,
            symmetry=table.simulation.symmetry == "on",
            channel="bank" if table.simulation.channel == "bank" else "coarse",
            l2_policy=_l2_policy(table.l2),
            l2_kept=table.l2.between_steps == "kept",
        ),
        report=ReportOptions(**table.report.model_dump()),
    )


def _with_l2(chip: ChipSpec, table: L2Table) -> ChipSpec:
    """Return the chip with the L2 that the scenario asks for, and a note of it."""
    size = table.capacity
    if size is None or size == chip.l2_bytes:
        return chip
    note = f"L2 is {size / _MIB:.4g} MiB in this scenario, {chip.l2_bytes / _MIB:.4g} on the chip."
    return replace(chip, l2_bytes=size, notes=(*chip.notes, note))


def _l2_policy(table: L2Table) -> L2Policy:
    return L2Policy(
        lru=table.policy == "lru",
        pinned=frozenset(Traffic(name) for name in table.pinned),
        pinned_bytes=table.pinned_size or 0,
    )


def _check_l2(checker: Checker, chip: ChipSpec | None) -> None:
    """Note an L2 larger than HBM, and a region without classes or larger than L2."""
    table = checker.valid(L2Table, ("l2",)) if checker.source.get(("l2",)) else None
    if table is None:
        return
    if chip and table.capacity and table.capacity >= chip.hbm_bytes:
        checker.wrong(("l2", "capacity"), "is not smaller than HBM", expected="a smaller L2")
    if bool(table.pinned) is not (table.pinned_size is not None):
        key, other = ("pinned_size", "pinned") if table.pinned_size else ("pinned", "pinned_size")
        checker.wrong(("l2", key), f"does nothing without {other}", expected="both or neither")
    room = table.capacity or (chip.l2_bytes if chip else None)
    if room and table.pinned_size and table.pinned_size > room:
        checker.wrong(("l2", "pinned_size"), "is larger than L2", expected=f"at most {room} B")


def _contestant(table: ContestantTable, model: Model, simulation: SimulationTable) -> Contestant:
    return Contestant(
        name=table.name or model.name,
        model=model,
        weights=WEIGHT_FORMATS[table.weights],
        kv=KV_FORMATS[table.kv],
        tensor_parallel=table.tensor_parallel,
        routing=routing_of(table.routing or RoutingTable()),
        placement=_placement(table, simulation),
    )


def _placement(table: ContestantTable, simulation: SimulationTable) -> Placement:
    """Return where a contestant's bytes lie: as it says itself, or all of `[simulation]`."""
    address_map = table.address_map or simulation.address_map
    pages = table.kv_pages or simulation.kv_pages or "scattered"
    # The schema has checked both.
    return Placement(address_map=cast(MapKind, address_map), kv_pages=cast(KvPages, pages))


def _references(checker: Checker, folder: Path) -> _References:
    listed = checker.source.get(("contestants",))
    n_contestants = len(listed) if isinstance(listed, list) else 0
    engine_dirs_ = engine_dirs()

    def refer(path: KeyPath, load: Callable[[str], T]) -> T | None:
        return referred(checker, path, folder, load)

    def model(index: int) -> Model | None:
        path: KeyPath = ("contestants", index, "model")
        return refer(path, find_model)

    def engine(text: str) -> Engine:
        return load_engine(text, engine_dirs_)

    has_engine = checker.source.get(("engine",)) is not None
    return _References(
        chip=refer(("hardware",), lambda text: load_chip(text, chip_dirs())),
        engine=refer(("engine",), engine) if has_engine else engine(DEFAULT_ENGINE),
        models=tuple(model(index) for index in range(n_contestants)),
    )
