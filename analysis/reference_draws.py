"""Streams with the very draws of the reference runs (`analysis.dram_reference`).

The reference curves do not say how their generator drew. It was found by trying usual generators
and seeds until runs that depend on a handful of bases agreed: `std::mt19937_64` (ISO C++, 26.6.6.3
of N4917) with seed 1 and a modulo. Bases of streams are drawn one after another; of a random
granule first whether it reads, then where it is. How arrivals are drawn was not found.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.hardware.dram.patterns import Pattern, Stream, make_stream, round_robin
from sim.hardware.dram.timing import DramSpec

_WORDS: Final = 312
_MIDDLE: Final = 156
_UPPER: Final = np.uint64(0xFFFFFFFF80000000)
_LOWER: Final = np.uint64(0x7FFFFFFF)
_TWIST: Final = np.uint64(0xB5026F5AA96619E9)
_SPAN: Final = 1 << 64
_BASE_BYTES: Final = 128

Words = NDArray[np.uint64]


class Mersenne64:
    """`std::mt19937_64`, a block of 312 words at a time."""

    def __init__(self, seed: int) -> None:
        word, words = seed % _SPAN, []
        for i in range(_WORDS):
            words.append(word)
            word = (6364136223846793005 * (word ^ (word >> 62)) + i + 1) % _SPAN
        self._state: Words = np.array(words, dtype=np.uint64)

    def words(self, count: int) -> Words:
        """Return the next words; a generator is asked once only."""
        blocks = -(-count // _WORDS)
        return np.concatenate([self._block() for _ in range(blocks)])[:count]

    def _block(self) -> Words:
        old, new = self._state, np.empty_like(self._state)
        new[:_MIDDLE] = old[_MIDDLE:] ^ _twisted(old[:_MIDDLE], old[1 : _MIDDLE + 1])
        following = np.append(old[_MIDDLE + 1 :], new[0])
        new[_MIDDLE:] = new[:_MIDDLE] ^ _twisted(old[_MIDDLE:], following)
        self._state = x = new
        x = x ^ (x >> np.uint64(29)) & np.uint64(0x5555555555555555)
        x = x ^ (x << np.uint64(17)) & np.uint64(0x71D67FFFEDA60000)
        x = x ^ (x << np.uint64(37)) & np.uint64(0xFFF7EEE000000000)
        return np.asarray(x ^ (x >> np.uint64(43)))


def _twisted(word: Words, following: Words) -> Words:
    x = (word & _UPPER) | (following & _LOWER)
    return (x >> np.uint64(1)) ^ np.where(x & np.uint64(1), _TWIST, np.uint64(0))


def reference_stream(pattern: Pattern, spec: DramSpec, seed: int) -> Stream:
    """Return a pattern's granules as the reference runs drew them; arrivals are drawn by numpy."""
    stream = make_stream(pattern, spec, np.random.default_rng(seed))
    capacity = spec.organisation.capacity_bytes
    count, draws = len(stream.address), Mersenne64(seed)
    if pattern.name == "streams_rand":
        bases = draws.words(pattern.n_streams) % np.uint64(capacity // _BASE_BYTES)
        address = round_robin(pattern, bases.astype(np.int64) * _BASE_BYTES, count)
        return replace(stream, address=address % capacity)
    if pattern.name == "random":
        pairs = draws.words(2 * count).reshape(count, 2)
        granules = pairs[:, 1] % np.uint64(capacity // pattern.chunk_bytes)
        return replace(
            stream,
            address=granules.astype(np.int64) * pattern.chunk_bytes,
            write=pairs[:, 0] / _SPAN >= pattern.read_frac,
        )
    return stream
