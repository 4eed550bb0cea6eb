"""Predicted against measured collectives, with pinned bounds: a change that worsens them fails."""

import csv
import statistics
from pathlib import Path

import pytest

from analysis.collective_rows import collective_us
from analysis.expert_rows import alltoall_us, measured_us
from sim.hardware.spec import load_chip
from sim.resources import chip_dirs

DATA = Path(__file__).parent / "data"


def errors(table: str, gpu: str, *ops: str) -> list[float]:
    """Return the sizes of the relative errors of a table's rows of one GPU, sorted."""
    predict = collective_us if table == "allreduce" else alltoall_us
    chip = load_chip(gpu, chip_dirs())
    with (DATA / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["gpu"] == gpu]
    return sorted(
        abs(predict(row, chip) / measured_us(row) - 1)
        for row in rows
        if not ops or row["op"] in ops
    )


@pytest.mark.parametrize(
    ("gpu", "median", "p90"),
    [("A100-SXM-80G", 0.06, 0.27), ("H100-SXM", 0.06, 0.25), ("L40S", 0.13, 0.40)],
)
def test_collectives_are_predicted(gpu: str, median: float, p90: float) -> None:
    """NCCL, vLLM, SGLang and TensorRT-LLM, 256 B to 1 GiB, on 2 to 8 GPUs."""
    size = errors("allreduce", gpu)
    assert len(size) >= 29
    assert statistics.median(size) <= median
    assert size[int(0.9 * len(size))] <= p90


def test_expert_exchanges_on_h100_are_predicted() -> None:
    """DeepEP in three engines, 8 to 64 GPUs."""
    size = errors("alltoall", "H100-SXM", "dispatch", "combine")
    assert len(size) >= 50
    assert statistics.median(size) <= 0.13
    assert size[int(0.9 * len(size))] <= 0.36


def test_the_readme_of_deepep_is_predicted() -> None:
    """128 tokens of DeepSeek-V3 on 8 to 256 H800, of which nothing was fitted."""
    size = errors("alltoall", "H800-SXM")
    assert len(size) == 12
    assert statistics.median(size) <= 0.15
    assert size[-1] <= 0.25
