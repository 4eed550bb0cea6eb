"""Predicted against measured times, with pinned bounds: a change that worsens them fails.

The bounds stand in `bounds.toml`, a little above the errors of the rows that are taken here: every
`[step]`-th shape of the subset. `make validate` judges all of it.
"""

import os
import tomllib
from functools import cache
from pathlib import Path

import pytest

from analysis.validate.run import Options, validated
from analysis.validate.score import Score, scores

DATA = Path(__file__).parent / "data"
BOUNDS = tomllib.loads((Path(__file__).parent / "bounds.toml").read_text(encoding="utf-8"))
CASES = [
    (table, name, gpu, bound)
    for table, selections in BOUNDS["bounds"].items()
    for name, gpus in selections.items()
    for gpu, bound in gpus.items()
]


@cache
def found(table: str) -> dict[tuple[str, str], Score]:
    """Return the scores of a table's sample."""
    options = Options(
        folder=DATA, ops=(table,), sample=BOUNDS["step"][table], jobs=os.cpu_count(), memo=False
    )
    return scores(validated(options, lambda _done, _total: None)[0].judged())


@pytest.mark.parametrize(("table", "selection", "gpu", "bound"), CASES)
@pytest.mark.xdist_group("silicon")
def test_predictions_are_within_the_pinned_error(
    table: str, selection: str, gpu: str, bound: dict[str, float]
) -> None:
    """Median and 90th percentile of the absolute error, and how many rows were predicted."""
    score = found(table)[selection, gpu]
    assert score.median is not None
    assert score.p90 is not None
    assert score.n >= bound["n"]
    assert score.coverage >= bound.get("coverage", 1.0)
    assert score.median <= bound["median"]
    assert score.p90 <= bound["p90"]
