"""`sim.serving.trace_measured`: times of two clocks, and settings."""

import json
from pathlib import Path
from typing import Any

import pytest

from sim.errors import InputError
from sim.serving.request import MeasuredSettings, MeasuredTimes
from sim.serving.trace import read_trace
from sim.serving.trace_measured import read_measured, read_settings
from sim.serving.trace_rows import Reading, Row

ROW = (
    '{{"request_id": "x", "input_toks": 5, "output_toks": 2, "arrival_time": {}, '
    '"queued_ts": {}, "scheduled_ts": {}, "first_token_ts": {}, "last_token_ts": {}}}'
)
EARLY = ROW.format("1787267980.0827403", "27.000000002", "27.1", "27.5", "28.000000001")
LATE = ROW.format("1787267981.0827403", "28.000000001", "28.1", "28.5", "29")

META: dict[str, Any] = {
    "model": "org/name",
    "vllm_version": "0.19.0",
    "engine_kwargs": {"max_num_seqs": 256, "data_parallel_size": 2, "dtype": "bfloat16"},
    "kv_cache": {"num_gpu_blocks": 2588, "block_size": 16, "gpu_memory_utilization": 0.9},
    "hardware": {"device_name": "GPU"},
    "resolved_config": {
        "scheduler_config": {"max_num_seqs": 128, "enable_chunked_prefill": False},
        "parallel_config": "<ParallelConfig>",
    },
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an empty folder the current one, so that messages have short paths."""
    monkeypatch.chdir(tmp_path)


def run_in(folder: str, *rows: str, meta: object = None) -> Path:
    Path(folder).mkdir()
    (Path(folder) / "requests.jsonl").write_text("\n".join(rows))
    if meta is not None:
        (Path(folder) / "meta.json").write_text(json.dumps(meta))
    return Path(folder)


def test_measured_times_are_on_the_clock_of_the_trace() -> None:
    """The clocks differ by the least time from arrival to queue: here that of the late request."""
    rows = read_measured([LATE, EARLY], Reading("f"))
    assert rows == [
        Row(10**12, 5, 2, (), (10**12, 1_099_999_999_000, 1_499_999_999_000, 1_999_999_999_000)),
        Row(0, 5, 2, (), (1_000, 99_999_999_000, 499_999_999_000, 1_000_000_000_000)),
    ]


def test_measured_times_are_sorted_with_their_requests() -> None:
    """Entry i is of request i."""
    trace = read_trace(run_in("run", LATE, EARLY))
    assert [r.arrival_ps for r in trace.requests] == [0, 10**12]
    assert trace.measured == MeasuredTimes(
        first_token_ps=(499_999_999_000, 1_499_999_999_000),
        last_token_ps=(1_000_000_000_000, 1_999_999_999_000),
        queued_ps=(1_000, 10**12),
        scheduled_ps=(99_999_999_000, 1_099_999_999_000),
    )


def test_a_run_is_meant_by_its_folder_and_by_either_file() -> None:
    """Settings are those of the meta.json beside the requests, None without one."""
    folder = run_in("run", EARLY, meta=META)
    trace = read_trace(folder)
    assert trace.name == "run"
    assert trace.settings is not None
    assert read_trace(folder / "requests.jsonl") == read_trace(folder / "meta.json") == trace
    assert read_trace(run_in("bare", EARLY)).settings is None


def test_a_row_whose_times_are_out_of_order_is_told() -> None:
    """And one without a time."""
    reading = Reading("f")
    lines = [ROW.format(1, 2, 3, 5, 4), ROW.format(1, 2, 3, "null", 4)]
    assert read_measured(lines, reading) == []
    assert [str(problem) for problem in reading.problems] == [
        "f:1: its times are out of order "
        "(expected queued_ts <= scheduled_ts <= first_token_ts <= last_token_ts)",
        "f:2: first_token_ts: is missing",
    ]


def test_settings_are_what_the_engine_settled_on() -> None:
    """What it was asked for stands in where it does not say."""
    folder = run_in("run", meta=META)
    assert read_settings(folder / "requests.jsonl") == MeasuredSettings(
        model="org/name",
        engine_version="0.19.0",
        device="GPU",
        dtype="bfloat16",
        max_num_seqs=128,
        block_tokens=16,
        kv_blocks=2588,
        gpu_memory_utilization=0.9,
        enable_chunked_prefill=False,
        data_parallel=2,
    )


def test_wrong_settings_are_told_all_at_once() -> None:
    """Each with its key and what it should be."""
    kwargs = {"max_num_seqs": "many", "enable_expert_parallel": 1, "tensor_parallel_size": 0}
    kv_cache = {"gpu_memory_utilization": True, "block_size": 1.5}
    meta = {"model": 5, "engine_kwargs": kwargs, "kv_cache": kv_cache}
    with pytest.raises(InputError) as caught:
        read_settings(run_in("run", meta=meta) / "requests.jsonl")
    assert str(caught.value).splitlines() == [
        f"run/meta.json: {each}"
        for each in (
            "model = 5: is no such setting (expected text)",
            "engine_kwargs.max_num_seqs = many: is no such setting "
            "(expected an integer, 1 or more)",
            "kv_cache.block_size = 1.5: is no such setting (expected an integer, 1 or more)",
            "kv_cache.gpu_memory_utilization = true: is no such setting "
            "(expected a number above 0)",
            "engine_kwargs.tensor_parallel_size = 0: is no such setting "
            "(expected an integer, 1 or more)",
            "engine_kwargs.enable_expert_parallel = 1: is no such setting (expected true or false)",
        )
    ]


def test_settings_that_are_no_json_are_told() -> None:
    """The file is named, not its folder."""
    with pytest.raises(InputError, match=r"^run/meta\.json: is not a JSON object$"):
        read_settings(run_in("run", meta=[]) / "requests.jsonl")
