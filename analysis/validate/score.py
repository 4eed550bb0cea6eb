"""Scores predictions: the reference for one shape, format, chip and L2 state is the fastest engine.

Rows with `l2 = partial` are not judged; a row without a prediction counts against the coverage.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.validate.predict import Prediction
from analysis.validate.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One judged prediction: relative error None where nothing was predicted."""

    selection: str
    prediction: Prediction
    measured: float
    error: float | None

    @property
    def gpu(self) -> str:
        """Return the GPU of the row, as the table names it."""
        return self.prediction.row["gpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Errors of a selection: `median` and `p90` absolute, `bias` the signed median; fractions."""

    n: int
    covered: int
    median: float | None
    p90: float | None
    bias: float | None

    @property
    def coverage(self) -> float:
        """Return the share of rows with a prediction."""
        return self.covered / self.n


def judge(table: Table, predictions: Sequence[Prediction]) -> list[Judged]:
    """Return the judged rows of a table, once for each selection that a row belongs to."""
    found: list[Judged] = []
    for prediction in references(table, predictions):
        measured = float(prediction.row[table.measured])
        value = prediction.predicted
        usable = value is not None and math.isfinite(value) and value > 0
        error = value / measured - 1 if usable and value is not None else None
        found.extend(
            Judged(selection=name, prediction=prediction, measured=measured, error=error)
            for name in table.selections(prediction.row)
        )
    return found


def references(table: Table, predictions: Iterable[Prediction]) -> list[Prediction]:
    """Return the prediction of the fastest engine for each key; all, if the table has no key."""
    if not table.key:
        return list(predictions)
    best: dict[tuple[str, ...], Prediction] = {}
    for prediction in predictions:
        row = prediction.row
        if row.get("l2") == "partial":
            continue
        key = tuple(row.get(column, "") for column in table.key)
        known = best.get(key)
        if known is None or float(row[table.measured]) < float(known.row[table.measured]):
            best[key] = prediction
    return list(best.values())


def scores(judged: Iterable[Judged]) -> dict[tuple[str, str], Score]:
    """Return a score per (selection, GPU), and per (selection, "") over all GPUs, sorted."""
    groups: defaultdict[tuple[str, str], list[float | None]] = defaultdict(list)
    for entry in judged:
        groups[entry.selection, ""].append(entry.error)
        groups[entry.selection, entry.gpu].append(entry.error)
    return {key: score(errors) for key, errors in sorted(groups.items())}


def score(errors: Sequence[float | None]) -> Score:
    """Return the score of relative errors; None stands for a row that was not predicted."""
    known = [error for error in errors if error is not None]
    sizes = sorted(map(abs, known))
    return Score(
        n=len(errors),
        covered=len(known),
        median=statistics.median(sizes) if sizes else None,
        p90=sizes[math.ceil(0.9 * len(sizes)) - 1] if sizes else None,
        bias=statistics.median(known) if known else None,
    )
