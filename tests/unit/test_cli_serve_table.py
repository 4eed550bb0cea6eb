"""`sim.cli_serve_table`: what a person sees after a serving run."""

from dataclasses import replace

import pytest

from sim.cli_serve_table import cause_table, count_table, measured_table, serve_text
from sim.run.serve_answer import serve_answer
from sim.run.serve_result import Served, served
from sim.serving.config import ServeConfig, Slo
from tests.strategies_serve import PS_PER_S, Toy, info, serve_run, toy_served, trace_of

LONG = "An-Extremely-Long-Contestant-Name-70B-Instruct with fp8 weights"


@pytest.fixture(scope="module")
def several() -> list[Served]:
    slo = Slo(ttft_ps=PS_PER_S, tpot_ps=20 * 10**9)
    return [
        toy_served(60, 12.0, name="Toy-8B", slo=slo, real=True),
        toy_served(60, 12.0, Toy(slowness=3, kv_blocks=700), name=LONG, slo=slo),
    ]


def test_everything_fits_80_columns(several: list[Served]) -> None:
    text = serve_text(several)
    assert max(map(len, text.split("\n"))) <= 80
    lines = text.split("\n")
    assert lines[:3] == [
        "Which toy answers first?",
        "NVIDIA H100 SXM 80 GB, engine vllm, policy chunked_prefill; poisson at 12",
        "requests/s, SLO TTFT 1 s, TPOT 20 ms",
    ]
    assert lines[4].split() == [
        "contestant", "done", "failed", "req/s", "tok/s", "good/s", "preempted", "hit", "KV",
    ]  # fmt: skip
    assert lines[8].split() == [
        "contestant", "TTFT", "mean", "p99", "TPOT", "mean", "p99", "E2E", "mean", "p99",
    ]  # fmt: skip


def test_without_an_slo_there_is_no_goodput() -> None:
    assert "good/s" not in count_table([toy_served(3)])[0]


def test_each_column_of_causes_sums_to_100(several: list[Served]) -> None:
    lines = cause_table(several)
    rows = {line[:15].strip(): line[15:].split() for line in lines[3:]}
    assert rows.pop("sum") == ["100.0", "100.0"]
    assert len(rows.pop("mean request")) == 4
    for column in (0, 1):
        assert sum(float(row[column]) for row in rows.values()) == pytest.approx(100)
    assert "queue" in rows
    assert "interference" in rows
    assert "KV transfer" not in rows


def test_a_measured_run_has_a_table_with_errors(several: list[Served]) -> None:
    lines = measured_table(several)
    assert lines[0] == "Simulated against measured:"
    assert lines[3].split()[:4] == ["Toy-8B", "mean", "TTFT", "ms"]
    assert lines[3].endswith("-4.8 %")
    assert len(lines) == 14
    assert measured_table(several[1:]) == []


def test_the_answer_names_the_largest_causes_of_one_contestant(several: list[Served]) -> None:
    first, second = serve_answer(several[:1])
    assert first.startswith("The mean request of Toy-8B spends ")
    assert " % on HBM bandwidth, 25 % on interference and " in first
    assert second == (
        "What limits it most: HBM bandwidth (waiting for data while the HBM channels are "
        "saturated); fewer bytes would help: weights and KV in fewer bits, larger batches."
    )


def test_the_answer_compares_two_contestants_and_names_what_makes_the_difference(
    several: list[Served],
) -> None:
    first, second = serve_answer(several)
    assert first.startswith("Toy-8B answers its mean request first, after ")
    assert first.endswith(" more of it thrown out of the cache.")
    assert second.startswith("The mean request of Toy-8B spends ")


def test_a_run_in_which_nothing_finished_is_told() -> None:
    trace = trace_of([(0, 10_000, 3)])
    one = served(info(), serve_run(trace, Toy(kv_blocks=100)), trace)
    text = serve_text([one])
    assert text.endswith("No request finished.")
    assert "Where the mean" not in text


def test_replicas_skipped_requests_and_notes_are_told() -> None:
    one = toy_served(4)
    setting = replace(
        one.info, config=ServeConfig(replicas=4), skipped=12, notes=("its head is not simulated",)
    )
    text = serve_text([replace(one, info=setting)])
    assert "4 replicas by round_robin" in text.replace("\n", " ")
    assert "12 requests skipped" in text.replace("\n", " ")
    assert text.endswith("\nToy-8B: its head is not simulated")
