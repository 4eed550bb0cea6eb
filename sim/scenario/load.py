"""From a scenario TOML and its overrides to a `Scenario`, or to every problem at once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sim.checking import Checker
from sim.errors import InputError, ModelError, ScenarioError
from sim.hardware.spec import ChipSpec, load_chip
from sim.kernel.engine import Engine
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.model.aliases import model_named
from sim.model.architecture import Model
from sim.model.importer import load_model
from sim.resources import (
    chip_dirs,
    display,
    engine_dirs,
    find_file,
    is_path,
    model_dirs,
    named_files,
    named_models,
    scenario_dirs,
    unknown_name,
)
from sim.scenario.checks import check_contestant, check_grid, check_names
from sim.scenario.engines import load_engine
from sim.scenario.overrides import apply_overrides
from sim.scenario.scenario import (
    Contestant,
    Grid,
    ReportOptions,
    Routing,
    RoutingKind,
    Scenario,
    Simulation,
)
from sim.scenario.schema import (
    DEFAULT_ENGINE,
    ContestantTable,
    GridTable,
    RoutingTable,
    ScenarioTable,
)
from sim.toml_source import KeyPath, TomlSource, read_toml

T = TypeVar("T")


def available_scenarios(search_dirs: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of all scenarios in `search_dirs`, sorted."""
    return tuple(named_files(search_dirs))


def load_scenario(name_or_path: str, overrides: Iterable[str] = ()) -> Scenario:
    """Return the scenario of this name or path, changed by `overrides` ("key=value").

    Raises ScenarioError with every problem of the file, of the overrides, and of the chip, engine
    and models that they name.
    """
    try:
        path = find_file(name_or_path, named_files(scenario_dirs()), what="scenario")
        source = read_toml(path, file=display(path))
    except InputError as error:
        raise ScenarioError(error.problems) from error
    source, problems = apply_overrides(source, overrides)
    checker = Checker(source)
    checker.problems.extend(problems)
    return _resolved(checker, path)


def find_model(name_or_path: str) -> Model:
    """Return the model of this name, id or path, told like chips and engines if there is none."""
    known = named_models(model_dirs())
    name = model_named(name_or_path, model_dirs())
    if not is_path(name) and name not in known:
        raise ModelError([unknown_name(name, tuple(known), what="model")])
    return load_model(name_or_path, search_dirs=model_dirs())


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
    check_names(checker, found.models)
    for index, model in enumerate(found.models):
        if model:
            check_contestant(checker, index, model, found.chip, grid)
    if table is None or found.chip is None or found.engine is None or checker.problems:
        raise checker.error(ScenarioError)
    return Scenario(
        name=path.stem,
        title=table.title,
        hardware=found.chip,
        engine=found.engine,
        seed=table.seed,
        grid=Grid(batches=tuple(table.grid.batch), contexts=tuple(table.grid.context)),
        contestants=tuple(
            _contestant(entry, model)
            for entry, model in zip(table.contestants, found.models, strict=True)
            if model is not None
        ),
        simulation=Simulation(
            granule_bytes=table.simulation.granule, symmetry=table.simulation.symmetry == "on"
        ),
        report=ReportOptions(**table.report.model_dump()),
    )


def _contestant(table: ContestantTable, model: Model) -> Contestant:
    return Contestant(
        name=table.name or model.name,
        model=model,
        weights=WEIGHT_FORMATS[table.weights],
        kv=KV_FORMATS[table.kv],
        tensor_parallel=table.tensor_parallel,
        routing=_routing(table.routing or RoutingTable()),
    )


def _routing(table: RoutingTable) -> Routing:
    return Routing(
        kind=RoutingKind(table.kind),
        exponent=table.exponent,
        counts=None if table.counts is None else tuple(table.counts),
        draws=table.draws,
    )


def _references(checker: Checker, folder: Path) -> _References:
    listed = checker.source.get(("contestants",))
    n_contestants = len(listed) if isinstance(listed, list) else 0
    engine_dirs_ = engine_dirs()

    def refer(path: KeyPath, load: Callable[[str], T]) -> T | None:
        return _referred(checker, path, folder, load)

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


def _referred(checker: Checker, path: KeyPath, folder: Path, load: Callable[[str], T]) -> T | None:
    written = checker.source.get(path)
    if not isinstance(written, str) or not written:
        return None
    reference = _from_folder(written, folder, checker.source, path)
    try:
        return load(reference)
    except InputError as error:
        checker.refer(path, reference, error)
        return None


def _from_folder(written: str, folder: Path, source: TomlSource, path: KeyPath) -> str:
    """Return `written`, taken from the scenario's folder if it is a path that exists there."""
    on_command_line = source.mark(path).file is not None
    if is_path(written) and not on_command_line and (folder / written).exists():
        return str(folder / written)
    return written
