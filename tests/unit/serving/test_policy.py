"""`sim.serving.policy`: what the next step may do."""

from sim.serving.config import ServeConfig
from sim.serving.policy import POLICIES, V0_WATERMARK, View, chunked_prefill, prefill_first, static

CONFIG = ServeConfig(max_num_seqs=8, max_num_batched_tokens=100)


def view(**counts: int) -> View:
    return View(CONFIG, **{"running": 0, "decoding": 0, "prefilling": 0, "waiting": 0} | counts)


def test_chunked_prefill_gives_prompts_what_decodes_leave_of_the_budget() -> None:
    decision = chunked_prefill(view(running=5, decoding=3, prefilling=2))
    assert decision.decode
    assert (decision.prompt_tokens, decision.admit) == (97, 3)
    assert not decision.whole_prompts
    assert not decision.apart
    assert decision.watermark == 0


def test_chunked_prefill_counts_every_guess_of_a_decoding_sequence() -> None:
    assert chunked_prefill(view(decoding=3, decode_tokens=4)).prompt_tokens == 88


def test_chunked_prefill_gives_prompts_nothing_when_decodes_fill_the_budget() -> None:
    assert chunked_prefill(view(decoding=150)).prompt_tokens == 0


def test_prefill_first_gives_whole_prompts_the_budget_and_keeps_decodes_apart() -> None:
    decision = prefill_first(view(running=5, decoding=5))
    assert decision.whole_prompts
    assert decision.apart
    assert decision.decode
    assert (decision.prompt_tokens, decision.admit) == (100, 3)
    assert decision.watermark == V0_WATERMARK


def test_static_batching_fills_a_batch_until_it_decodes() -> None:
    assert static(view()).admit == 8
    assert static(view(running=3, decoding=3)).admit == 5
    assert static(view(running=3, decoding=3, decoded=True)).admit == 0


def test_no_policy_admits_more_than_there_are_places() -> None:
    for policy in POLICIES.values():
        for running in range(9):
            assert running + policy(view(running=running)).admit <= 8
