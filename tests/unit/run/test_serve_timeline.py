"""`sim.run.serve_timeline`: steps, counters and the lives of requests for Perfetto."""

import gzip
import itertools
import json
from array import array
from typing import Any

import pytest

from sim.run.serve_result import Served
from sim.run.serve_timeline import Window, phases, timeline_gz
from sim.serving.record import ReplicaLog, RequestRecord
from tests.strategies_serve import PS_PER_S, Toy, toy_served


@pytest.fixture(scope="module")
def one() -> Served:
    return toy_served(60, 20.0, Toy(replicas=2, kv_blocks=600))


def events(one: Served, window: Window | None = None) -> list[dict[str, Any]]:
    trace = json.loads(gzip.decompress(timeline_gz(one, window)))
    assert list(trace) == ["displayTimeUnit", "traceEvents"]
    found: list[dict[str, Any]] = trace["traceEvents"]
    return found


def test_every_step_is_a_span_on_the_track_of_its_replica(one: Served) -> None:
    found = events(one)
    for index, log in enumerate(one.run.replicas):
        steps = [e for e in found if e["ph"] == "X" and e["pid"] == 100 + index]
        assert [e["ts"] * 1e6 for e in steps] == pytest.approx(list(log.start_ps))
        assert [e["args"]["decodes"] for e in steps] == list(log.decodes)
        assert {e["name"] for e in steps} <= {"mixed", "prefill", "decode"}


def test_counters_tell_requests_cache_and_tokens(one: Served) -> None:
    names = {e["name"] for e in events(one) if e["ph"] == "C"}
    assert names == {"requests", "KV cache (%)", "tokens/s"}


def test_spans_of_a_request_are_closed_and_nested(one: Served) -> None:
    open_spans: dict[int, list[str]] = {}
    seen: set[int] = set()
    for e in (e for e in events(one) if e["ph"] in "be"):
        spans = open_spans.setdefault(e["id"], [])
        if e["ph"] == "b":
            assert spans == ([] if e["name"] == "request" else ["request"])
            spans.append(e["name"])
            seen.add(e["id"])
        else:
            assert spans.pop() == e["name"]
    assert not any(open_spans.values())
    assert seen == set(range(60))


def test_no_thread_has_the_number_of_its_process_or_none(one: Served) -> None:
    assert all(0 < e["tid"] != e["pid"] for e in events(one) if e["ph"] in "Xbe")


def test_a_window_thins_steps_and_requests_and_is_named(one: Served) -> None:
    window = Window(start_ps=PS_PER_S, length_ps=PS_PER_S // 2, requests=5, steps=7)
    found = events(one, window)
    assert sum(e["ph"] == "X" for e in found) == 14
    assert len({e["id"] for e in found if e["ph"] == "b"}) == 5
    assert all(e["ts"] + e["dur"] > 1e6 and e["ts"] < 1.5e6 for e in found if e["ph"] == "X")
    titles = [e["args"]["name"] for e in found if e["ph"] == "M" and e["name"] == "process_name"]
    assert titles[0] == "Toy-8B, replica 0, 1 to 1.5 s, at most 5 requests"


def test_the_phases_of_a_request_that_was_thrown_out_once_by_hand() -> None:
    log = ReplicaLog(end_ps=array("q", [10, 20, 30, 40, 50, 60, 70]))
    record = RequestRecord(
        index=0, sent_ps=1, input_tokens=5, output_tokens=5, scheduled_ps=4, first_token_ps=10,
        finished_ps=70, preemptions=1, emitted=[(0, 0), (2, 3), (6, 6)],
    )  # fmt: skip
    assert phases(record, log) == [
        ("queue", 1, 4), ("prefill", 4, 10), ("decode", 10, 40), ("preempted", 40, 70),
    ]  # fmt: skip


def test_phases_follow_each_other_without_holes(one: Served) -> None:
    for record in one.run.requests:
        found = phases(record, one.run.replicas[record.replica])
        assert found[0][1] == record.sent_ps
        assert found[-1][2] == record.finished_ps
        for before, after in itertools.pairwise(found):
            assert before[2] == after[1]
        assert sum(name == "preempted" for name, _, _ in found) == record.preemptions


def test_a_rejected_request_has_no_phase() -> None:
    record = RequestRecord(index=0, sent_ps=1, input_tokens=5, output_tokens=5)
    assert phases(record, ReplicaLog()) == []
