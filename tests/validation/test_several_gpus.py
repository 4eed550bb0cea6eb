"""Measured steps of tensor-parallel engines, predicted within pinned errors; nothing was fitted."""

import csv
import statistics
from functools import cache
from pathlib import Path

import pytest

from analysis.validate.case import UnpredictableError
from analysis.validate.chips import chip_of
from analysis.validate.rows.steps import shared_step_case
from sim.run.memo import Memo

TABLE = Path(__file__).parent / "data" / "decode_e2e.csv"


@cache
def errors() -> dict[tuple[str, str], list[float]]:
    """Return the relative errors of the step's time by engine and number of GPUs."""
    found: dict[tuple[str, str], list[float]] = {}
    memo = Memo(None)
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["n_gpus"] != "1"]
    for row in rows:
        try:
            case = shared_step_case(row)
        except UnpredictableError:
            continue
        ratio = case.predicted(chip_of(row), memo) / float(row["value"])
        error = ratio - 1 if row["metric"] == "step_ms" else 1 / ratio - 1
        found.setdefault((row["engine"].split()[0], row["parallelism"]), []).append(error)
    return found


@pytest.mark.parametrize(
    ("engine", "gpus", "rows", "median"),
    [
        ("gpt-fast", "TP2", 6, 0.045),
        ("gpt-fast", "TP4", 6, 0.03),
        ("gpt-fast", "TP8", 10, 0.04),
        ("LMDeploy", "TP4", 14, 0.13),
        ("TensorRT-LLM", "TP2", 5, 0.035),
        ("TensorRT-LLM", "TP4", 3, 0.185),
    ],
)
@pytest.mark.xdist_group("silicon")
def test_steps_on_several_gpus_are_within_the_pinned_error(
    engine: str, gpus: str, rows: int, median: float
) -> None:
    """The median of the sizes of the errors, over all rows of the table."""
    found = errors()[engine, gpus]
    assert len(found) == rows
    assert statistics.median(map(abs, found)) <= median


@pytest.mark.xdist_group("silicon")
def test_the_link_s_share_is_not_what_errors_come_from() -> None:
    """More GPUs, more exchanges, smaller kernels: one engine's bias stays within 5 %."""
    biases = [statistics.median(errors()["gpt-fast", f"TP{n}"]) for n in (2, 4, 8)]
    assert max(map(abs, biases)) < 0.05


@pytest.mark.xdist_group("silicon")
def test_all_rows_together() -> None:
    """46 rows: median and 90th percentile."""
    sizes = sorted(abs(error) for found in errors().values() for error in found)
    assert len(sizes) == 46
    assert statistics.median(sizes) <= 0.06
    assert sizes[len(sizes) * 9 // 10] <= 0.23
