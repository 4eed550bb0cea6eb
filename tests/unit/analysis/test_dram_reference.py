"""What a row of the curves is run with, and how draws are averaged."""

import statistics

import pytest

from analysis.dram_reference import predict, run_of, simulate_run

ROW = {
    "experiment": "d_mix",
    "config": "ds3_hbm2_bglow",
    "mapping": "bglow",
    "pattern": "streams_rand",
    "n_streams": "4",
    "chunk_bytes": "128",
    "read_frac": "1.0",
    "offered_load": "0",
    "bandwidth_fraction": "0.5",
    "mean_latency_ns": "100",
    "command": "mb=0.03125",
}


def test_streams_with_random_bases_get_the_mean_of_consecutive_draws() -> None:
    run = run_of(ROW)
    each = [simulate_run(run, seed=s, compiled=False).bandwidth_fraction for s in (3, 4, 5)]
    assert len(set(each)) > 1
    mean = predict(ROW, seed=3, draws=3, compiled=False).fraction
    assert mean == pytest.approx(statistics.fmean(each))


def test_other_patterns_are_drawn_once() -> None:
    row = {**ROW, "pattern": "random"}
    once = simulate_run(run_of(row), seed=3, compiled=False).bandwidth_fraction
    assert predict(row, seed=3, draws=3, compiled=False).fraction == pytest.approx(once)


def test_rows_of_dramsim3_let_the_banks_take_turns() -> None:
    assert run_of(ROW).controller.bank_order == "round_robin"
    assert run_of({**ROW, "config": "hbm2_2000_refab"}).controller.bank_order == "age"
