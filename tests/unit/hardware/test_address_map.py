"""`sim.hardware.address_map`: which channels hold which part of a segment."""

import pytest

from sim.hardware.address_map import HashedMap, InterleavedMap
from tests.unit.hardware.chips import segment


def test_a_perfect_hash_gives_every_channel_the_same_share() -> None:
    """However short a segment is, it spreads over all channels, and so do writes."""
    assert HashedMap(n_channels=3).shares([segment("a", 1), segment("b", 10**9)]) == (
        (1, 1, 1),
        (1, 1, 1),
        (1, 1, 1),
    )


def test_interleaved_segments_lie_one_after_another() -> None:
    """Chunks of 256 B in 4 channels: 3 in channels 0-2, 2 in 3 and 0, 5 from 1 on."""
    address_map = InterleavedMap(n_channels=4, chunk_bytes=256)
    segments = [segment("a", 768), segment("b", 512), segment("c", 1280)]
    assert address_map.shares(segments) == (
        (1, 1, 1, 0),
        (1, 0, 0, 1),
        (1, 2, 1, 1),
        (1, 1, 1, 1),
    )


@pytest.mark.parametrize(("size", "chunks"), [(0, 1), (1, 1), (256, 1), (257, 2), (1024, 4)])
def test_a_segment_occupies_whole_chunks(size: int, chunks: int) -> None:
    """A chunk that is begun is occupied, and an empty segment still has a place."""
    shares, _ = InterleavedMap(n_channels=8, chunk_bytes=256).shares([segment("a", size)])
    assert sum(shares) == chunks
    assert sum(map(bool, shares)) == chunks


def test_a_long_segment_is_spread_to_within_one_chunk() -> None:
    """10,001 chunks over 16 channels: 625 each and one more in one of them."""
    shares, _ = InterleavedMap(n_channels=16, chunk_bytes=4).shares([segment("a", 40_004)])
    assert sorted(shares) == [625] * 15 + [626]
