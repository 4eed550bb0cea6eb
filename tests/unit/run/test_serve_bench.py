"""`sim.run.serve_bench`: the file that `vllm bench serve --save-result` would have written."""

import itertools
import json

import pytest

from sim.run.serve_bench import bench_result
from sim.run.serve_result import served
from sim.serving.config import Slo
from sim.serving.record import Outcome
from tests.strategies_serve import PS_PER_S, Toy, info, serve_run, toy_served, trace_of

# Keys of vllm/benchmarks/serve.py at commit 009e6d4a, in the order in which it writes them.
SETTING = [
    "date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts",
    "request_rate", "burstiness", "max_concurrency",
]  # fmt: skip
TOTALS = [
    "duration", "completed", "failed", "total_input_tokens", "total_output_tokens",
    "request_throughput", "request_goodput", "output_throughput", "total_token_throughput",
]  # fmt: skip
ARRAYS = [
    "input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times",
    "generated_texts", "errors",
]  # fmt: skip
PEAKS = ["max_output_tokens_per_s", "max_concurrent_requests", "rtfx"]
LATENCIES = [
    f"{statistic}_{metric}_ms"
    for metric in ("ttft", "tpot", "itl")
    for statistic in ("mean", "median", "std", "p99")
]


def test_the_keys_are_those_of_vllm_in_its_order() -> None:
    short = ["latencies", "queue_times"]
    found = bench_result(toy_served())
    assert list(found) == [*SETTING, *TOTALS, *short, *PEAKS, *LATENCIES]


def test_details_stand_where_vllm_has_them() -> None:
    found = bench_result(toy_served(), detailed=True)
    assert list(found) == [*SETTING, *TOTALS, *ARRAYS, *PEAKS, *LATENCIES]
    lengths = {len(value) for key, value in found.items() if key in ARRAYS}  # type: ignore[arg-type]
    assert lengths == {40}


def test_an_infinite_rate_is_a_text_and_no_slo_gives_no_goodput() -> None:
    trace = trace_of([(0, 10, 2)])
    found = bench_result(served(info(), serve_run(trace), trace))
    assert (found["request_rate"], found["request_goodput"]) == ("inf", None)
    assert (found["date"], found["max_concurrency"], found["rtfx"]) == ("", None, 0.0)
    json.dumps(found, allow_nan=False)
    one = toy_served(slo=Slo(ttft_ps=10 * PS_PER_S), rate=4.0)
    kept = bench_result(one)
    assert kept["request_rate"] == 4.0
    assert kept["request_goodput"] == kept["request_throughput"]


def test_one_request_by_hand() -> None:
    trace = trace_of([(PS_PER_S, 100, 3)])
    one = served(info(), serve_run(trace), trace)
    log = one.run.replicas[0]
    ends = [(end - PS_PER_S) / PS_PER_S for end in log.end_ps]
    found = bench_result(one, detailed=True)
    assert found["ttfts"] == [pytest.approx(ends[0])]
    assert found["itls"] == [[pytest.approx(b - a) for a, b in itertools.pairwise(ends)]]
    assert found["latencies"] == [pytest.approx(ends[2])]
    assert found["duration"] == pytest.approx(ends[2])
    assert found["mean_tpot_ms"] == pytest.approx((ends[2] - ends[0]) / 2 * 1000)
    assert (found["start_times"], found["queue_times"]) == ([1.0], [0.0])
    assert (found["max_output_tokens_per_s"], found["max_concurrent_requests"]) == (3.0, 1)


def test_a_rejected_request_failed_and_has_zeros_and_its_reason() -> None:
    trace = trace_of([(0, 100, 3), (0, 10_000, 3)])
    run = serve_run(trace, Toy(kv_blocks=100))
    assert [r.outcome for r in run.requests] == [Outcome.FINISHED, Outcome.REJECTED]
    found = bench_result(served(info(), run, trace), detailed=True)
    assert (found["completed"], found["failed"], found["num_prompts"]) == (1, 1, 2)
    assert found["errors"] == ["", "needs more KV than there is"]
    assert found["output_lens"] == [3, 0]
    assert found["itls"][1] == []  # type: ignore[index]
    assert found["latencies"][1] == found["ttfts"][1] == 0.0  # type: ignore[index]
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (100, 3)


def test_a_client_that_holds_requests_back_tells_for_how_long() -> None:
    one = toy_served(3)
    for record in one.run.requests:
        record.sent_ps += 5 * PS_PER_S
    assert bench_result(one)["queue_times"] == [5.0, 5.0, 5.0]
