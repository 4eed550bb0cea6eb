"""The paged KV cache: who holds what, what is found again, and what is evicted first."""

import pytest

from sim.errors import InvariantError
from sim.serving.kv_cache import KvCache
from sim.serving.kv_layout import CacheKind, KvGroup, KvLayout
from sim.serving.request import Request

FULL = KvGroup(kind=CacheKind.FULL, layers=1, block_tokens=4)
WINDOW = KvGroup(kind=CacheKind.WINDOW, layers=1, block_tokens=4, window=9)
STATE = KvGroup(kind=CacheKind.STATE, layers=1, block_tokens=1)


def cache(total: int, *groups: KvGroup, prefix_caching: bool = True) -> KvCache:
    """Return a cache with blocks of 4 tokens and prefix blocks of 8."""
    layout = KvLayout(groups=groups or (FULL,), group_layers=1, block_bytes=1)
    return KvCache(layout, total, prefix_caching=prefix_caching, prefix_block_tokens=8)


def request(index: int, tokens: int, *prefix: int) -> Request:
    return Request(
        index=index, arrival_ps=0, input_tokens=tokens, output_tokens=1, prefix=tuple(prefix)
    )


def run(kv: KvCache, asked: Request, *, free: bool = True) -> int:
    """Compute a whole prompt in one step and return what was found of it."""
    hit = kv.lookup(asked, asked.input_tokens)
    kv.start(asked, hit)
    assert kv.extend(asked.index, asked.input_tokens, asked.input_tokens - hit)
    if free:
        kv.free(asked.index, asked.input_tokens)
    kv.check()
    return hit


def test_a_block_is_taken_with_its_first_token() -> None:
    """Four tokens fill a block; the fifth needs another one, the third needs none."""
    kv = cache(3)
    kv.start(request(0, 3), 0)
    taken = []
    for tokens in (3, 4, 5, 8, 9):
        assert kv.extend(0, tokens)
        taken.append(kv.used_blocks)
    assert taken == [1, 1, 2, 2, 3]
    assert (kv.missing(0, 12), kv.missing(0, 13)) == (0, 1)


def test_what_does_not_fit_changes_nothing() -> None:
    """Three blocks hold 12 tokens and not 13."""
    kv = cache(3)
    kv.start(request(0, 5), 0)
    assert kv.extend(0, 5)
    assert not kv.extend(0, 13)
    assert (kv.used_blocks, kv.free_blocks) == (2, 1)
    assert kv.extend(0, 12)
    kv.check()


def test_a_request_longer_than_the_cache_never_fits() -> None:
    """Not even in an empty cache."""
    kv = cache(3)
    assert kv.fits(request(0, 12), 12, 0)
    assert not kv.fits(request(0, 13), 13, 0)


def test_a_shared_prefix_is_found_in_whole_blocks_but_for_the_last_token() -> None:
    """Of 12 shared tokens 12 are found in a prompt of 13, and 8 in one of 12."""
    kv = cache(9)
    assert run(kv, request(0, 13, 1, 2)) == 0
    assert run(kv, request(1, 13, 1, 2)) == 12
    assert kv.lookup(request(2, 12, 1, 2), 12) == 8
    assert (kv.queries_tokens, kv.hit_tokens) == (26, 12)


def test_equal_blocks_after_unequal_ones_are_not_the_same() -> None:
    """The second prefix block is found only after the same first one."""
    kv = cache(9)
    run(kv, request(0, 17, 1, 2))
    assert kv.lookup(request(1, 17, 1, 3), 17) == 8
    assert kv.lookup(request(2, 17, 3, 2), 17) == 0


def test_a_prefix_is_found_while_its_first_reader_still_runs() -> None:
    """As soon as it was extended to, up to the last full block."""
    kv = cache(9)
    first = request(0, 16, 1, 2)
    kv.start(first, 0)
    found = []
    for tokens in (3, 4, 11, 16):
        kv.extend(0, tokens, tokens)
        found.append(kv.lookup(request(1, 17, 1, 2, 3), 17))
    assert found == [0, 4, 8, 16]


def test_two_readers_hold_a_block_once_and_free_it_once() -> None:
    """A block of two readers is free when both have left."""
    kv = cache(9)
    run(kv, request(0, 9, 1, 2), free=False)
    assert run(kv, request(1, 9, 1, 2), free=False) == 8
    assert kv.used_blocks == 4
    kv.free(0, 9)
    assert kv.used_blocks == 3
    kv.free(1, 9)
    assert (kv.used_blocks, kv.free_blocks) == (0, 9)
    kv.check()


def test_the_least_recently_freed_goes_first_and_tails_before_heads() -> None:
    """Each block taken from a full cache costs the older prefix its last block."""
    kv = cache(6)
    old, new = request(0, 12, 1, 2), request(1, 12, 3, 4)
    run(kv, old)
    run(kv, new)
    kv.start(request(2, 1), 0)
    found = []
    for tokens in range(4, 25, 4):
        assert kv.extend(2, tokens)
        found.append((kv.lookup(old, 99), kv.lookup(new, 99)))
    assert found == [(8, 12), (4, 12), (0, 12), (0, 8), (0, 4), (0, 0)]
    assert kv.evicted_blocks == 6


def test_a_block_that_is_read_again_goes_to_the_end_of_the_queue() -> None:
    """A second reader makes the older prefix the younger one."""
    kv = cache(4)
    old, new = request(0, 8, 1), request(1, 8, 3)
    run(kv, old)
    run(kv, new)
    assert run(kv, request(2, 9, 1)) == 8
    assert (kv.lookup(old, 99), kv.lookup(new, 99)) == (8, 4)


def test_a_hit_block_in_the_queue_is_not_free_twice() -> None:
    """All four blocks are free; 16 tokens with two of them found need exactly four, 17 five."""
    kv = cache(4)
    run(kv, request(0, 8, 1))
    asked = request(1, 17, 1)
    assert kv.free_blocks == 4
    assert kv.fits(asked, 16, 8)
    assert not kv.fits(asked, 17, 8)
    kv.start(asked, 8)
    assert kv.extend(1, 16, 8)
    assert not kv.extend(1, 17)


def test_a_hit_block_that_runs_costs_nothing() -> None:
    """What another sequence holds anyway takes no room."""
    kv = cache(4)
    run(kv, request(0, 8, 1), free=False)
    assert kv.fits(request(1, 16, 1), 16, 8)
    assert not kv.fits(request(1, 17, 1), 17, 8)


def test_a_request_that_comes_back_finds_its_own_blocks_and_nobody_else_does() -> None:
    """Generated tokens and prompts without hashes are private, but outlive a preemption."""
    kv = cache(9)
    asked = request(0, 6)
    kv.start(asked, 0)
    kv.extend(0, 13, 13)
    kv.free(0, 13)
    assert kv.lookup(asked, 14) == 12
    assert kv.lookup(request(1, 6), 14) == 0
    kv.start(asked, 12, 14)
    assert kv.extend(0, 14, 2)
    assert kv.used_blocks == 4
    kv.check()


def test_tokens_that_were_not_computed_are_not_found() -> None:
    """A request freed before its step ran leaves nothing of the step behind."""
    kv = cache(9)
    asked = request(0, 16, 1, 2)
    kv.start(asked, 0)
    kv.extend(0, 8, 8)
    kv.extend(0, 16, 8)
    kv.free(0, 8)
    assert kv.lookup(asked, 99) == 8
    kv.check()


def test_a_window_frees_what_no_token_sees() -> None:
    """The next token of 9 visible ones sees 8 before it: with 12 computed, from 4 on."""
    kv = cache(9, WINDOW)
    kv.start(request(0, 99), 0)
    used = []
    for tokens in (1, 11, 12, 13, 14, 16, 17):
        assert kv.extend(0, tokens)
        used.append(kv.used_blocks)
    assert used == [1, 3, 3, 3, 3, 3, 3]


def test_a_chunk_keeps_the_window_before_it() -> None:
    """12 tokens after 12: 8 visible ones before and 12 new ones are 5 blocks."""
    kv = cache(9, WINDOW)
    kv.start(request(0, 99), 0)
    assert kv.extend(0, 12, 12)
    assert kv.extend(0, 24, 12)
    assert kv.used_blocks == 5


def test_a_window_needs_only_its_own_blocks_for_a_hit() -> None:
    """After 24 tokens the window has lost its first blocks and is found all the same."""
    kv = cache(20, WINDOW, FULL)
    first = request(0, 25, 1, 2, 3)
    kv.start(first, 0)
    for tokens in (8, 16, 24, 25):
        kv.extend(0, tokens, min(8, tokens))
    kv.free(0, 25)
    assert kv.lookup(request(1, 25, 1, 2, 3), 25) == 24
    kv.start(request(1, 25, 1, 2, 3), 24)
    assert kv.used_blocks == 2 + 6
    kv.check()


def test_a_cache_that_arrives_from_elsewhere_has_no_blocks_before_its_window() -> None:
    """23 tokens computed elsewhere: windows hold blocks 3 to 5 only, and are found by others."""
    kv = cache(20, WINDOW, FULL)
    kv.start(request(0, 24, 1, 2, 3), 0)
    assert kv.missing(0, 24) == 3 + 6
    assert kv.extend(0, 24)
    assert kv.used_blocks == 3 + 6
    kv.check()
    assert kv.lookup(request(1, 25, 1, 2, 3), 25) == 24


def test_blocks_of_two_copies_come_back_in_the_order_of_the_sequence() -> None:
    """The first block is in the younger copy and still outlives the second one."""
    kv = cache(6, WINDOW)
    first, filler = request(0, 14, 1), request(9, 12)
    kv.start(first, 0)
    assert kv.extend(0, 13, 13)
    assert kv.extend(0, 14)
    run(kv, filler, free=False)
    kv.free(0, 14)
    kv.free(9, 0)
    assert run(kv, request(1, 5, 1)) == 0
    assert run(kv, request(2, 9, 1)) == 8
    run(kv, request(8, 20), free=False)
    assert kv.lookup(request(3, 9, 1), 9) == 4


def test_two_readers_of_a_window_lose_it_one_after_the_other() -> None:
    """What one reader's window has left stays held while the other still sees it."""
    kv = cache(20, WINDOW)
    for index in (0, 1):
        run(kv, request(index, 9, 1), free=False)
    assert kv.used_blocks == 2 + 2
    assert kv.extend(0, 13)
    assert kv.extend(0, 17)
    assert kv.used_blocks == 3 + 3
    assert kv.extend(1, 13)
    assert kv.used_blocks == 3 + 3
    kv.check()


def test_a_state_takes_one_block_and_shares_nothing() -> None:
    """Whatever the length; models with states do not look for prefixes."""
    kv = cache(9, STATE, FULL)
    assert run(kv, request(0, 9, 1, 2), free=False) == 0
    assert kv.used_blocks == 1 + 3
    kv.free(0, 9)
    assert kv.lookup(request(1, 9, 1, 2), 9) == 0
    assert kv.queries_tokens == 0


def test_without_prefix_caching_nothing_is_found() -> None:
    """Neither a prefix nor what a preempted request computed."""
    kv = cache(9, prefix_caching=False)
    run(kv, request(0, 9, 1, 2))
    assert kv.lookup(request(0, 9, 1, 2), 9) == 0
    assert (kv.free_blocks, kv.evicted_blocks) == (9, 0)


def test_swapping_moves_all_blocks_and_brings_them_back() -> None:
    """Three blocks go to the host and come back if there is room, of which one was shared."""
    kv = cache(4)
    run(kv, request(0, 12, 1), free=False)
    assert kv.swap_out(0) == 3
    assert (kv.host_blocks, kv.used_blocks) == (3, 0)
    run(kv, request(1, 8), free=False)
    assert kv.swap_in(0) == 0
    kv.free(1, 8)
    assert kv.swap_in(0) == 3
    assert (kv.host_blocks, kv.used_blocks) == (0, 3)
    assert kv.extend(0, 13)
    kv.free(0, 13)
    kv.check()


def test_what_was_swapped_out_can_still_be_found_by_others() -> None:
    """The prefix stays in the free blocks until they are taken."""
    kv = cache(9)
    run(kv, request(0, 9, 1), free=False)
    kv.swap_out(0)
    assert kv.lookup(request(1, 9, 1), 9) == 8


def test_a_sequence_cannot_start_twice() -> None:
    kv = cache(9)
    kv.start(request(0, 9), 0)
    with pytest.raises(InvariantError, match="sequence 0 is started twice"):
        kv.start(request(0, 9), 0)


def test_a_hit_that_is_not_there_is_a_bug() -> None:
    """The caller must not make hits up."""
    with pytest.raises(InvariantError, match="request 0 was told of blocks that are not there"):
        cache(9).start(request(0, 9, 1), 8)


def test_nothing_of_what_was_evicted_is_remembered() -> None:
    """The tree of prefixes is empty again once other blocks fill the cache."""
    kv = cache(6)
    for index in range(20):
        run(kv, request(index, 24, index, index, index))
    kv.start(request(99, 1), 0)
    assert kv.extend(99, 24)
    assert kv._prefixes is not None
    assert sum(1 for _ in kv._prefixes.nodes()) == 2


def test_what_a_new_sequence_needs_at_least_is_what_it_needs_of_full_caches() -> None:
    """Four free blocks are found again: they and a fifth must be free."""
    kv = cache(9)
    run(kv, request(0, 16, 1, 2))
    assert kv.demand(request(1, 20, 1, 2), 20, 16) == (5, 5)
    run(kv, request(1, 20, 1, 2), free=False)
    assert kv.demand(request(2, 20, 1, 2), 20, 16) == (1, 1)


def test_a_sequence_may_need_less_once_the_oldest_copy_of_its_prefix_is_lost() -> None:
    """The copy that is found first is free, the other is held."""
    kv = cache(12)
    for index in (0, 1):
        kv.start(request(index, 16, 1, 2), 0)
        assert kv.extend(index, 16, 16)
    kv.free(0, 16)
    assert kv.demand(request(2, 20, 1, 2), 20, 16) == (5, 1)
    run(kv, request(3, 32), free=False)
    assert kv.demand(request(2, 20, 1, 2), 20, 16) == (1, 1)


def test_a_sequence_may_need_less_once_it_finds_less_of_a_window() -> None:
    """Blocks 2 and 3 hold the eight tokens before the new ones; a shorter hit needs others."""
    kv = cache(9, WINDOW)
    run(kv, request(0, 16, 1, 2))
    assert kv.demand(request(1, 20, 1, 2), 20, 16) == (3, 1)
