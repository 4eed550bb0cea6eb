"""Other names of models: ids of the Hugging Face hub that have the configuration of one we ship.

`aliases.toml` in a folder of models lists them by the name of the configuration. An id is found in
any case, with or without its organisation; nothing is dropped from a name by guessing.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sim.errors import InputError, ModelError, Problem
from sim.resources import by_alias, display, find_alias, named_models
from sim.toml_source import read_toml

ALIASES_NAME: Final = "aliases.toml"


def model_ids(search_dirs: Sequence[Path]) -> dict[str, str]:
    """Return the ids of all `aliases.toml` with the names that they stand for.

    Raises ModelError for a file that is no TOML or holds anything but lists of texts.
    """
    found: dict[str, str] = {}
    for folder in search_dirs:
        path = folder / ALIASES_NAME
        if path.is_file():
            found = {**_read(path, path.stat().st_mtime_ns), **found}
    return found


def model_named(name: str, search_dirs: Sequence[Path]) -> str:
    """Return the name of the model that an id stands for, or `name` itself if it is no id.

    A shipped name is found in any case, too.

    Raises ModelError as `model_ids`.
    """
    ids = model_ids(search_dirs)
    pairs = [(alias, model) for alias, model in ids.items()]
    pairs += [(alias.rpartition("/")[2], model) for alias, model in ids.items()]
    pairs += [(model, model) for model in named_models(search_dirs)]
    return find_alias(name, by_alias(pairs)) or name


@lru_cache
def _read(path: Path, changed_ns: int) -> MappingProxyType[str, str]:
    del changed_ns  # the cache forgets a file that was edited
    try:
        source = read_toml(path, file=display(path))
    except InputError as error:
        raise ModelError(error.problems) from error
    problems = [
        Problem(file=source.file, key=model, message="is no list of ids", expected="texts")
        for model, ids in source.data.items()
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids)
    ]
    if problems:
        raise ModelError(problems)
    return MappingProxyType({each: model for model, ids in source.data.items() for each in ids})
