"""`sim.serving.rank`: which causes the time of a request is charged to."""

import numpy as np
import pytest

from sim.errors import InvariantError
from sim.measure.causes import CAUSES
from sim.serving.config import ServeConfig, Speculation
from sim.serving.parts import Wire
from sim.serving.rank import finish
from sim.serving.request import Request, Trace
from sim.serving.sequence import ServedSequence
from tests.serving_toy import MS, US, Row, Toy, causes_us, trace_of

SYNC = ServeConfig(async_scheduling=False)
TIGHT = ServeConfig(async_scheduling=False, enable_prefix_caching=False)


def charged(config: ServeConfig, *rows: Row, blocks: int = 1000) -> list[dict[str, float]]:
    run = Toy(config=config, blocks=blocks).serve(trace_of(rows))
    return [causes_us(record) for record in run.requests]


def test_a_request_alone_is_charged_its_steps() -> None:
    assert charged(SYNC, (0, 10, 3)) == [{"tensor": 12, "hbm_bandwidth": 3000}]


def test_a_prompt_for_no_token_is_charged_as_any() -> None:
    assert charged(SYNC, (0, 10, 0)) == [{"tensor": 10, "hbm_bandwidth": 1000}]


def test_waiting_for_a_step_to_end_is_queueing() -> None:
    assert charged(SYNC, (0, 10, 1), (0.25, 5, 1))[1] == {
        "queue": 760,
        "tensor": 5,
        "hbm_bandwidth": 1000,
    }


def test_what_a_prompt_adds_to_a_decode_is_interference_and_the_reverse() -> None:
    assert charged(SYNC, (0, 10, 3), (0.25, 5, 1)) == [
        {"tensor": 10 + 1 + 1, "hbm_bandwidth": 3000, "interference": 5},
        {"queue": 760, "tensor": 5, "hbm_bandwidth": 1000, "interference": 1},
    ]


def test_decodes_of_others_are_not_interference_to_a_decode() -> None:
    assert charged(SYNC, (0, 10, 2), (0, 10, 2)) == [
        {"tensor": 10 + 2, "hbm_bandwidth": 2000, "interference": 10},
    ] * 2  # fmt: skip


def test_a_step_of_prompts_alone_is_interference_to_those_that_could_decode() -> None:
    config = ServeConfig(async_scheduling=False, policy="prefill_first")
    assert charged(config, (0, 10, 2), (0.25, 5, 1))[0] == {
        "tensor": 11,
        "hbm_bandwidth": 2000,
        "interference": 1005,
    }


def test_an_admitted_prompt_without_tokens_in_a_step_waits_for_its_turn() -> None:
    guesses = Speculation(draft_tokens=3, acceptance=(0.0,))
    config = ServeConfig(max_num_batched_tokens=4, speculation=guesses)
    assert charged(config, (0, 1, 3), (0, 8, 1)) == [
        {"tensor": 1 + 4 + 4, "hbm_bandwidth": 3000, "interference": 3},
        {"tensor": 8, "hbm_bandwidth": 3000, "interference": 1, "prefill_wait": 2008},
    ]


def test_what_a_prompt_waited_before_it_was_thrown_out_stays_charged_to_its_cause() -> None:
    guesses = Speculation(draft_tokens=3, acceptance=(0.0,))
    config = ServeConfig(max_num_batched_tokens=4, speculation=guesses, enable_prefix_caching=False)
    assert charged(config, (0, 1, 8), (0, 8, 1), blocks=3)[1] == {
        "tensor": 3 + 8,
        "hbm_bandwidth": 3000,
        "interference": 1,
        "prefill_wait": 4 * 1004,
        "preempted": 3 * 1004,
    }


def test_who_is_thrown_out_while_a_cache_is_on_its_way_waits_from_then_on() -> None:
    config = ServeConfig(
        replicas=2, prefill_replicas=1, async_scheduling=False, enable_prefix_caching=False
    )
    toy = Toy(config=config, blocks=5, peer=Wire(bytes_per_s=10**9, latency_ps=10 * MS))
    run = toy.serve(trace_of([(0, 4, 12), (0, 8, 2)]))
    # The first decodes from 11112 to 15116 us; then the second, to arrive at 21312, has all room.
    assert run.requests[1].finished_ps == 22313 * US
    causes = causes_us(run.requests[0])
    assert causes["preempted"] == 22313 - 15116
    assert "host" not in causes


def test_a_thrown_out_request_waits_and_then_pays_for_its_prompt_again() -> None:
    old, young = charged(TIGHT, (0, 4, 8), (0, 4, 8), blocks=4)
    assert old == {"tensor": 4 + 4 * 2 + 3, "hbm_bandwidth": 8000, "interference": 4}
    assert young == {
        "tensor": 4 + 4 * 2 + 9 + 2,
        "hbm_bandwidth": 8000,
        "interference": 4,
        "preempted": 3003,
    }


def test_copies_to_the_host_are_charged_to_the_link_of_those_that_run_meanwhile() -> None:
    config = ServeConfig(async_scheduling=False, enable_prefix_caching=False, preemption="swap")
    old, young = charged(config, (0, 4, 8), (0, 4, 8), blocks=4)
    assert old == {"tensor": 15, "hbm_bandwidth": 8000, "interference": 4, "link": 205}
    assert young == {
        "tensor": 4 + 4 * 2 + 3,
        "hbm_bandwidth": 8000,
        "interference": 4,
        "preempted": 3003 + 205,
        "link": 205,
    }


def test_waiting_for_a_slower_rank_is_charged_to_the_latency_of_links() -> None:
    config = ServeConfig(async_scheduling=False, data_parallel=2)
    toy = Toy(config=config)
    toy.rows = lambda tokens: 0
    run = toy.serve(trace_of([(0, 10, 1), (0, 50, 1)]))
    assert causes_us(run.requests[0]) == {
        "tensor": 10,
        "hbm_bandwidth": 1000,
        "link_latency": 40,
    }


def test_padding_to_the_rows_of_a_neighbour_costs_what_the_rows_cost() -> None:
    run = Toy(config=ServeConfig(async_scheduling=False, data_parallel=2)).serve(
        trace_of([(0, 10, 1), (0, 50, 1)])
    )
    assert causes_us(run.requests[0]) == {"tensor": 50, "hbm_bandwidth": 1000}


def test_the_ledger_of_a_log_is_that_of_its_steps_about_once_a_second() -> None:
    run = Toy(config=SYNC).serve(trace_of([(0, 100, 2500), (4000, 1, 1)]))
    log = run.replicas[0]
    times = [time for time, _ in log.ledger_at]
    assert times[-1] == log.end_ps[-1]
    assert all(time in set(log.end_ps) for time in times)
    assert [time // (1000 * MS) for time in times] == [1, 2, 4]
    total = dict(zip(CAUSES, log.ledger_at[-1][1], strict=True))
    assert total["hbm_bandwidth"] == 2501 * MS
    assert total["tensor"] == (100 + 2499 + 1) * US
    assert sum(total.values()) == sum(
        end - start for start, end in zip(log.start_ps, log.end_ps, strict=True)
    )


def test_a_log_has_all_of_a_step() -> None:
    run = Toy(config=SYNC).serve(trace_of([(0, 10, 2), (0, 6, 1), (0.1, 3, 1)]))
    log = run.replicas[0]
    assert [end / US for end in log.end_ps] == [1016, 2020]
    assert log.start_ps.tolist() == [0, 1016 * US]
    assert log.decodes.tolist() == [0, 1]
    assert log.prefill_tokens.tolist() == [16, 3]
    assert log.generated.tolist() == [2, 2]
    assert log.running.tolist() == [2, 2]
    assert log.waiting.tolist() == [0, 0]
    assert log.kv_blocks.tolist() == [3 + 2, 3 + 1]
    assert log.hbm_bytes.tolist() == [1000, 1000]
    assert log.flop.tolist() == [16, 4]
    assert log.kv_blocks_total == 1000


def test_a_request_whose_causes_do_not_sum_to_its_time_is_an_error() -> None:
    one = ServedSequence(Request(index=4, arrival_ps=0, input_tokens=1, output_tokens=1), 10, 1)
    one.charge("queue", 30)
    with pytest.raises(InvariantError, match="request 4: causes sum to 20 ps, but it took 21 ps"):
        finish(one, 31)
    finish(one, 30)
    assert one.record.finished_ps == 30
    assert np.sum(one.record.causes_ps) == 20


def test_an_empty_trace_leaves_empty_logs() -> None:
    run = Toy(config=SYNC).serve(Trace(name="empty", requests=()))
    assert run.requests == ()
    assert len(run.replicas[0].end_ps) == 0
    assert run.replicas[0].ledger_at == [(0, (0,) * len(CAUSES))]
