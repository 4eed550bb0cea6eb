"""Reads the written results of a serving run back, for a person's questions about them."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.errors import InputError, Problem, nearest
from sim.run.serve_result import SERVE_SCHEMA_VERSION
from sim.run.serve_write import REQUESTS, SUMMARY

Row = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A written serving run: its summary and the rows of its requests."""

    folder: Path
    summary: dict[str, Any]
    rows: tuple[Row, ...]

    @property
    def contestant(self) -> str:
        """Return whose run it is."""
        return str(self.summary["info"]["contestant"])


def read_served(folder: Path, contestant: str | None = None) -> Written:
    """Return the run in `folder`, or that of `contestant` in one of its subfolders.

    A contestant is named as in the scenario or as its subfolder. Raises InputError if there is
    no such folder, run or contestant, or if one of several has to be named.
    """
    if not folder.is_dir():
        raise _wrong(folder, "no such folder", likely=_sibling(folder))
    found = {folder: _summary(folder)} if (folder / SUMMARY).is_file() else _below(folder)
    if not found:
        raise _wrong(folder, "is not a serving result", f"a folder with {SUMMARY}")
    chosen = _chosen(folder, found, contestant)
    with (chosen / REQUESTS).open(newline="", encoding="utf-8") as file:
        rows = tuple(csv.DictReader(file))
    return Written(folder=chosen, summary=found[chosen], rows=rows)


def _below(folder: Path) -> dict[Path, dict[str, Any]]:
    places = sorted(path.parent for path in folder.glob(f"*/{SUMMARY}"))
    return {place: _summary(place) for place in places}


def _chosen(folder: Path, found: dict[Path, dict[str, Any]], contestant: str | None) -> Path:
    names = {str(content["info"]["contestant"]): place for place, content in found.items()}
    if contestant is None and len(found) == 1:
        return next(iter(found))
    expected = f"--contestant with one of {', '.join(names)}"
    if contestant is None:
        raise _wrong(folder, f"holds {len(found)} contestants", expected)
    places = {place.name: place for place in found} | names
    if contestant not in places:
        likely = nearest(contestant, tuple(places))
        raise _wrong(folder, f"no contestant {contestant!r}", expected, likely)
    return places[contestant]


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _wrong(path, f"cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("schema_version") != SERVE_SCHEMA_VERSION:
        message = "is not a serving result of this version of tokenstall; run it again"
        raise _wrong(path, message, f"schema_version {SERVE_SCHEMA_VERSION}")
    if not (folder / REQUESTS).is_file():
        raise _wrong(folder / REQUESTS, "no such file")
    return content


def _sibling(folder: Path) -> str | None:
    known = [path.name for path in folder.parent.glob("*") if path.is_dir()]
    likely = nearest(folder.name, known)
    return None if likely is None else str(folder.parent / likely)


def _wrong(
    path: Path, message: str, expected: str | None = None, likely: str | None = None
) -> InputError:
    problem = Problem(file=str(path), message=message, expected=expected, nearest=likely)
    return InputError([problem])
