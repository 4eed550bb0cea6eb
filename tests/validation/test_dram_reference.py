"""The bank-level channel against a pinned subset of Ramulator 2.1 and DRAMsim3 runs.

`data/dram_reference.csv` holds rows of a table of 568 runs of Ramulator 2.1 @ c5b1c3a4 (MIT) and
DRAMsim3 @ 29817593 (MIT), driven by the patterns that `sim.hardware.dram.patterns` defines; only
results were copied. Runs are cut to 512 KiB, so that the interpreted path needs half a minute.
"""

import statistics
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from analysis.dram_reference import Prediction, read_rows, run_of, simulate_run

ROWS = read_rows(Path(__file__).parent / "data" / "dram_reference.csv")
CUT_BYTES = 1 << 19


@cache
def prediction(index: int) -> Prediction:
    row = ROWS[index]
    run = run_of(row)
    short = replace(run.pattern, total_bytes=min(run.pattern.total_bytes, CUT_BYTES))
    result = simulate_run(replace(run, pattern=short), seed=1)
    latency = result.read_latency_ns()
    return Prediction(
        row=row,
        fraction=result.bandwidth_fraction,
        latency_ns=float(latency.mean()) if len(latency) else 0.0,
        cpu_s_per_gb=0.0,
    )


RAMULATOR = [i for i, row in enumerate(ROWS) if row["simulator"] != "dramsim3"]
DRAMSIM3 = [i for i, row in enumerate(ROWS) if row["simulator"] == "dramsim3"]


@pytest.mark.xdist_group("dram_reference")
@pytest.mark.parametrize("index", RAMULATOR)
def test_no_read_row_of_ramulator_is_off_by_more_than_twelve_percent(index: int) -> None:
    assert abs(prediction(index).fraction_error) <= 0.12


@pytest.mark.xdist_group("dram_reference")
@pytest.mark.parametrize("index", DRAMSIM3)
def test_no_mixed_row_of_dramsim3_is_off_by_more_than_eight_percent(index: int) -> None:
    assert abs(prediction(index).fraction_error) <= 0.08


@pytest.mark.xdist_group("dram_reference")
def test_bandwidth_is_within_five_percent_at_the_median() -> None:
    assert statistics.median(abs(prediction(i).fraction_error) for i in RAMULATOR) <= 0.05


@pytest.mark.xdist_group("dram_reference")
def test_latency_below_saturation_is_within_fifteen_percent_at_the_median() -> None:
    errors = [e for i in RAMULATOR if (e := prediction(i).latency_error) is not None]
    assert len(errors) >= 5
    assert statistics.median(abs(e) for e in errors) <= 0.15
