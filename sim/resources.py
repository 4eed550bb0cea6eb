"""Where shipped data lives, and how a bare name becomes a file.

In a checkout `hardware_specs/` and `scenarios/` stand beside the package; an installed wheel
carries them inside it, under `_data/`. Folders of the same names in the current directory are
searched first, so that a person's own chip or scenario needs no installation.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from sim.errors import InputError, Problem, nearest

DataKind = Literal["hardware_specs", "scenarios"]

_PACKAGE: Final = Path(__file__).resolve().parent
_SHOWN_NAMES: Final = 12

TRACE_SUFFIXES: Final = (".csv", ".jsonl", ".csv.gz", ".jsonl.gz")
MEASURED_FILES: Final = ("requests.jsonl", "requests.jsonl.gz", "meta.json")


def data_dirs(kind: DataKind, *, package: Path = _PACKAGE) -> tuple[Path, ...]:
    """Return the existing folders of `kind`, the one to search first in front."""
    places = [Path.cwd() / kind]
    if (package.parent / "pyproject.toml").is_file():
        places.append(package.parent / kind)
    places.append(package / "_data" / kind)
    return tuple(dict.fromkeys(place.resolve() for place in places if place.is_dir()))


def cache_home() -> Path:
    """Return where things that can be made anew are kept: $TOKENSTALL_CACHE, else the user's."""
    own = os.environ.get("TOKENSTALL_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tokenstall"


def chip_dirs() -> tuple[Path, ...]:
    """Return the folders that hold hardware specs."""
    return data_dirs("hardware_specs")


def scenario_dirs() -> tuple[Path, ...]:
    """Return the folders that hold scenarios."""
    return data_dirs("scenarios")


def engine_dirs() -> tuple[Path, ...]:
    """Return the folders that hold engine profiles."""
    return _below("engines")


def model_dirs() -> tuple[Path, ...]:
    """Return the folders that hold one `NAME/config.json` a model."""
    return _below("models")


def trace_dirs() -> tuple[Path, ...]:
    """Return the folders that hold traces of requests."""
    return _below("traces")


def named_files(dirs: Iterable[Path]) -> dict[str, Path]:
    """Return the TOML files of `dirs` by their stem, sorted; the first folder wins."""
    found: dict[str, Path] = {}
    for folder in dirs:
        for path in folder.glob("*.toml"):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def named_models(dirs: Iterable[Path]) -> dict[str, Path]:
    """Return the `NAME/config.json` files of `dirs` by NAME, sorted; the first folder wins."""
    found: dict[str, Path] = {}
    for folder in dirs:
        for path in folder.glob("*/config.json"):
            found.setdefault(path.parent.name, path)
    return dict(sorted(found.items()))


def named_traces(dirs: Iterable[Path]) -> dict[str, Path]:
    """Return the traces of `dirs` by name, sorted; the first folder wins.

    A trace is a file with one of `TRACE_SUFFIXES`, or a folder with the `requests.jsonl` of a
    measured run.
    """
    found: dict[str, Path] = {}
    for folder in dirs:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and any((path / name).is_file() for name in MEASURED_FILES):
                found.setdefault(path.name, path)
            elif path.is_file() and path.name.endswith(TRACE_SUFFIXES):
                found.setdefault(trace_name(path), path)
    return dict(sorted(found.items()))


def trace_name(path: Path) -> str:
    """Return the name of a trace file: its own without suffix, or its folder's if measured.

    >>> trace_name(Path("traces/azure2023_code.csv.gz"))
    'azure2023_code'
    >>> trace_name(Path("vllm_run/requests.jsonl"))
    'vllm_run'
    """
    if path.name in MEASURED_FILES:
        return path.resolve().parent.name
    suffix = next((end for end in TRACE_SUFFIXES if path.name.endswith(end)), "")
    return path.name.removesuffix(suffix)


def find_trace(name_or_path: str, dirs: Iterable[Path]) -> Path:
    """Return the file or folder that `name_or_path` means: a trace of `dirs`, or a path.

    Raises InputError with one Problem, whose file is `name_or_path` itself, if there is none.
    """
    known = named_traces(dirs)
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path).expanduser()
    if os.path.exists(path):  # unlike Path.exists() also for a name that is too long
        return path
    if name_or_path.endswith(TRACE_SUFFIXES) or is_path(name_or_path):
        raise InputError([missing_file(path, shown=name_or_path)])
    raise InputError([unknown_name(name_or_path, tuple(known), what="trace")])


def missing_file(path: Path, *, shown: str) -> Problem:
    """Return the Problem that there is no `path`, with the nearest name beside it."""
    try:
        beside = sorted(other.name for other in path.parent.iterdir())
    except OSError:
        beside = []
    return Problem(file=shown, message="no such file", nearest=nearest(path.name, beside))


def is_path(name_or_path: str) -> bool:
    """Return whether a person wrote a path and not a bare name."""
    return name_or_path.endswith((".toml", ".json")) or any(c in name_or_path for c in "/\\")


def find_file(
    name_or_path: str,
    known: Mapping[str, Path],
    *,
    what: str,
    aliases: Mapping[str, str] | None = None,
) -> Path:
    """Return the file that `name_or_path` means: an existing path, or a name or alias of `known`.

    Raises InputError with one Problem, whose file is `name_or_path` itself, if there is none.
    """
    if is_path(name_or_path):
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
        raise InputError([Problem(file=name_or_path, message="no such file")])
    name = (aliases or {}).get(_plain(name_or_path), name_or_path)
    if name in known:
        return known[name]
    raise InputError([unknown_name(name_or_path, tuple(known), what=what)])


def unknown_name(name: str, known: Sequence[str], *, what: str) -> Problem:
    """Return the Problem of a name that is none of `known`, with the nearest one."""
    return Problem(
        file=name,
        message=f"unknown {what}",
        expected=expected_names(known, what=what),
        nearest=nearest(name, known) or nearest(_plain(name), known),
    )


def expected_names(known: Sequence[str], *, what: str) -> str:
    """Return what could stand in place of an unknown name.

    >>> expected_names(["a100", "h100"], what="chip")
    'a path or one of a100, h100'
    """
    if len(known) > _SHOWN_NAMES:
        return f"a path or one of the {len(known)} names of `python -m sim list {what}s`"
    return f"a path or one of {', '.join(known) or 'no names: none was found'}"


def by_alias(aliases: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a table from spelling-insensitive alias to name, from (alias, name) pairs."""
    return {_plain(alias): name for alias, name in aliases}


def find_alias(name: str, aliases: Mapping[str, str]) -> str | None:
    """Return what an alias stands for, in any spelling, or None; see `by_alias`."""
    return aliases.get(_plain(name))


def display(path: Path) -> str:
    """Return `path` as a person in the current directory would write it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")


def _below(folder: str) -> tuple[Path, ...]:
    return tuple(place for d in scenario_dirs() if (place := d / folder).is_dir())
