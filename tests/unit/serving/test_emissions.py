"""`sim.serving.emissions`: tokens are put back to where the steps ended."""

from array import array
from itertools import chain

import numpy as np
import pytest
from hypothesis import given

from sim.errors import InvariantError
from sim.serving.emissions import emissions
from sim.serving.record import Outcome, ReplicaLog, RequestRecord, ServeRun
from sim.serving.request import Trace
from tests.strategies_serve import PS_PER_S, serve_runs

ENDS = array("q", [10, 20, 35, 50, 80])


def record(
    index: int, first: int | None, runs: list[tuple[int, int]], tokens: int, replica: int = 0
) -> RequestRecord:
    return RequestRecord(
        index=index, sent_ps=0, input_tokens=1, output_tokens=tokens, first_token_ps=first,
        finished_ps=80, emitted=runs, replica=replica,
    )  # fmt: skip


def run_of(
    *records: RequestRecord, replicas: int = 1, decodes: tuple[int, ...] = (1, 1, 1, 1, 1)
) -> ServeRun:
    logs = tuple(
        ReplicaLog(end_ps=array("q", [end + 1000 * i for end in ENDS]), decodes=array("q", decodes))
        for i in range(replicas)
    )
    return ServeRun(requests=records, replicas=logs, events=0)


def test_a_token_leaves_at_the_end_of_each_step_of_its_runs() -> None:
    found = emissions(run_of(record(0, 10, [(0, 1), (3, 4)], 4), record(1, 20, [(1, 2)], 2)))
    assert found.times_ps.tolist() == [10, 20, 50, 80, 20, 35]
    assert found.bounds.tolist() == [0, 4, 6]
    assert found.gap_lists_ps() == [[10, 30, 30], [15]]
    assert found.gaps_ps().tolist() == [10, 30, 30, 15]


def test_a_step_without_decodes_gives_a_token_only_at_the_start_of_a_run() -> None:
    run = run_of(record(0, 10, [(0, 3)], 2), record(1, 35, [(2, 4)], 3), decodes=(0, 0, 0, 1, 1))
    assert emissions(run).gap_lists_ps() == [[40], [15, 30]]
    assert emissions(run).times_ps.tolist() == [10, 50, 35, 50, 80]


def test_steps_are_those_of_the_request_s_replica() -> None:
    found = emissions(run_of(record(0, 1010, [(0, 0)], 1, replica=1), replicas=2))
    assert found.times_ps.tolist() == [1010]


def test_a_first_token_that_another_replica_made_comes_before_the_steps() -> None:
    found = emissions(run_of(record(0, 5, [(1, 2)], 3), record(1, 7, [], 1)))
    assert found.gap_lists_ps() == [[15, 15], []]
    assert found.times_ps.tolist() == [5, 20, 35, 7]


def test_requests_without_tokens_have_no_emission() -> None:
    rejected = record(1, None, [], 5)
    rejected.outcome = Outcome.REJECTED
    found = emissions(run_of(record(0, 10, [(0, 1)], 2), rejected, record(2, 50, [(3, 4)], 2)))
    assert found.bounds.tolist() == [0, 2, 2, 4]
    assert found.gaps_ps().tolist() == [10, 30]
    assert emissions(run_of(rejected)).gaps_ps().tolist() == []
    assert emissions(run_of()).most_a_second(0) == 0


def test_speculation_gives_several_tokens_in_one_emission() -> None:
    one = record(0, 10, [(0, 2)], 6)
    one.tokens_per_step = [1, 3, 2]
    found = emissions(run_of(one, record(1, 10, [(0, 1)], 2)))
    assert found.tokens.tolist() == [1, 3, 2, 1, 1]
    assert found.gaps_ps().tolist() == [10, 15, 10]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (record(0, 50, [(3, 5)], 3), "request 0: steps 3 to 5 are not in the log of its replica"),
        (record(0, 10, [(0, 2)], 4), "request 0: its steps gave 3 tokens, not 4"),
        (record(0, 50, [(0, 2)], 4), "request 0: step 0 ends before the token before it"),
    ],
)
def test_emissions_that_do_not_add_up_are_a_bug(wrong: RequestRecord, message: str) -> None:
    with pytest.raises(InvariantError, match=message):
        emissions(run_of(wrong))


def test_emissions_are_counted_by_whole_seconds_from_the_start() -> None:
    ends = array("q", [PS_PER_S // 2, PS_PER_S, 3 * PS_PER_S // 2])
    log = ReplicaLog(end_ps=ends, decodes=array("q", [1, 1, 1]))
    first, second = record(0, ends[0], [(0, 2)], 3), record(1, ends[0], [(0, 0)], 1)
    runs = ServeRun(requests=(first, second), replicas=(log,), events=0)
    assert emissions(runs).most_a_second(0) == 2
    assert emissions(runs).most_a_second(PS_PER_S // 2) == 3


@given(serve_runs())
def test_every_token_is_emitted_once_from_the_first_to_the_last(
    case: tuple[Trace, ServeRun],
) -> None:
    _, run = case
    found = emissions(run)
    sizes = np.diff(found.bounds)
    for place, one in enumerate(run.requests):
        if one.outcome is Outcome.REJECTED:
            assert sizes[place] == 0
            continue
        assert sizes[place] == one.output_tokens
        times = found.times_ps[found.bounds[place] : found.bounds[place + 1]].tolist()
        assert times == sorted(times)
        if times:
            assert (times[0], times[-1]) == (one.first_token_ps, one.finished_ps)
    assert found.gaps_ps().tolist() == list(chain(*found.gap_lists_ps()))
