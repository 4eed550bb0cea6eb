"""`sim.serving.replica`: when steps are planned, and what they then know."""

from sim.serving.config import ServeConfig, Speculation
from tests.serving_toy import MS, US, Toy, steps, tokens_us, trace_of

SYNC = ServeConfig(async_scheduling=False)
ASYNC = ServeConfig()


def test_steps_follow_each_other_without_a_gap() -> None:
    for config in (SYNC, ASYNC):
        run = Toy(config=config).serve(trace_of([(2, 10, 3)]))
        assert run.replicas[0].start_ps.tolist() == [2 * MS, 3010 * US, 4011 * US]
        assert steps(run) == [(3010, 0, 10), (4011, 1, 0), (5012, 1, 0)]
        assert tokens_us(run) == [[3010, 4011, 5012]]


def test_a_step_planned_at_the_end_of_another_has_what_arrived_meanwhile() -> None:
    run = Toy(config=SYNC).serve(trace_of([(0, 10, 3), (0.5, 5, 2)]))
    assert steps(run) == [(1010, 0, 10), (2016, 1, 5), (3018, 2, 0)]
    assert tokens_us(run) == [[1010, 2016, 3018], [2016, 3018]]


def test_a_step_planned_at_the_start_of_another_has_not() -> None:
    run = Toy(config=ASYNC).serve(trace_of([(0, 10, 3), (0.5, 5, 2)]))
    assert steps(run) == [(1010, 0, 10), (2011, 1, 0), (3017, 1, 5), (4018, 1, 0)]
    assert tokens_us(run) == [[1010, 2011, 3017], [3017, 4018]]


def test_where_nothing_could_be_planned_the_end_of_the_step_plans_again() -> None:
    run = Toy(config=ASYNC).serve(trace_of([(0, 10, 1), (0.5, 5, 1)]))
    assert steps(run) == [(1010, 0, 10), (2015, 0, 5)]


def test_blocks_of_a_finished_request_are_free_one_step_later() -> None:
    rows = [(0, 4, 4), (0, 8, 1), (0, 8, 1)]
    run = Toy(config=SYNC, blocks=4).serve(trace_of(rows))
    assert steps(run)[:2] == [(1012, 0, 12), (2021, 1, 8)]
    run = Toy(config=ASYNC, blocks=4).serve(trace_of(rows))
    assert steps(run)[:3] == [(1012, 0, 12), (2013, 1, 0), (3022, 1, 8)]


def test_a_place_of_a_finished_request_is_free_one_step_later() -> None:
    rows = [(0, 4, 4), (0, 8, 1), (0, 8, 1)]
    run = Toy(config=ServeConfig(async_scheduling=False, max_num_seqs=2)).serve(trace_of(rows))
    assert steps(run)[:2] == [(1012, 0, 12), (2021, 1, 8)]
    run = Toy(config=ServeConfig(max_num_seqs=2)).serve(trace_of(rows))
    assert steps(run)[:3] == [(1012, 0, 12), (2013, 1, 0), (3022, 1, 8)]


def test_a_request_that_arrives_just_when_a_step_ends_is_in_the_plan_made_then() -> None:
    rows = [(0, 10, 4), (1.010, 5, 1)]
    assert steps(Toy(config=SYNC).serve(trace_of(rows)))[1] == (2016, 1, 5)
    run = Toy(config=ASYNC).serve(trace_of(rows))
    assert steps(run)[1:3] == [(2011, 1, 0), (3017, 1, 5)]
    early = Toy(config=ASYNC).serve(trace_of([rows[0], (1.011, 5, 1)]))
    assert steps(early)[1:] == [(2011, 1, 0), (3012, 1, 0), (4018, 1, 5)]


def test_when_arrivals_are_handled_does_not_depend_on_when_they_were_scheduled() -> None:
    """The client sleeps from one request to the next, here last while a step runs."""
    rows = [(0, 10, 4), (0.5, 1, 1), (1.010, 5, 1)]
    assert steps(Toy(config=SYNC).serve(trace_of(rows)))[1] == (2017, 1, 6)


def test_requests_of_one_instant_run_together() -> None:
    for config in (SYNC, ASYNC):
        run = Toy(config=config).serve(trace_of([(3, 4, 1), (3, 5, 1), (3, 6, 1)]))
        assert steps(run) == [(4015, 0, 15)]


def test_speculation_plans_a_step_when_the_one_before_has_ended() -> None:
    guesses = Speculation(draft_tokens=2, acceptance=(1.0,))
    config = ServeConfig(async_scheduling=True, speculation=guesses)
    run = Toy(config=config).serve(trace_of([(0, 4, 7), (0.5, 5, 1)]))
    assert steps(run) == [(1004, 0, 4), (2012, 1, 5), (3015, 1, 0)]
    assert tokens_us(run) == [[1004, 2012, 3015], [2012]]
    assert run.requests[0].tokens_per_step == [1, 3, 3]


def test_a_rank_without_work_runs_a_token_beside_its_neighbour() -> None:
    toy = Toy(config=ServeConfig(async_scheduling=False, data_parallel=2))
    run = toy.serve(trace_of([(0, 10, 2)]))
    assert [(s.decodes, s.tokens, s.rows) for s in toy.cost.asked] == [
        (0, 10, 10),
        (1, 1, 10),
        (1, 1, 1),
        (1, 1, 1),
    ]
    assert steps(run, 0) == [(1010, 0, 10), (2011, 1, 0)]
    assert steps(run, 1) == []


def test_ranks_of_a_replica_step_together() -> None:
    run = Toy(config=ServeConfig(async_scheduling=False, data_parallel=2)).serve(
        trace_of([(0, 10, 2), (0, 30, 2)])
    )
    assert steps(run, 0) == [(1030, 0, 10), (2031, 1, 0)]
    assert steps(run, 1) == [(1030, 0, 30), (2031, 1, 0)]
    assert [record.replica for record in run.requests] == [0, 1]
