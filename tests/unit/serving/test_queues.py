"""`sim.serving.queues`: who can be served at all, and when a sequence may need blocks."""

import pytest

from sim.serving.config import ServeConfig, Speculation
from sim.serving.kv_layout import KvGroup
from sim.serving.queues import Queues
from sim.serving.request import Request
from sim.serving.sequence import ServedSequence
from tests.serving_toy import FULL, STATE, WINDOW, Toy


def queues(
    config: ServeConfig | None = None, blocks: int = 5, groups: tuple[KvGroup, ...] = (FULL,)
) -> Queues:
    config = config or ServeConfig()
    return Queues(config=config, kv=Toy(config=config, blocks=blocks, groups=groups).make_kv())


def request(inputs: int, outputs: int) -> Request:
    return Request(index=0, arrival_ps=0, input_tokens=inputs, output_tokens=outputs)


def test_a_request_fits_whose_last_token_needs_no_room() -> None:
    assert queues().rejection(request(15, 6)) == ""
    assert queues().rejection(request(15, 7)) == "needs 6 blocks of KV, the cache has 5"
    assert queues().rejection(request(20, 1)) == queues().rejection(request(20, 0)) == ""


def test_guesses_need_room_behind_the_last_token() -> None:
    config = ServeConfig(speculation=Speculation(draft_tokens=3, acceptance=(0.5,)))
    assert queues(config).rejection(request(15, 3)) == ""
    assert queues(config).rejection(request(15, 4)) == "needs 6 blocks of KV, the cache has 5"
    assert queues(config).rejection(request(20, 1)) == ""


def test_all_groups_of_layers_need_blocks() -> None:
    assert queues(groups=(FULL, WINDOW)).rejection(request(8, 1)) == ""
    assert queues(groups=(FULL, WINDOW)).rejection(request(9, 1)) != ""
    assert queues(groups=()).rejection(request(10_000, 1)) == ""


def test_a_request_longer_than_the_model_is_rejected() -> None:
    config = ServeConfig(max_model_len=10)
    assert queues(config).rejection(request(6, 4)) == ""
    reason = "has 11 tokens, more than max_model_len = 10"
    assert queues(config).rejection(request(6, 5)) == reason


def test_an_empty_prompt_is_rejected() -> None:
    assert queues().rejection(request(0, 5)) == "has an empty prompt"


@pytest.mark.parametrize(
    ("groups", "needing"),
    [
        ((FULL,), [5, 9, 13]),
        ((FULL, STATE), [5, 9, 13]),
        ((STATE,), []),
        ((), []),
        ((KvGroup(kind=FULL.kind, layers=1, block_tokens=6), FULL), [3, 5, 7, 9, 11, 13]),
    ],
)
def test_a_sequence_is_asked_about_where_a_block_of_some_group_may_begin(
    groups: tuple[KvGroup, ...], needing: list[int]
) -> None:
    pool = queues(groups=groups).pool
    one = ServedSequence(request(2, 13), 0, 13)
    one.computed = one.target
    one.emitted = 1
    pool.join(one)
    found = []
    while len(pool):
        if pool.needing():
            found.append(pool.context_of(one))
        pool.advance()
    assert found == needing
