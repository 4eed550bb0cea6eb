"""`sim.run.serve_write` and its tables: what a serving run leaves on disk."""

import csv
import gzip
import io
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from sim.errors import InputError, InvariantError
from sim.measure.causes import CAUSES, REQUEST_CAUSES
from sim.run.serve_measured import compared, measured_times
from sim.run.serve_result import Served, served, sweep_point
from sim.run.serve_summary import summary
from sim.run.serve_tables import check_causes, requests_csv, series_of, timeseries_csv
from sim.run.serve_timeline import Window
from sim.run.serve_write import ServeFiles, write_results, write_serve
from sim.serving.config import Slo
from sim.serving.record import ServeRun
from sim.serving.request import Trace
from tests.strategies_serve import (
    PS_PER_S,
    Toy,
    info,
    poisson_trace,
    serve_run,
    serve_runs,
    toy_served,
    trace_of,
)

CAUSE_COLUMNS = [f"cause_{cause}_ps" for cause in REQUEST_CAUSES]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def one() -> Served:
    return toy_served(slo=Slo(ttft_ps=PS_PER_S), toy=Toy(replicas=2, kv_blocks=900), real=True)


def test_the_files_of_a_run(one: Served, tmp_path: Path) -> None:
    paths = write_serve(one, tmp_path / "out")
    names = ["requests.csv", "timeseries.csv", "serve.json", "summary.json"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    wanted = ServeFiles(detailed=True, timeline=Window())
    more = write_serve(one, tmp_path / "out", wanted)
    assert [path.name for path in more] == [*names, "steps.csv.gz", "timeline.json.gz"]


def test_several_contestants_have_folders_of_their_own(one: Served, tmp_path: Path) -> None:
    other = replace(one, info=replace(one.info, contestant="Toy 70B, fp8"))
    paths = write_results([one, other], tmp_path)
    places = [str(path.relative_to(tmp_path)) for path in paths]
    assert places[:2] == ["toy-8b/requests.csv", "toy-8b/timeseries.csv"]
    assert places[4:] == [f"toy-70b-fp8/{path.name}" for path in paths[:4]]
    assert all(path.is_file() for path in paths)


def test_two_writes_give_the_same_bytes(one: Served, tmp_path: Path) -> None:
    wanted = ServeFiles(detailed=True, timeline=Window())
    again = toy_served(slo=Slo(ttft_ps=PS_PER_S), toy=Toy(replicas=2, kv_blocks=900), real=True)
    first, second = (
        [path.read_bytes() for path in write_serve(run, tmp_path / name, wanted)]
        for name, run in (("a", one), ("b", again))
    )
    assert first == second


def test_causes_one_picosecond_off_are_refused_before_any_file_is_written(
    one: Served, tmp_path: Path
) -> None:
    record = one.run.requests[3]
    wrong = replace(record, causes_ps=(record.causes_ps[0] + 1, *record.causes_ps[1:]))
    run = replace(one.run, requests=(*one.run.requests[:3], wrong, *one.run.requests[4:]))
    with pytest.raises(InvariantError, match=r"request 3: its causes sum to \d+ ps but it took"):
        write_serve(replace(one, run=run), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_causes_that_are_missing_or_negative_are_refused(one: Served) -> None:
    record = one.run.requests[0]
    for causes, message in (
        ((), "request 0: it has no end or 0 causes instead of 18"),
        ((record.causes_ps[0] - 10**15, record.causes_ps[1] + 10**15, *record.causes_ps[2:]),
         "request 0: tensor below 0 ps"),
    ):  # fmt: skip
        run = replace(one.run, requests=(replace(record, causes_ps=causes),))
        with pytest.raises(InvariantError, match=message):
            check_causes(run)


def test_a_run_of_another_trace_is_a_bug(one: Served) -> None:
    with pytest.raises(InvariantError, match="Toy-8B: its run has other requests than toy"):
        served(one.info, one.run, trace_of([(0, 1, 1)]))


def test_a_folder_that_cannot_be_written_is_a_problem(one: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file/out: cannot be written: "):
        write_serve(one, tmp_path / "file" / "out")


def test_the_columns_of_requests_and_their_sums(one: Served) -> None:
    found = rows(requests_csv(one))
    assert list(found[0]) == [
        "index", "arrival_ps", "sent_ps", "outcome", "replica", "input_tokens", "output_tokens",
        "queue_ps", "prefill_ps", "decode_ps", "ttft_ps", "tpot_ps", "e2e_ps", "preemptions",
        "prefix_hit_tokens", "reason", *CAUSE_COLUMNS,
    ]  # fmt: skip
    assert [int(row["index"]) for row in found] == list(range(40))
    for row, record in zip(found, one.run.requests, strict=True):
        whole = int(row["e2e_ps"])
        assert sum(int(row[name]) for name in CAUSE_COLUMNS) == whole
        assert sum(int(row[f"{phase}_ps"]) for phase in ("queue", "prefill", "decode")) == whole
        assert int(row["ttft_ps"]) == int(row["queue_ps"]) + int(row["prefill_ps"])
        assert record.finished_ps == int(row["sent_ps"]) + whole


@given(serve_runs())
def test_any_run_can_be_written_and_what_a_request_lacks_is_empty(
    case: tuple[Trace, ServeRun],
) -> None:
    trace, run = case
    one = served(info(slo=Slo(tpot_ps=10**10)), run, trace)
    for row in rows(requests_csv(one)):
        done = row["outcome"] == "finished"
        assert bool(row["e2e_ps"]) == bool(row[CAUSE_COLUMNS[0]]) == done
        assert bool(row["ttft_ps"]) == (done and int(row["output_tokens"]) > 0)
        assert bool(row["tpot_ps"]) == (done and int(row["output_tokens"]) > 1)
        assert bool(row["reason"]) == (not done)
    timeseries_csv(one)
    json.dumps(summary(one), allow_nan=False)


def test_nineteen_thousand_requests_are_tabulated_in_time() -> None:
    trace = poisson_trace(3_000, 12.0, mean_output=20)
    one = served(info(), serve_run(trace), trace)
    start = time.process_time()
    requests_csv(one)
    assert time.process_time() - start < 0.4 * 3_000 / 19_366 * 3


def test_the_time_series_has_a_row_per_bucket_and_stalls_that_sum_to_one(one: Served) -> None:
    found = rows(timeseries_csv(one))
    assert list(found[0]) == [
        "start_ps", "end_ps", "num_requests_running", "num_requests_waiting",
        "kv_cache_usage_perc", "prompt_tokens_per_s", "generation_tokens_per_s", "mbu", "mfu",
        *(f"stall_{cause}" for cause in CAUSES),
    ]  # fmt: skip
    assert len(found) == len(series_of(one).running) == 300
    for before, after in itertools.pairwise(found):
        assert before["end_ps"] == after["start_ps"]
    stalls = [sum(float(row[f"stall_{cause}"]) for cause in CAUSES) for row in found]
    assert stalls == pytest.approx([1.0] * 300, abs=1e-4)


def test_the_summary_says_what_was_run_and_how_it_went(one: Served) -> None:
    found: Any = json.loads(json.dumps(summary(one)))
    assert list(found) == [
        "schema_version", "info", "headline", "latencies_ms", "request_causes_ps",
        "step_causes_ps", "replicas", "events", "measured",
    ]  # fmt: skip
    assert found["info"]["slo"] == {"ttft_ps": PS_PER_S, "tpot_ps": None, "e2e_ps": None}
    assert found["headline"]["completed"] == 40
    assert list(found["request_causes_ps"]) == list(REQUEST_CAUSES)
    assert list(found["step_causes_ps"]) == list(CAUSES)
    lives = sum(r.finished_ps - r.sent_ps for r in one.run.requests if r.finished_ps is not None)
    assert sum(found["request_causes_ps"].values()) == lives
    busy = sum(replica["busy_ps"] for replica in found["replicas"])
    assert sum(found["step_causes_ps"].values()) == busy
    assert sum(replica["requests"] for replica in found["replicas"]) == 40
    assert [replica["kv_blocks_total"] for replica in found["replicas"]] == [900, 900]


def test_measured_times_stand_beside_the_simulated_ones_with_the_error(one: Served) -> None:
    found: Any = summary(one)["measured"]
    assert list(found) == [
        "mean TTFT", "median TTFT", "p99 TTFT", "mean TPOT", "median TPOT", "p99 TPOT",
        "mean E2E", "median E2E", "p99 E2E", "duration", "output throughput",
    ]  # fmt: skip
    for name in list(found)[:9]:
        assert found[name]["error_percent"] == pytest.approx(100 / 1.05 - 100)
        assert found[name]["measured"] == pytest.approx(1.05 * found[name]["simulated"])
    assert found["duration"]["error_percent"] < 0 < found["output throughput"]["error_percent"]


def test_the_queue_of_a_real_run_is_compared_if_it_tells(one: Served) -> None:
    assert one.trace.measured is not None
    scheduled = tuple(2 * (r.scheduled_ps or 0) - r.sent_ps for r in one.run.requests)
    real = replace(one.trace.measured, scheduled_ps=scheduled)
    row = compared(replace(one, trace=replace(one.trace, measured=real)))[0]
    assert (row.name, row.unit) == ("mean queue", "ms")
    assert row.error == pytest.approx(-0.5)


def test_a_trace_without_measured_times_has_nothing_to_compare() -> None:
    one = toy_served(3)
    assert compared(one) == ()
    assert measured_times(one) is None
    assert summary(one)["measured"] is None


def test_steps_are_listed_on_request(one: Served, tmp_path: Path) -> None:
    write_serve(one, tmp_path, ServeFiles(detailed=True))
    found = rows(gzip.decompress((tmp_path / "steps.csv.gz").read_bytes()).decode())
    assert list(found[0]) == [
        "replica", "role", "step", "start_ps", "end_ps", "decodes", "prefill_tokens",
        "generated", "running", "waiting", "kv_blocks", "hbm_bytes", "flop",
    ]  # fmt: skip
    assert len(found) == one.run.events


def test_a_run_in_which_nothing_finished_can_be_written(tmp_path: Path) -> None:
    trace = trace_of([(0, 10_000, 3)])
    one = served(info(), serve_run(trace, Toy(kv_blocks=100)), trace)
    write_serve(one, tmp_path, ServeFiles(detailed=True, timeline=Window()))
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["headline"]["failed"], found["request_causes_ps"]) == (1, {})
    assert found["info"]["request_rate"] == "inf"


def test_a_run_is_a_point_of_a_sweep(one: Served) -> None:
    point = sweep_point(one, holds=True)
    assert (point.contestant, point.rate, point.holds) == ("Toy-8B", 9.0, True)
    assert point.ttft_p50_ps <= point.ttft_p99_ps == one.ttft.p99
