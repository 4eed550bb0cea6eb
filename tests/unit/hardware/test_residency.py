"""`sim.hardware.residency`: what L2 holds, what leaves first, and which bytes are dirty."""

import pytest

from sim.errors import InvariantError
from sim.hardware.l2_law import MILLION, HitLaw
from sim.hardware.residency import (
    EMPTY_L2,
    L2Policy,
    L2State,
    Residency,
    Resident,
    Sweep,
    forget,
    received,
)
from sim.kernel.kernel import Segment
from sim.kernel.operators import Tensor, Traffic
from tests.unit.hardware.chips import load, segment

ACTIVATIONS, WEIGHTS, KV = Traffic.ACTIVATIONS, Traffic.WEIGHTS, Traffic.KV


def held(name: str, size: int, dirty: int = 0, traffic: Traffic = WEIGHTS) -> Resident:
    return Resident(name=name, traffic=traffic, resident_bytes=size, dirty_bytes=dirty)


def l2(*segments: Segment, state: L2State = EMPTY_L2, capacity: int = 1000) -> Residency:
    return Residency(capacity, segments, state)


def sizes(residency: Residency) -> dict[str, tuple[int, int]]:
    """Return (resident, dirty) bytes by name."""
    return {e.name: (e.resident_bytes, e.dirty_bytes) for e in residency.state()}


def test_a_cold_read_misses_whole_and_stays() -> None:
    """The first pass fetches every byte once, the second finds them all."""
    cache = l2(segment("w", 400))
    assert [cache.read(load(0), 100) for _ in range(4)] == [100] * 4
    assert [cache.read(load(0), 100) for _ in range(4)] == [0] * 4
    assert sizes(cache) == {"w": (400, 0)}


def test_a_warm_read_hits_whole() -> None:
    """What an earlier kernel left is not fetched again, in however many pieces."""
    cache = l2(segment("w", 400), state=(held("w", 400),))
    assert [cache.read(load(0), size) for size in (1, 99, 300)] == [0, 0, 0]


@pytest.mark.parametrize("pieces", [1, 2, 8, 400])
def test_a_half_resident_segment_misses_its_other_half(pieces: int) -> None:
    """The misses of one pass are exactly the absent bytes, in however many pieces it asks."""
    cache = l2(segment("w", 400), state=(held("w", 150),))
    missed = [cache.read(load(0), 400 // pieces) for _ in range(pieces)]
    assert sum(missed) == 250
    assert max(missed) - min(missed) <= 1
    assert sizes(cache) == {"w": (400, 0)}


def test_a_segment_larger_than_the_cache_misses_again_in_every_pass() -> None:
    """It keeps what fits; a further pass hits in proportion to that."""
    cache = l2(segment("w", 2000), capacity=1000)
    assert sum(cache.read(load(0), 100) for _ in range(20)) == 2000
    assert sizes(cache) == {"w": (1000, 0)}
    assert cache.read(load(0), 100) == 50
    assert sizes(cache) == {"w": (1000, 0)}


def test_warm_bytes_that_were_evicted_meanwhile_miss() -> None:
    """Of 400 bytes that an earlier kernel left, 300 make room for another tensor of this one.

    1300 bytes pass through 1000 between two uses of a byte: none of the weights is found.
    """
    cache = l2(segment("w", 400), segment("y", 900, ACTIVATIONS), state=(held("w", 400),))
    cache.read(load(900, 1), 900)
    assert sizes(cache)["w"] == (100, 0)
    assert cache.read(load(0), 400) == 400


W, A = segment("w", 400), segment("a", 600, ACTIVATIONS)


@pytest.mark.parametrize(
    ("state", "read", "distance"),
    [
        ((held("w", 400),), W, 400),
        ((held("w", 400), held("k", 400, traffic=KV)), W, 800),
        ((held("w", 400), held("k", 600, traffic=KV)), W, 1000),
        ((held("k", 600, traffic=KV), held("w", 400)), W, 400),
        ((held("w", 400), held("a", 600, traffic=ACTIVATIONS)), W, 1000),
        ((held("a", 600, traffic=ACTIVATIONS), held("w", 400)), W, 1000),
        ((held("a", 600, traffic=ACTIVATIONS), held("w", 400)), A, 600),
    ],
)
def test_the_distance_counts_what_came_between_and_what_stays_longer(
    state: L2State, read: Segment, distance: int
) -> None:
    """Between two uses pass the tensor itself and younger ones; activations leave last."""
    cache = l2(read, state=state)
    share = HitLaw(partitions=1).held(distance, 1000).total / MILLION
    assert (share < 1) is (distance == 1000)
    assert cache.read(load(0), read.size_bytes) == pytest.approx((1 - share) * 400, abs=1)


def test_dirty_bytes_that_left_before_they_are_written_anew_are_written_back_again() -> None:
    """A buffer of twice L2 that every kernel fills: each pass sends as much to HBM as it writes."""
    cache = l2(segment("s", 2000), state=(held("s", 1000, 1000),))
    for _ in range(20):
        cache.write(0, 100)
    assert cache.made_dirty == 2000
    assert cache.written_back_bytes == 2000
    assert sizes(cache) == {"s": (1000, 1000)}


def test_a_state_in_place_that_left_is_fetched_and_written_back_whole() -> None:
    """Every byte of 2000 is read, then overwritten; none is found, and all come back dirty."""
    cache = l2(segment("s", 2000), state=(held("s", 1000, 1000),))
    missed = 0
    for _ in range(20):
        missed += cache.read(load(0), 100)
        cache.write(0, 100, in_place=True)
    assert (missed, cache.written_back_bytes) == (2000, 2000)
    assert sizes(cache) == {"s": (1000, 1000)}


@pytest.mark.parametrize("in_place", [False, True])
def test_dirty_lines_that_two_partitions_lost_were_written_back(in_place: bool) -> None:
    """A buffer of .8 of L2 that both sides use: .632 are held, the rest left, and is made again."""
    law = HitLaw(partitions=2)
    sweep = Sweep(bytes=(800,), law=law)
    cache = Residency(1000, (segment("s", 800),), (held("s", 800, 800),), sweep=sweep)
    for _ in range(20):
        if in_place:
            cache.read(load(0), 40)
        cache.write(0, 40, in_place=in_place)
    lost = 800 * (MILLION - law.held(800, 1000).total) / MILLION
    assert cache.written_back_bytes == pytest.approx(lost, rel=0.05)
    assert sizes(cache) == {"s": (800, 800)}


@pytest.mark.parametrize(("region", "missed"), [(1000, 0), (300, 600)])
def test_a_pinned_tensor_has_the_room_of_its_region(region: int, missed: int) -> None:
    """600 bytes pass again and again through a region: one that is too small keeps nothing."""
    policy = L2Policy(pinned=frozenset({KV}), pinned_bytes=region)
    state = (held("k", min(600, region), traffic=KV),)
    cache = Residency(2000, (segment("k", 600, KV),), state, policy)
    assert cache.read(load(0), 600) == missed


def test_of_two_partitions_one_finds_half_near_and_the_rest_far() -> None:
    """One SM alone: 400 of 1000 bytes are near, 800 far, 1600 gone; from both sides, twice each."""
    law = HitLaw(partitions=2)
    for distance, one, both in (
        (400, (1.0, 0.0), (1.0, 0.0)),
        (800, (0.0, 1.0), (0.349, 0.283)),
        (1600, (0.0, 0.0), (0.001, 0.001)),
    ):
        held_by_one = law.held(distance, 1000, one_sided=True)
        assert [x / MILLION for x in held_by_one] == pytest.approx(one, abs=0.005)
        assert [x / MILLION for x in law.held(distance, 1000)] == pytest.approx(both, abs=0.005)


def test_sharers_fetch_a_byte_once() -> None:
    """Four CTAs that ask for the same 100 bytes touch 100 bytes."""
    cache = l2(segment("w", 400))
    assert [cache.read(load(0, sharers=4), 100) for _ in range(4)] == [25] * 4
    assert cache.read(load(0, sharers=4), 400) == 100


def test_the_remainders_of_sharers_are_not_lost() -> None:
    """Ten requests of one byte by three sharers are three distinct bytes, on the third each."""
    cache = l2(segment("w", 400))
    asked = [cache.read(load(0, sharers=3), 1) for _ in range(10)]
    assert asked == [0, 0, 1, 0, 0, 1, 0, 0, 1, 0]


def test_streamed_segments_leave_before_activations() -> None:
    """An activation that was written first outlives the weights that came later."""
    state = (held("x", 300, traffic=ACTIVATIONS), held("w1", 300), held("kv", 300, traffic=KV))
    cache = l2(segment("w2", 500), state=state)
    cache.read(load(0), 500)
    assert sizes(cache) == {"x": (300, 0), "kv": (200, 0), "w2": (500, 0)}


def test_older_segments_leave_before_younger_ones_and_the_newest_last() -> None:
    """A full cache gives up the oldest entry byte by byte, then the next."""
    cache = l2(segment("new", 700), state=(held("old", 500), held("young", 500)))
    cache.read(load(0), 499)
    assert sizes(cache) == {"old": (1, 0), "young": (500, 0), "new": (499, 0)}
    cache.read(load(0), 2)
    assert sizes(cache) == {"young": (499, 0), "new": (501, 0)}


def test_activations_leave_only_when_nothing_else_is_there() -> None:
    """The oldest first, before the bytes of the tensor that needs the room."""
    state = (held("x", 300, dirty=300, traffic=ACTIVATIONS),)
    cache = l2(segment("y", 2000, ACTIVATIONS), state=state)
    cache.read(load(0), 800)
    assert sizes(cache) == {"x": (200, 200), "y": (800, 0)}
    cache.read(load(0), 400)
    assert sizes(cache) == {"y": (1000, 0)}
    assert cache.written_back == {ACTIVATIONS: 300}


def test_streamed_weights_larger_than_the_cache_do_not_displace_activations() -> None:
    """Lines marked evict-first replace each other: activations stay, the weights pass by."""
    cache = l2(segment("w", 2000), state=(held("x", 300, dirty=300, traffic=ACTIVATIONS),))
    for _ in range(20):
        cache.read(load(0), 100)
    assert sizes(cache) == {"x": (300, 300), "w": (700, 0)}


def test_dirty_dead_bytes_leave_first_and_are_written_back() -> None:
    """`forget` puts the dirty bytes of dead tensors in front, so they go before clean ones."""
    past = forget((held("w", 400), held("kv", 200, dirty=150, traffic=KV), held("x", 400)), ("x",))
    cache = l2(segment("new", 500), state=past)
    cache.read(load(0), 100)
    assert cache.written_back == {KV: 100}
    cache.read(load(0), 100)
    assert cache.written_back == {KV: 150}
    assert sizes(cache) == {"": (400, 0), "x": (400, 0), "new": (200, 0)}


def test_clean_bytes_leave_without_a_write_back() -> None:
    """Only what is newer than HBM has to go there."""
    cache = l2(segment("new", 1000), state=(held("w", 600), held("kv", 400, 10, KV)))
    cache.read(load(0), 1000)
    assert cache.written_back == {KV: 10}
    assert sizes(cache) == {"new": (1000, 0)}


def test_writes_become_resident_and_dirty_without_being_fetched() -> None:
    """A full line written needs no read."""
    cache = l2(segment("x", 300, ACTIVATIONS))
    cache.write(0, 300)
    assert sizes(cache) == {"x": (300, 300)}
    assert cache.made_dirty == 300


def test_what_the_kernel_wrote_itself_is_a_hit() -> None:
    """The partial sums of a split-K GEMM are reduced from L2, not from HBM."""
    cache = l2(segment("workspace", 300, ACTIVATIONS))
    cache.write(0, 300)
    assert cache.read(load(0), 300) == 0


def test_what_one_cta_wrote_is_a_hit_before_the_others_have_written() -> None:
    """A CTA that reduces early waits for its peers at a semaphore, not for HBM."""
    cache = l2(segment("workspace", 300, ACTIVATIONS))
    cache.write(0, 100)
    assert cache.read(load(0), 100) == 0


def test_an_update_in_place_fetches_every_byte_once() -> None:
    """CTAs that read a slice of the state and write it back leave the next slice unread."""
    cache = l2(segment("s", 400, Traffic.STATE))
    missed = []
    for _ in range(4):
        missed.append(cache.read(load(0), 100))
        cache.write(0, 100, in_place=True)
    assert missed == [100] * 4
    assert sizes(cache) == {"s": (400, 400)}


def test_a_write_larger_than_the_cache_is_written_back_or_dirty() -> None:
    """Of 1500 bytes written through 1000, 500 have gone to HBM and 1000 still have to."""
    cache = l2(segment("x", 1500, ACTIVATIONS), capacity=1000)
    cache.write(0, 1500)
    assert sizes(cache) == {"x": (1000, 1000)}
    assert cache.written_back == {ACTIVATIONS: 500}


def test_a_read_across_the_end_of_the_segment_fetches_no_byte_twice() -> None:
    """One and a half passes over a segment that fits miss it once."""
    cache = l2(segment("w", 400))
    assert cache.read(load(0), 600) == 400


def test_writing_what_is_dirty_already_makes_no_more_dirty_bytes() -> None:
    """A buffer overwritten three times goes to HBM once."""
    cache = l2(segment("x", 300, ACTIVATIONS), segment("y", 2000, ACTIVATIONS))
    for _ in range(3):
        cache.write(0, 300)
    assert sizes(cache) == {"x": (300, 300)}
    cache.read(load(0, 1), 1000)
    assert cache.written_back == {ACTIVATIONS: 300}


def test_a_rewritten_clean_tensor_becomes_dirty() -> None:
    """State that was read and is written back in place is dirty as far as it was written."""
    cache = l2(segment("s", 300, Traffic.STATE), state=(held("s", 300, 0, Traffic.STATE),))
    cache.write(0, 120, in_place=True)
    assert sizes(cache) == {"s": (300, 120)}


def test_the_clean_part_of_a_dirty_tensor_leaves_in_proportion() -> None:
    """Of 400 bytes half of which are dirty, 100 evicted are 50 written back."""
    cache = l2(segment("w", 700), state=(held("kv", 400, dirty=200, traffic=KV),))
    cache.read(load(0), 700)
    assert sizes(cache) == {"kv": (300, 150), "w": (700, 0)}
    assert cache.written_back == {KV: 50}


def test_the_state_is_ordered_by_age_with_the_kernels_own_segments_last() -> None:
    """The next kernel evicts what this one did not touch first."""
    state = (held("b", 100), held("other", 100), held("a", 100))
    cache = l2(segment("a", 100), segment("b", 100), state=state)
    assert [entry.name for entry in cache.state()] == ["other", "a", "b"]


def test_empty_entries_are_left_out_of_the_state() -> None:
    """A segment that was never asked for does not appear."""
    assert l2(segment("w", 100)).state() == EMPTY_L2


def test_a_state_larger_than_the_cache_is_a_bug() -> None:
    """The message has both sizes."""
    with pytest.raises(InvariantError, match=r"^L2 state of 1001 bytes exceeds 1000$"):
        l2(segment("w", 1), state=(held("w", 1001),))


def test_forget_keeps_activations_and_what_is_still_alive() -> None:
    """Dead tensors shrink to nameless bytes: dirty ones by class in front, then the clean ones."""
    state = (
        held("x", 10, 4, ACTIVATIONS),
        held("w1", 100),
        held("kv", 50, 20, KV),
        held("s", 30, 30, Traffic.STATE),
        held("w2", 7),
    )
    assert forget(state, {"w2"}) == (
        held("", 20, 20, KV),
        held("", 30, 30, Traffic.STATE),
        held("", 130),
        held("x", 10, 4, ACTIVATIONS),
        held("w2", 7),
    )


def test_forgetting_twice_changes_nothing() -> None:
    """Nameless bytes merge into themselves, so the state repeats from layer to layer."""
    once = forget((held("w", 100), held("kv", 50, 20, KV)), ())
    assert once == (held("", 20, 20, KV), held("", 130))
    assert forget(once, ()) == once


def test_forget_loses_no_byte() -> None:
    """Resident and dirty bytes are the same before and after."""
    state = (held("x", 10, 4, ACTIVATIONS), held("w", 9), held("kv", 50, 20, KV))
    after = forget(state, {"w"})
    assert sum(e.resident_bytes for e in after) == 69
    assert sum(e.dirty_bytes for e in after) == 24


def test_what_arrives_from_a_link_is_dirty_and_makes_room() -> None:
    """Weights leave first, clean; then the oldest activation, whose dirty bytes are written."""
    state = (held("w", 300), held("a", 400, 400, ACTIVATIONS), held("b", 200, 0, ACTIVATIONS))
    tensors = [Tensor(name="c", size_bytes=600, traffic=ACTIVATIONS)]
    after, written = received(state, tensors, 1000)
    assert after == (
        held("a", 200, 200, ACTIVATIONS),
        held("b", 200, 0, ACTIVATIONS),
        held("c", 600, 600, ACTIVATIONS),
    )
    assert written == {ACTIVATIONS: 200}


def test_what_arrives_again_takes_its_old_place() -> None:
    """The same buffer of the next layer: newer, not larger."""
    state = (held("c", 600, 600, ACTIVATIONS), held("b", 200, 0, ACTIVATIONS))
    tensors = [Tensor(name="c", size_bytes=600, traffic=ACTIVATIONS)]
    after, written = received(state, tensors, 1000)
    assert after == (held("b", 200, 0, ACTIVATIONS), held("c", 600, 600, ACTIVATIONS))
    assert not written
