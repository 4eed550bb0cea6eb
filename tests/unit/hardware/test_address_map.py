"""`sim.hardware.address_map`: which channels hold which part of a segment."""

from dataclasses import replace

import pytest

from sim.hardware.address_map import EVEN, EvenMap, InterleavedMap, Placement
from sim.kernel.layout import Slices
from tests.unit.hardware.chips import segment, toy_chip


def test_a_perfect_hash_gives_every_channel_the_same_share() -> None:
    """However short a segment is, it spreads over all channels, and so do writes."""
    assert EvenMap(n_channels=3).shares([segment("a", 1), segment("b", 10**9)]) == (
        (1, 1, 1),
        (1, 1, 1),
        (1, 1, 1),
    )


def test_interleaved_segments_lie_one_after_another() -> None:
    """Chunks of 256 B in 4 channels: 3 in channels 0-2, 2 in 3 and 0, 5 from 1 on."""
    address_map = InterleavedMap(n_channels=4, chunk_bytes=256)
    segments = [segment("a", 768), segment("b", 512), segment("c", 1280)]
    assert address_map.shares(segments) == (
        (256, 256, 256, 0),
        (256, 0, 0, 256),
        (256, 512, 256, 256),
        (1, 1, 1, 1),
    )


@pytest.mark.parametrize(
    ("size", "chunks"), [(0, [1]), (1, [1]), (256, [256]), (257, [256, 1]), (600, [256, 256, 88])]
)
def test_a_chunk_that_is_begun_holds_what_is_left(size: int, chunks: list[int]) -> None:
    """An empty segment still has a place: its first byte."""
    shares, _ = InterleavedMap(n_channels=8, chunk_bytes=256).shares([segment("a", size)])
    assert [share for share in shares if share] == chunks


def test_a_segment_after_a_begun_chunk_starts_in_the_next_one() -> None:
    shares = InterleavedMap(n_channels=4, chunk_bytes=256).shares(
        [segment("a", 300), segment("b", 256)]
    )
    assert shares[1] == (0, 0, 256, 0)


def test_a_long_segment_is_spread_to_within_one_chunk() -> None:
    """10,001 chunks over 16 channels: 625 each and one more in one of them."""
    shares, _ = InterleavedMap(n_channels=16, chunk_bytes=4).shares([segment("a", 40_004)])
    assert sorted(shares) == [2500] * 15 + [2504]


def test_a_hashed_map_turns_every_round() -> None:
    """Runs of one chunk at the start of each round meet in channel 0 only without the hash."""
    column = replace(
        segment("a", 64 * 256),
        layout=Slices(count=256, chosen=tuple(range(0, 256, 4)), slice_bytes=256),
    )
    plain = InterleavedMap(n_channels=4, chunk_bytes=256)
    assert plain.shares([column])[0] == (64 * 256, 0, 0, 0)
    hashed = replace(plain, hashed=True).shares([column])[0]
    assert sum(hashed) == 64 * 256
    assert min(hashed) >= 12 * 256


def test_a_placement_becomes_the_map_of_a_chip() -> None:
    """Nothing to place if the map is even."""
    chip = toy_chip()
    assert EVEN.on(chip, seed=3) is None
    hashed = Placement(address_map="hashed", kv_pages="in_order")
    assert hashed.on(chip, seed=3) == InterleavedMap(
        n_channels=chip.pseudo_channels,
        chunk_bytes=chip.interleave_bytes,
        hashed=True,
        pages="in_order",
        seed=3,
    )
