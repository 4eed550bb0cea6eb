"""`sim.hardware.placement`: where runs lie, and what of them each channel holds."""

from dataclasses import replace

import numpy as np
import pytest

from sim.hardware.placement import KvPages, channel_bytes, runs_of
from sim.hardware.walk import Interleave
from sim.kernel.layout import KvTokens, Slices
from tests.unit.hardware.chips import segment

# Two sequences of 40 tokens, of which the last 20 are read: tokens 20 to 39, in blocks of 16.
WINDOW = KvTokens(sequences=2, first_token=20, tokens=20, block_tokens=16, token_bytes=(100, 10))
CACHE = replace(segment("kv", 4400), layout=WINDOW)
FOUR = Interleave(channels=4, chunk_bytes=256, hashed=False)


def spans(pages: KvPages, seed: int = 0) -> list[tuple[int, int]]:
    runs = runs_of(CACHE, pages, seed)
    return list(zip(runs.starts.tolist(), runs.sizes.tolist(), strict=True))


def test_a_segment_without_a_layout_is_one_run() -> None:
    runs = runs_of(segment("w", 1000), "scattered", 0)
    assert (runs.starts.tolist(), runs.sizes.tolist(), runs.extent_bytes) == ([0], [1000], 1000)


def test_active_experts_are_slices_of_one_tensor() -> None:
    experts = replace(segment("w", 200), layout=Slices(count=8, chosen=(1, 5), slice_bytes=100))
    runs = runs_of(experts, "scattered", 0)
    assert (runs.starts.tolist(), runs.sizes.tolist()) == ([100, 500], [100, 100])
    assert runs.extent_bytes == 800


def test_blocks_in_order_follow_each_other_keys_before_values() -> None:
    """Four blocks are used: of the first of each sequence the last 12 tokens, then 8."""
    keys = [(400, 1200), (1600, 800), (3600, 1200), (4800, 800)]
    values = [(6400 + 40, 120), (6400 + 160, 80), (6400 + 360, 120), (6400 + 480, 80)]
    assert spans("in_order") == keys + values
    assert runs_of(CACHE, "in_order", 0).extent_bytes == 4 * 16 * 110


def test_a_contiguous_cache_has_room_for_a_power_of_two_of_tokens() -> None:
    """Room for 64 tokens a sequence: 6400 bytes of keys, 640 of values."""
    keys = [(2000, 2000), (8400, 2000)]
    values = [(12_800 + 200, 200), (12_800 + 840, 200)]
    assert spans("contiguous") == keys + values


def test_scattered_blocks_are_those_of_the_seed_and_each_its_own() -> None:
    assert spans("scattered", 7) == spans("scattered", 7) != spans("scattered", 8)
    many = replace(CACHE, layout=replace(WINDOW, sequences=500))
    runs = runs_of(many, "scattered", 1)
    assert len(set(runs.starts.tolist())) == 2 * 1000
    assert max(runs.starts + runs.sizes) <= runs.extent_bytes == 16 * 1000 * 16 * 110


@pytest.mark.parametrize("sequences", [1, 64])
def test_one_kv_head_in_a_contiguous_cache_begins_in_one_channel(sequences: int) -> None:
    """160 tokens of 256 B on 256 channels: 160 channels hold one chunk a sequence, 96 none.

    The busiest has 256 / 160 = 1.6 times the mean, however many sequences there are.
    """
    kv = KvTokens(
        sequences=sequences, first_token=0, tokens=160, block_tokens=16, token_bytes=(256,)
    )
    runs = runs_of(replace(segment("kv", 1), layout=kv), "contiguous", 0)
    plain = Interleave(channels=256, chunk_bytes=256, hashed=False)
    assert set(plain.channel_of(runs.starts).tolist()) == {0}
    held = channel_bytes(plain, runs.starts, runs.sizes)
    assert held.tolist() == [sequences * 256] * 160 + [0] * 96
    assert max(held) / held.mean() == 1.6


def test_a_hash_spreads_the_sequences_of_a_contiguous_cache() -> None:
    """64 runs of 160 of 256 channels: 40 a channel on average, 3.9 is their deviation."""
    starts = np.arange(64) * 65536
    held = channel_bytes(Interleave(channels=256, chunk_bytes=256), starts, np.full(64, 160 * 256))
    assert sum(held) == 64 * 160 * 256
    assert max(held) <= (40 + 3 * 3.9) * 256


@pytest.mark.parametrize(
    ("start", "size", "held"),
    [
        (0, 1, [1, 0, 0, 0]),
        (255, 2, [1, 1, 0, 0]),
        (768, 512, [256, 0, 0, 256]),
        (100, 1024, [256, 256, 256, 256]),
        (512, 10_240 + 256, [2560, 2560, 2816, 2560]),
    ],
)
def test_a_run_is_cut_at_chunks(start: int, size: int, held: list[int]) -> None:
    """The fourth begins and ends within channel 0."""
    assert channel_bytes(FOUR, np.array([start]), np.array([size])).tolist() == held
