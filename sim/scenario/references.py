"""What a scenario names: chips, engines, models and traces, by name or by path."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sim.checking import Checker
from sim.errors import InputError, ModelError
from sim.model.aliases import model_named
from sim.model.architecture import Model
from sim.model.importer import load_model
from sim.resources import is_path, model_dirs, named_models, unknown_name
from sim.scenario.scenario import Routing, RoutingKind
from sim.scenario.schema import RoutingTable
from sim.toml_source import KeyPath, TomlSource

T = TypeVar("T")


def find_model(name_or_path: str) -> Model:
    """Return the model of this name, id or path, told like chips and engines if there is none."""
    known = named_models(model_dirs())
    name = model_named(name_or_path, model_dirs())
    if not is_path(name) and name not in known:
        raise ModelError([unknown_name(name, tuple(known), what="model")])
    return load_model(name_or_path, search_dirs=model_dirs())


def referred(checker: Checker, path: KeyPath, folder: Path, load: Callable[[str], T]) -> T | None:
    """Return what the text at `path` names, or None after noting what is wrong with it.

    A path that exists in `folder`, the scenario's own, is taken from there.
    """
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


def routing_of(table: RoutingTable) -> Routing:
    """Return the routing that a table describes."""
    return Routing(
        kind=RoutingKind(table.kind),
        exponent=table.exponent,
        counts=None if table.counts is None else tuple(table.counts),
        draws=table.draws,
    )
