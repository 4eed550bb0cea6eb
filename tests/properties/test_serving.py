"""Laws of the serving engine, whatever the policy, the router and the trace."""

from dataclasses import replace
from unittest import mock

from hypothesis import assume, given
from hypothesis import strategies as st

from sim.serving.config import Speculation
from sim.serving.record import Outcome, RequestRecord, ServeRun
from sim.serving.request import Trace
from sim.serving.scheduler import Scheduler
from tests.serving_toy import Toy, ToyCost, check_laws
from tests.strategies_engine import PLENTY, busy_traces, speculations, tight_toys, toys, traces


def again(toy: Toy, trace: Trace) -> ServeRun:
    """Serve a trace by an equal cluster with empty caches."""
    return replace(toy, caches=[]).serve(trace)


def finished(run: ServeRun) -> list[RequestRecord]:
    return [record for record in run.requests if record.outcome is Outcome.FINISHED]


def alone(**settings: object) -> dict[str, object]:
    """Return the settings of one replica of one rank."""
    return {"replicas": 1, "prefill_replicas": 0, "data_parallel": 1, **settings}


@given(toys(), traces())
def test_every_request_is_served_once_and_every_block_comes_back(toy: Toy, trace: Trace) -> None:
    """Also: tokens out are tokens asked for, and causes sum to the time of each request."""
    check_laws(toy, trace, toy.serve(trace))


@given(tight_toys(), busy_traces())
def test_laws_hold_where_sequences_are_thrown_out(toy: Toy, trace: Trace) -> None:
    run = toy.serve(trace)
    check_laws(toy, trace, run)
    # Hypothesis complains if hardly any run does.
    assume(any(record.preemptions for record in run.requests))


@given(st.data(), st.sampled_from((2, 3)))
def test_laws_hold_where_prompts_wait_for_room_to_decode(
    data: st.DataObject, replicas: int
) -> None:
    toy = data.draw(tight_toys(replicas=replicas, prefill_replicas=1, data_parallel=1))
    trace = data.draw(busy_traces(inputs=(8, 20, 30), burst=True))
    check_laws(toy, trace, toy.serve(trace))


@given(st.data(), speculations)
def test_laws_hold_with_speculation(data: st.DataObject, guesses: Speculation) -> None:
    toy, trace = data.draw(tight_toys(speculation=guesses)), data.draw(busy_traces())
    run = toy.serve(trace)
    check_laws(toy, trace, run)
    for record in finished(run):
        assert sum(record.tokens_per_step) == record.output_tokens
        assert max(record.tokens_per_step, default=1) <= guesses.draft_tokens + 1


@given(toys() | tight_toys(), traces())
def test_the_same_arguments_give_the_same_run(toy: Toy, trace: Trace) -> None:
    assert toy.serve(trace) == again(toy, trace)


@given(toys(policy="chunked_prefill", blocks=PLENTY, **alone(router="round_robin")), traces())
def test_requests_begin_in_the_order_in_which_they_arrive(toy: Toy, trace: Trace) -> None:
    begun = [record.scheduled_ps or 0 for record in finished(toy.serve(trace))]
    assert begun == sorted(begun)


@given(toys(blocks=PLENTY, policy="static", **alone(async_scheduling=False)), traces())
def test_static_batching_admits_nobody_beside_a_batch_that_decodes(toy: Toy, trace: Trace) -> None:
    run = toy.serve(trace)
    log = run.replicas[0]
    decoding = [s for s, count in zip(log.start_ps, log.decodes, strict=True) if count]
    for one in finished(run):
        at = one.scheduled_ps or 0
        for other in finished(run):
            since, until = other.scheduled_ps or 0, other.finished_ps or 0
            if since < at < until:
                assert not any(since <= start < at for start in decoding)


@given(st.data(), st.sampled_from(("prefill_first", "static")))
def test_policies_with_whole_prompts_never_mix_them_with_decodes(
    data: st.DataObject, policy: str
) -> None:
    run = data.draw(toys(policy=policy)).serve(data.draw(traces(least=4)))
    for log in run.replicas:
        assert not any(d and p for d, p in zip(log.decodes, log.prefill_tokens, strict=True))


@given(
    toys(policy="chunked_prefill") | tight_toys(policy="chunked_prefill", preemption="swap"),
    traces(least=4),
)
def test_a_step_with_prompts_keeps_to_the_budget(toy: Toy, trace: Trace) -> None:
    run = toy.serve(trace)
    guesses = toy.config.speculation
    new = 1 if guesses is None else 1 + guesses.draft_tokens
    for log in run.replicas:
        for decodes, prompts in zip(log.decodes, log.prefill_tokens, strict=True):
            assert not prompts or new * decodes + prompts <= toy.config.max_num_batched_tokens


@given(toys(**alone(async_scheduling=False)), traces(open_loop=True))
def test_littles_law_holds_exactly(toy: Toy, trace: Trace) -> None:
    """L = λ W: what the log counts at steps, over time, is what requests spent in the system."""
    run = toy.serve(trace)
    log = run.replicas[0]
    starts = list(log.start_ps)
    counted = sum(
        (running + waiting) * (end - start)
        for start, end, running, waiting in zip(
            starts, log.end_ps, log.running, log.waiting, strict=True
        )
    )
    # Those that arrive during a step are counted from the next one on.
    before = sum(
        min(start for start in starts if start >= record.sent_ps) - record.sent_ps
        for record in finished(run)
    )
    assert counted + before == sum((r.finished_ps or 0) - r.sent_ps for r in finished(run))


@given(toys(**alone()), traces())
def test_a_replica_is_idle_only_when_it_has_no_request(toy: Toy, trace: Trace) -> None:
    run = toy.serve(trace)
    log, end = run.replicas[0], 0
    for start, following in zip(log.start_ps, log.end_ps, strict=True):
        if start > end:
            assert start in {record.sent_ps for record in finished(run)}
            for record in finished(run):
                assert record.sent_ps >= start or (record.finished_ps or 0) <= end
        end = following


@given(tight_toys(), busy_traces(inputs=(3, 8, 20, 30)))
def test_to_remember_that_the_first_in_line_does_not_fit_changes_no_decision(
    toy: Toy, trace: Trace
) -> None:
    run = toy.serve(trace)
    with mock.patch.object(Scheduler, "_is_blocked", return_value=False):
        assert run == again(toy, trace)


@given(toys(blocks=PLENTY, async_scheduling=False, **alone(max_num_batched_tokens=512)), traces())
def test_guesses_that_cost_nothing_and_never_hold_change_nothing(toy: Toy, trace: Trace) -> None:
    free = replace(toy, cost=ToyCost(token_ps=0), draft=None)
    plain = replace(toy.config, speculation=None, max_num_seqs=8)
    guesses = Speculation(draft_tokens=3, acceptance=(0.0,))
    one = again(replace(free, config=plain), trace)
    two = again(replace(free, config=replace(plain, speculation=guesses)), trace)
    assert [r.finished_ps for r in one.requests] == [r.finished_ps for r in two.requests]
    assert [r.emitted for r in one.requests] == [r.emitted for r in two.requests]


@given(tight_toys(), busy_traces())
def test_blocks_are_conserved_at_every_step(toy: Toy, trace: Trace) -> None:
    plan = Scheduler.plan

    def checked(scheduler: Scheduler) -> object:
        batch = plan(scheduler)
        scheduler.kv.check()
        return batch

    with mock.patch.object(Scheduler, "plan", checked):
        check_laws(toy, trace, toy.serve(trace))


@given(tight_toys(enable_prefix_caching=True), busy_traces())
def test_a_request_finds_no_more_of_its_prompt_than_was_computed_before(
    toy: Toy, trace: Trace
) -> None:
    """No prefix: no hit, unless a request comes back, which is not counted."""
    run = toy.serve(trace)
    for record, request in zip(run.requests, trace.requests, strict=True):
        assert record.prefix_hit_tokens <= len(request.prefix) * trace.prefix_block_tokens
