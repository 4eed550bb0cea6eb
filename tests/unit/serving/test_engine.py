"""`sim.serving.engine`: clients, routing, and prompts and decodes that are apart."""

import pytest

from sim.errors import InvariantError
from sim.serving.config import ServeConfig, Speculation
from sim.serving.record import Outcome
from sim.serving.scheduler import Scheduler
from tests.serving_toy import (
    FULL,
    STATE,
    US,
    Toy,
    ToyCost,
    causes_us,
    check_laws,
    steps,
    tokens_us,
    trace_of,
)

SYNC = ServeConfig(async_scheduling=False)
APART = ServeConfig(async_scheduling=False, replicas=2, prefill_replicas=1)


def test_an_empty_trace_is_served_at_once() -> None:
    run = Toy(config=SYNC).serve(trace_of([]))
    assert run.requests == ()
    assert steps(run) == []


def test_round_robin_deals_requests_in_turn() -> None:
    run = Toy(config=ServeConfig(replicas=3)).serve(trace_of([(0, 4, 2)] * 7))
    assert [record.replica for record in run.requests] == [0, 1, 2, 0, 1, 2, 0]


def test_least_loaded_looks_at_who_waits_and_runs() -> None:
    config = ServeConfig(replicas=2, router="least_loaded", async_scheduling=False)
    run = Toy(config=config).serve(trace_of([(0, 4, 9), (0, 4, 1), (2, 4, 9), (2.1, 4, 1)]))
    assert [record.replica for record in run.requests] == [0, 1, 1, 0]


def test_prefix_aware_sends_a_request_to_what_it_has_in_common() -> None:
    config = ServeConfig(replicas=2, router="prefix_aware", async_scheduling=False)
    rows = [(0, 4, 1), (0, 16, 1), (9, 20, 1), (20, 4, 1)]
    run = Toy(config=config).serve(trace_of(rows, prefixes=[(), (1, 2), (1, 2, 3), ()]))
    assert [record.replica for record in run.requests] == [0, 1, 1, 0]
    assert run.requests[2].prefix_hit_tokens == 16


def test_a_request_names_the_log_of_its_rank() -> None:
    config = ServeConfig(replicas=2, data_parallel=2, async_scheduling=False)
    toy, trace = Toy(config=config), trace_of([(0, 4, 2)] * 4)
    run = toy.serve(trace)
    assert len(run.replicas) == 4
    assert [record.replica for record in run.requests] == [0, 2, 1, 3]
    check_laws(toy, trace, run)


def test_a_new_request_goes_to_the_rank_with_least_to_do_where_waiting_weighs_four_times() -> None:
    config = ServeConfig(data_parallel=2, async_scheduling=False, max_num_seqs=3)
    # The first rank runs two and then three, the second runs two.
    run = Toy(config=config).serve(trace_of([(0, 4, 50)] * 5 + [(3, 4, 1)]))
    assert [record.replica for record in run.requests] == [0, 1, 0, 1, 0, 1]


def test_a_closed_loop_keeps_so_many_requests_in_flight() -> None:
    trace = trace_of([(0, 4, 1)] * 3, concurrency=1)
    run = Toy(config=SYNC).serve(trace)
    assert steps(run) == [(1004, 0, 4), (2008, 0, 4), (3012, 0, 4)]
    assert [record.sent_ps / US for record in run.requests] == [0, 1004, 2008]
    trace = trace_of([(0, 4, 1), (0, 4, 2), (0, 4, 1), (9, 4, 1)], concurrency=2)
    run = Toy(config=SYNC).serve(trace)
    assert [record.sent_ps / US for record in run.requests] == [0, 0, 1008, 9000]


def test_an_answer_to_a_finished_request_comes_after_the_step_that_is_planned_then() -> None:
    trace = trace_of([(0, 4, 1), (0, 4, 3), (0, 4, 1)], concurrency=2)
    run = Toy(config=SYNC).serve(trace)
    assert steps(run) == [(1008, 0, 8), (2009, 1, 0), (3014, 1, 4)]


def test_requests_that_can_never_be_served_are_rejected_with_a_reason() -> None:
    toy = Toy(config=ServeConfig(max_model_len=30), blocks=5)
    trace = trace_of([(0, 20, 2), (1, 31, 1), (2, 0, 4), (3, 20, 1)], concurrency=1)
    run = toy.serve(trace)
    assert [record.reason for record in run.requests] == [
        "needs 6 blocks of KV, the cache has 5",
        "has 32 tokens, more than max_model_len = 30",
        "has an empty prompt",
        "",
    ]
    assert [record.outcome is Outcome.FINISHED for record in run.requests] == [False] * 3 + [True]
    assert run.requests[0].sent_ps == 0
    check_laws(toy, trace, run)


def test_one_block_is_enough_for_small_requests_one_after_the_other() -> None:
    for policy in ("chunked_prefill", "prefill_first", "static"):
        toy = Toy(config=ServeConfig(policy=policy, async_scheduling=False), blocks=1)
        trace = trace_of([(0, 2, 3), (0, 4, 1), (0, 5, 1)])
        run = toy.serve(trace)
        assert steps(run) == [(1002, 0, 2), (2003, 1, 0), (3004, 1, 0), (4008, 0, 4)]
        assert run.requests[2].outcome is Outcome.REJECTED
        check_laws(toy, trace, run)


def test_a_model_that_keeps_only_a_state_is_limited_by_its_number_of_states() -> None:
    toy = Toy(config=SYNC, blocks=1, groups=(STATE,))
    run = toy.serve(trace_of([(0, 500, 2), (0, 4, 1)]))
    assert steps(run) == [(1500, 0, 500), (2501, 1, 0), (3505, 0, 4)]


def test_far_too_many_requests_take_a_finite_time() -> None:
    toy = Toy(config=ServeConfig(max_num_seqs=4), blocks=16)
    trace = trace_of([(0.001 * n, 8, 5) for n in range(300)])
    run = toy.serve(trace)
    check_laws(toy, trace, run)
    last_ps = max(record.finished_ps or 0 for record in run.requests)
    assert last_ps < 300 * 5 * 1100 * US
    begun = [record.scheduled_ps or 0 for record in run.requests]
    assert begun == sorted(begun)


def test_a_prompt_computed_elsewhere_decodes_when_its_cache_has_arrived() -> None:
    run = Toy(config=APART).serve(trace_of([(0, 8, 3)]))
    assert [log.role for log in run.replicas] == ["prefill", "decode"]
    assert steps(run, 0) == [(1008, 0, 8)]
    # Two blocks take 200 us, and the first byte 10.
    assert steps(run, 1) == [(2219, 1, 0), (3220, 1, 0)]
    assert tokens_us(run) == [[1008, 2219, 3220]]
    record = run.requests[0]
    assert record.replica == 1
    assert record.emitted == [(0, 1)]
    assert record.scheduled_ps == 0
    assert causes_us(record) == {"tensor": 10, "hbm_bandwidth": 3000, "kv_transfer": 210}


def test_a_request_for_one_token_stays_where_its_prompt_is() -> None:
    toy, trace = Toy(config=APART), trace_of([(0, 8, 1), (0, 8, 0)])
    run = toy.serve(trace)
    assert [record.replica for record in run.requests] == [0, 0]
    assert [record.emitted for record in run.requests] == [[(0, 0)], []]
    assert steps(run, 1) == []
    check_laws(toy, trace, run)


def test_caches_cross_a_wire_one_after_the_other() -> None:
    run = Toy(config=APART).serve(trace_of([(0, 8, 2), (0, 4, 2)]))
    assert steps(run, 1) == [(2223, 1, 0), (3224, 1, 0)]
    assert causes_us(run.requests[1])["kv_transfer"] == 210 + 110
    assert run.requests[1].finished_ps == 3224 * US
    assert causes_us(run.requests[1])["queue"] == 2223 - 1012 - 320


def test_blocks_of_a_prompt_are_free_as_soon_as_its_cache_has_left() -> None:
    run = Toy(config=APART, blocks=3).serve(trace_of([(0, 8, 2), (0, 8, 1)]))
    assert steps(run, 0) == [(1008, 0, 8), (1218 + 1008, 0, 8)]


def test_a_prompt_waits_for_room_where_it_will_decode() -> None:
    run = Toy(config=APART, blocks=4).serve(trace_of([(0, 8, 5), (0, 8, 2)]))
    # Nine tokens need three blocks, then the first has four: only when it is done ...
    assert steps(run, 1)[:4] == [(2227 + 1001 * n, 1, 0) for n in range(4)]
    # ... has the second a place, whose cache then takes 210 us.
    assert steps(run, 1)[4] == (5230 + 210 + 1001, 1, 0)
    assert causes_us(run.requests[1])["queue"] == 5230 - 1016


def test_a_thrown_out_request_computes_its_prompt_where_it_decodes() -> None:
    config = ServeConfig(
        async_scheduling=False, replicas=2, prefill_replicas=1, enable_prefix_caching=False
    )
    toy, trace = Toy(config=config, blocks=5), trace_of([(0, 4, 12), (0, 4, 12)])
    run = toy.serve(trace)
    check_laws(toy, trace, run)
    assert [record.preemptions for record in run.requests] == [0, 1]
    assert sum(run.replicas[1].prefill_tokens) == 9


@pytest.mark.parametrize(
    ("policy", "replicas"), [("chunked_prefill", 2), ("static", 3), ("prefill_first", 3)]
)
def test_many_prompts_pass_through_small_caches(policy: str, replicas: int) -> None:
    config = ServeConfig(policy=policy, replicas=replicas, prefill_replicas=1)
    toy, trace = Toy(config=config, blocks=12), trace_of([(0.3 * n, 20, 20) for n in range(40)])
    check_laws(toy, trace, toy.serve(trace))


def test_draft_steps_are_charged_to_the_causes_of_their_time() -> None:
    guesses = Speculation(draft_tokens=2, acceptance=(1.0,))
    toy = Toy(config=ServeConfig(speculation=guesses), draft=ToyCost(step_ps=100 * US))
    run = toy.serve(trace_of([(0, 4, 7)]))
    assert steps(run) == [(1108, 0, 4), (2313, 1, 0), (3518, 1, 0)]
    assert causes_us(run.requests[0]) == {"tensor": 8 + 5 + 5, "hbm_bandwidth": 1100 + 2400}
    check_laws(toy, trace_of([(0, 4, 7)]), run)


def test_guesses_that_never_hold_give_one_token_a_step() -> None:
    guesses = Speculation(draft_tokens=2, acceptance=(0.0,))
    toy = Toy(config=ServeConfig(speculation=guesses))
    run = toy.serve(trace_of([(0, 4, 3)]))
    assert steps(run) == [(1004, 0, 4), (2007, 1, 0), (3010, 1, 0)]
    assert run.requests[0].tokens_per_step == [1, 1, 1]


def test_the_seed_decides_which_guesses_hold() -> None:
    guesses = Speculation(draft_tokens=2, acceptance=(0.5,))
    config, trace = ServeConfig(speculation=guesses), trace_of([(0, 4, 100)])
    runs = [Toy(config=config, seed=seed).serve(trace) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_a_lost_request_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scheduler, "plan", lambda self: None)
    with pytest.raises(InvariantError, match="request 0 was never finished"):
        Toy(config=SYNC, groups=(FULL,)).serve(trace_of([(0, 4, 1)]))
