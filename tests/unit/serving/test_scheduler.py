"""`sim.serving.scheduler`: what a step computes, planned without an engine around it."""

import pytest

from sim.serving.batch import Batch
from sim.serving.config import ServeConfig, Speculation
from sim.serving.kv_cache import KvCache
from sim.serving.kv_layout import KvGroup
from sim.serving.policy import POLICIES
from sim.serving.request import Request
from sim.serving.scheduler import Scheduler
from sim.serving.sequence import ServedSequence
from sim.serving.step_cost import Chunk
from tests.serving_toy import FULL, WINDOW, Toy

Shape = tuple[int, list[tuple[int, int]]]


class Bench:
    """A scheduler with a queue; names are indices of requests."""

    def __init__(
        self, blocks: int = 100, groups: tuple[KvGroup, ...] = (FULL,), **settings: object
    ) -> None:
        config = ServeConfig(**settings)  # type: ignore[arg-type]
        kv = Toy(config=config, blocks=blocks, groups=groups).make_kv()
        self.scheduler = Scheduler(config=config, policy=POLICIES[config.policy], kv=kv)
        self.sequences: list[ServedSequence] = []

    def add(self, inputs: int, outputs: int, prefix: tuple[int, ...] = ()) -> ServedSequence:
        request = Request(
            index=len(self.sequences),
            arrival_ps=0,
            input_tokens=inputs,
            output_tokens=outputs,
            prefix=prefix,
        )
        assert self.scheduler.rejection(request) == ""
        found = ServedSequence(request, 0, outputs)
        self.sequences.append(found)
        self.scheduler.add(found)
        return found

    def plan(self) -> Batch:
        batch = self.scheduler.plan()
        assert batch is not None
        return batch

    def step(self) -> Batch:
        batch = self.plan()
        self.scheduler.complete(batch)
        return batch

    def steps(self, count: int = 1000) -> list[Shape]:
        """Run so many steps, or all: (decodes, (request, tokens) of each prompt)."""
        found = []
        for _ in range(count):
            batch = self.scheduler.plan()
            if batch is None:
                break
            self.scheduler.complete(batch)
            found.append(shape(batch))
        return found


def shape(batch: Batch) -> Shape:
    return batch.shape.decodes, [(s.request.index, tokens) for s, tokens in batch.chunks]


def test_decodes_come_first_and_prompts_get_the_rest_of_the_budget_in_pieces() -> None:
    bench = Bench(max_num_batched_tokens=10)
    bench.add(4, 5)
    bench.add(13, 2)
    bench.add(5, 1)
    assert bench.steps() == [
        (0, [(0, 4), (1, 6)]),
        (1, [(1, 7), (2, 2)]),
        (2, [(2, 3)]),
        (1, []),
        (1, []),
    ]


def test_a_batch_has_the_shape_that_its_cost_depends_on() -> None:
    bench = Bench(max_num_batched_tokens=10)
    bench.add(4, 5)
    bench.add(13, 2)
    first = bench.step()
    assert first.shape.chunks == (Chunk(tokens=4, context=4), Chunk(tokens=6, context=6))
    assert (first.number, first.generated, first.running, first.waiting) == (0, 1, 2, 0)
    second = bench.step()
    assert second.shape.chunks == (Chunk(tokens=7, context=13),)
    assert (second.shape.decodes, second.shape.context, second.shape.longest) == (1, 5, 5)
    assert (second.shape.tokens, second.generated) == (8, 2)
    assert second.kv_blocks == 2 + 4


def test_nothing_to_do_is_no_batch() -> None:
    assert Bench().scheduler.plan() is None


def test_a_prompt_for_no_token_is_done_when_it_is_computed() -> None:
    bench = Bench()
    one = bench.add(6, 0)
    batch = bench.step()
    assert (batch.last, batch.generated, one.record.emitted) == ([one], 0, [])
    assert bench.scheduler.kv.used_blocks == 0
    assert bench.scheduler.plan() is None


def test_places_limit_who_runs() -> None:
    bench = Bench(max_num_seqs=1)
    bench.add(4, 2)
    bench.add(4, 1)
    assert bench.steps() == [(0, [(0, 4)]), (1, []), (0, [(1, 4)])]


def test_a_place_is_free_only_when_the_last_step_has_ended() -> None:
    bench = Bench(max_num_seqs=1)
    bench.add(4, 1)
    bench.add(4, 1)
    batch = bench.plan()
    assert bench.scheduler.plan() is None
    bench.scheduler.complete(batch)
    assert shape(bench.plan()) == (0, [(1, 4)])


def test_a_budget_of_one_token_still_serves_everyone() -> None:
    bench = Bench(max_num_batched_tokens=1)
    bench.add(2, 2)
    bench.add(1, 1)
    assert bench.steps() == [(0, [(0, 1)]), (0, [(0, 1)]), (1, []), (0, [(1, 1)])]


def full_cache(preemption: str = "recompute", **settings: object) -> Bench:
    """Two sequences of 4 tokens that grow to 11 where 4 blocks of 4 tokens are; a third waits."""
    bench = Bench(
        blocks=4, preemption=preemption, enable_prefix_caching=False, max_num_seqs=2, **settings
    )
    bench.add(4, 8)
    bench.add(4, 8)
    bench.add(2, 1)
    return bench


def test_who_was_admitted_last_is_thrown_out_and_comes_back_before_those_that_wait() -> None:
    bench = full_cache()
    assert bench.steps() == [
        (0, [(0, 4), (1, 4)]),
        *[(2, [])] * 4,
        (1, []),  # nobody is admitted in a step that throws out
        (1, []),
        (1, []),
        (0, [(1, 9), (2, 2)]),
        (1, []),
        (1, []),
    ]
    old, young, _ = (sequence.record for sequence in bench.sequences)
    assert (old.preemptions, young.preemptions) == (0, 1)
    assert old.emitted == [(0, 7)]
    assert young.emitted == [(0, 4), (8, 10)]


def test_after_a_preemption_even_a_small_request_waits_its_turn() -> None:
    bench = full_cache()
    for _ in range(5):
        bench.step()
    bench.plan()
    assert bench.scheduler.preempted == [bench.sequences[1]]
    assert list(bench.scheduler.waiting) == bench.sequences[1:]
    bench.plan()
    assert list(bench.scheduler.waiting) == bench.sequences[1:]


def test_a_swapped_sequence_comes_back_to_decode_where_it_was() -> None:
    bench = full_cache("swap")
    batches = [bench.step() for _ in range(11)]
    assert [shape(batch) for batch in batches] == [
        (0, [(0, 4), (1, 4)]),
        *[(2, [])] * 4,
        *[(1, [])] * 3,
        (1, [(2, 2)]),
        (1, []),
        (1, []),
    ]
    assert [batch.swapped_blocks for batch in batches] == [0] * 5 + [2, 0, 0, 2, 0, 0]
    assert batches[8].joined == [bench.sequences[1]]
    assert bench.sequences[1].record.emitted == [(0, 4), (8, 10)]
    assert bench.scheduler.plan() is None
    assert bench.scheduler.kv.host_blocks == 0


def test_a_prompt_begins_only_if_all_of_it_fits() -> None:
    bench = Bench(blocks=5, max_num_batched_tokens=8, enable_prefix_caching=False)
    bench.add(4, 12)
    bench.add(17, 1)
    assert bench.steps(2) == [(0, [(0, 4)]), (1, [])]


def test_a_prompt_in_pieces_gives_way_to_older_decodes() -> None:
    bench = Bench(blocks=6, max_num_batched_tokens=8, enable_prefix_caching=False)
    bench.add(4, 8)
    bench.add(20, 1)
    bench.add(1, 1)
    assert bench.steps() == [
        (0, [(0, 4), (1, 4)]),
        (1, [(1, 7)]),
        *[(1, [])] * 6,  # a sixth block is not there for the prompt, which fitted at first
        (0, [(1, 8)]),
        (0, [(1, 8)]),
        (0, [(1, 4), (2, 1)]),
    ]
    assert [s.record.preemptions for s in bench.sequences] == [0, 1, 0]


def test_a_finished_sequence_is_never_thrown_out() -> None:
    bench = Bench(blocks=3, enable_prefix_caching=False)
    growing, done = bench.add(4, 5), bench.add(5, 1)
    first = bench.plan()
    assert first.last == [done]
    assert bench.scheduler.plan() is None  # the growing one gives way: nothing else can
    assert growing.record.preemptions == 1
    assert done.record.preemptions == 0
    bench.scheduler.complete(first)
    assert shape(bench.step()) == (0, [(0, 5)])


def test_a_sequence_that_was_about_to_join_can_be_thrown_out() -> None:
    bench = full_cache("swap", policy="prefill_first")
    for _ in range(8):
        bench.step()
    # The swapped one comes back; a prompt runs first, and a decode step comes only after it.
    batch = bench.step()
    assert shape(batch) == (0, [(2, 2)])
    young = bench.sequences[1]
    bench.scheduler._preempt(young)
    batch = bench.step()
    assert batch.joined == [young]
    assert bench.scheduler._joined == []


def test_prefill_first_never_mixes_and_never_cuts_a_prompt() -> None:
    bench = Bench(policy="prefill_first", max_num_batched_tokens=10)
    bench.add(4, 3)
    bench.add(6, 1)
    bench.add(25, 1)
    bench.add(2, 2)
    assert bench.steps() == [
        (0, [(0, 4), (1, 6)]),
        (0, [(2, 25)]),
        (0, [(3, 2)]),
        (2, []),
        (1, []),
    ]


def test_whole_prompts_leave_a_watermark_unless_nothing_runs() -> None:
    bench = Bench(policy="prefill_first", blocks=200)
    bench.add(4, 2)
    bench.add(197 * 4, 1)
    assert bench.steps(1) == [(0, [(0, 4), (1, 788)])]
    bench = Bench(policy="prefill_first", blocks=200)
    bench.add(4, 2)
    bench.add(198 * 4, 1)
    assert bench.steps() == [(0, [(0, 4)]), (1, []), (0, [(1, 792)])]
    bench = Bench(policy="prefill_first", blocks=200)
    bench.add(200 * 4, 1)
    assert bench.steps() == [(0, [(0, 800)])]


def test_static_batching_admits_nobody_until_its_batch_is_done() -> None:
    bench = Bench(policy="static", max_num_batched_tokens=10, max_num_seqs=3)
    bench.add(4, 2)
    bench.add(9, 3)
    bench.add(2, 2)
    bench.add(2, 1)
    assert bench.steps() == [
        (0, [(0, 4)]),
        (0, [(1, 9)]),
        (0, [(2, 2)]),
        (3, []),
        (1, []),
        (0, [(3, 2)]),
    ]


def test_a_shared_prefix_is_not_computed_again() -> None:
    bench = Bench(max_num_batched_tokens=16)
    bench.add(16, 1, (7, 8))
    bench.add(20, 1, (7, 8, 9))
    assert bench.steps() == [(0, [(0, 16)]), (0, [(1, 4)])]
    assert [s.record.prefix_hit_tokens for s in bench.sequences] == [0, 16]


def test_what_a_preempted_sequence_finds_of_itself_is_no_hit_of_its_prompt() -> None:
    bench = Bench(blocks=4)
    bench.add(4, 8)
    bench.add(4, 8)
    assert bench.steps()[8] == (0, [(1, 5)])
    assert bench.sequences[1].record.prefix_hit_tokens == 0


def test_resumed_sequences_take_their_share_of_the_budget() -> None:
    bench = Bench(blocks=4, preemption="swap", max_num_batched_tokens=4)
    bench.add(4, 8)
    bench.add(4, 8)
    bench.add(4, 1)
    batch = bench.step()
    while not batch.joined:
        batch = bench.step()
    assert shape(batch) == (1, [(2, 3)])


@pytest.mark.parametrize("groups", [(FULL,), (FULL, WINDOW)])
def test_a_head_that_does_not_fit_is_not_looked_up_at_every_step(
    groups: tuple[KvGroup, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    lookup = KvCache.lookup

    def counted(kv: KvCache, request: Request, tokens: int) -> int:
        asked.append(request.index)
        return lookup(kv, request, tokens)

    monkeypatch.setattr(KvCache, "lookup", counted)
    bench = Bench(blocks=40, groups=groups)
    bench.add(4, 60)
    bench.add(72, 1)
    bench.steps()
    assert asked.count(1) <= 2
    assert not bench.scheduler.waiting


def test_guesses_count_in_the_budget_the_shape_and_the_blocks() -> None:
    bench = Bench(
        max_num_batched_tokens=10,
        enable_prefix_caching=False,
        speculation=Speculation(draft_tokens=3, acceptance=(0.0,)),
    )
    one = bench.add(5, 3)
    bench.add(20, 1)
    bench.step()
    batch = bench.step()
    assert shape(batch) == (1, [(1, 6)])
    assert batch.shape.decode_tokens == 4
    assert (batch.shape.context, batch.shape.longest, batch.shape.tokens) == (9, 9, 10)
    assert batch.kv_blocks == 3 + 3
    bench.steps()
    assert one.record.tokens_per_step == [1, 1, 1]


def test_guesses_that_hold_are_given_out_at_once() -> None:
    bench = Bench(speculation=Speculation(draft_tokens=3, acceptance=(1.0,)))
    one = bench.add(5, 8)
    assert [bench.step().generated for _ in range(3)] == [1, 4, 3]
    assert one.record.tokens_per_step == [1, 4, 3]
    assert bench.scheduler.plan() is None
