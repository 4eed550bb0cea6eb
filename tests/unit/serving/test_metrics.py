"""`sim.serving.metrics`: the numbers by which a run is judged, as `vllm bench serve` has them."""

import time
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.measure.causes import CAUSES, REQUEST_CAUSES
from sim.serving.config import Slo
from sim.serving.emissions import emissions
from sim.serving.metrics import (
    cause_totals,
    good,
    headline,
    latencies,
    most_concurrent,
    spread,
    step_totals,
)
from sim.serving.record import Outcome, RequestRecord, ServeRun
from sim.serving.request import Trace
from tests.strategies_serve import PS_PER_S, Toy, poisson_trace, serve_run, serve_runs

S = PS_PER_S


def done(index: int, sent: int, first: int | None, end: int, tokens: int) -> RequestRecord:
    return RequestRecord(
        index=index, sent_ps=sent, input_tokens=10, output_tokens=tokens, scheduled_ps=sent,
        first_token_ps=first, finished_ps=end,
    )  # fmt: skip


def rejected(index: int, sent: int) -> RequestRecord:
    return RequestRecord(
        index=index, sent_ps=sent, input_tokens=10, output_tokens=5, outcome=Outcome.REJECTED
    )


def run_of(*records: RequestRecord) -> ServeRun:
    return ServeRun(requests=records, replicas=(), events=0)


FOUR = run_of(
    done(0, 1 * S, 2 * S, 5 * S, 4),
    done(1, 1 * S, 4 * S, 4 * S, 1),
    done(2, 2 * S, None, 3 * S, 0),
    rejected(3, 2 * S),
)


def test_latencies_are_counted_from_when_a_request_was_sent() -> None:
    found = latencies(FOUR)
    nan = float("nan")
    assert np.array_equal(found.ttft_ps, [1 * S, 3 * S, nan, nan], equal_nan=True)
    assert np.array_equal(found.tpot_ps, [1 * S, nan, nan, nan], equal_nan=True)
    assert np.array_equal(found.e2e_ps, [4 * S, 3 * S, 1 * S, nan], equal_nan=True)
    assert found.finished.tolist() == [True, True, True, False]


def test_a_request_keeps_a_limit_on_what_it_does_not_have_but_not_if_it_was_rejected() -> None:
    found = latencies(FOUR)
    assert good(found, Slo()).tolist() == [True, True, True, False]
    assert good(found, Slo(ttft_ps=S)).tolist() == [True, False, True, False]
    assert good(found, Slo(ttft_ps=S - 1)).tolist() == [False, False, True, False]
    assert good(found, Slo(tpot_ps=S - 1)).tolist() == [False, True, True, False]
    assert good(found, Slo(e2e_ps=3 * S, ttft_ps=3 * S)).tolist() == [False, True, True, False]


def test_the_headline_of_four_requests_by_hand() -> None:
    times = latencies(FOUR)
    bare = run_of(*(replace(r, first_token_ps=None) for r in FOUR.requests))
    found = headline(FOUR, times, emissions(bare), Slo(ttft_ps=S))
    assert found.duration_ps == 4 * S
    assert (found.completed, found.failed) == (3, 1)
    assert (found.input_tokens, found.output_tokens) == (30, 5)
    assert (found.requests_per_s, found.goodput) == (0.75, 0.5)
    assert (found.output_tokens_per_s, found.total_tokens_per_s) == (1.25, 8.75)
    assert found.most_concurrent == 3
    assert headline(FOUR, times, emissions(bare)).goodput is None


def test_a_run_in_which_nothing_finished_has_zeros() -> None:
    for run in (run_of(), run_of(rejected(0, 5 * S))):
        found = headline(run, latencies(run), emissions(run), Slo(ttft_ps=1))
        assert astuple(found)[2:] == (
            len(run.requests),
            0,
            0,
            0.0,
            0.0,
            0.0,
            0.0,
            0,
            0,
            0,
            0.0,
            0.0,
        )
        assert (found.duration_ps, found.completed) == (0, 0)
        assert spread(latencies(run).e2e_ps).count == 0
        assert (cause_totals(run), step_totals(run)) == ((), ())


def test_one_that_leaves_makes_room_for_one_that_comes_at_that_instant() -> None:
    assert most_concurrent(run_of(done(0, 0, 1, 10, 1), done(1, 10, 11, 20, 1))) == 1
    assert most_concurrent(run_of(done(0, 0, 1, 11, 1), done(1, 10, 11, 20, 1))) == 2


def test_a_spread_by_hand() -> None:
    found = spread(np.array([4.0, 1.0, np.nan, 3.0, 2.0]))
    assert (found.count, found.mean, found.least, found.p50, found.most) == (4, 2.5, 1, 2.5, 4)
    assert found.std == pytest.approx(1.118033988749895)
    assert (found.p90, found.p95, found.p99) == pytest.approx((3.7, 3.85, 3.97))


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=60))
def test_percentiles_rise_from_the_least_to_the_most(values: list[int]) -> None:
    found = spread(np.array(values, dtype=np.int64))
    rising = [found.least, found.p50, found.p90, found.p95, found.p99, found.most]
    assert rising == sorted(rising)
    assert (found.least, found.most) == (min(values), max(values))
    assert found.least <= found.mean <= found.most


@given(serve_runs(), st.integers(0, 20 * S), st.integers(0, S))
def test_goodput_is_at_most_throughput_and_grows_with_the_limits(
    case: tuple[Trace, ServeRun], ttft_ps: int, tpot_ps: int
) -> None:
    _, run = case
    times, emitted = latencies(run), emissions(run)
    tight = headline(run, times, emitted, Slo(ttft_ps=ttft_ps, tpot_ps=tpot_ps))
    loose = headline(run, times, emitted, Slo(ttft_ps=ttft_ps))
    assert tight.goodput is not None
    assert loose.goodput is not None
    assert 0 <= tight.goodput <= loose.goodput <= loose.requests_per_s
    assert tight.completed + tight.failed == len(run.requests)
    assert 0 <= tight.kv_peak <= 1
    assert 0 <= tight.prefix_hit <= 1
    assert tight.most_concurrent <= tight.completed


@given(serve_runs())
def test_causes_sum_to_the_lives_of_requests_and_to_the_steps(case: tuple[Trace, ServeRun]) -> None:
    _, run = case
    lives = sum(r.finished_ps - r.sent_ps for r in run.requests if r.finished_ps is not None)
    steps = sum(sum(log.end_ps) - sum(log.start_ps) for log in run.replicas)
    assert sum(cause_totals(run)) == lives
    assert sum(step_totals(run)) == steps
    assert len(cause_totals(run)) in (0, len(REQUEST_CAUSES))
    assert len(step_totals(run)) in (0, len(CAUSES))


def test_a_million_tokens_take_a_fraction_of_a_second() -> None:
    run = serve_run(poisson_trace(5_000, 12.0), Toy(kv_blocks=20_000))
    start = time.process_time()
    emitted = emissions(run)
    found = headline(run, latencies(run), emitted)
    gaps = spread(emitted.gaps_ps())
    assert time.process_time() - start < 0.6
    assert emitted.times_ps.size == found.output_tokens > 900_000
    assert gaps.count == found.output_tokens - found.completed
