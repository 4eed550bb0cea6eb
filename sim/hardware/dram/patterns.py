"""Streams of granules: who asks for which bytes, and when.

The four patterns are those of the reference curves: `seq` (one ascending stream), `random`
(uniform aligned granules over the channel), `streams_rand` (n ascending streams from random 128 B
aligned bases, round robin, the first `read_frac * n` of them reading) and `streams_aligned` (the
same from bases 64 rows apart: one bank, different rows).
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from sim.hardware.dram.timing import DramSpec

PatternName = Literal["seq", "random", "streams_rand", "streams_aligned"]
Array = NDArray[np.int64]

_BASE_BYTES: Final = 128
_ALIGNED_ROWS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What is asked of one channel: granules of `chunk_bytes`, `total_bytes` in all.

    `read_frac` is the share of reads (of streams, or the chance of each granule); `offered_load`
    is the share of the peak at which granules arrive as a Poisson process, 0 for as fast as the
    channel takes them.
    """

    name: PatternName
    chunk_bytes: int
    total_bytes: int
    n_streams: int = 1
    read_frac: float = 1.0
    offered_load: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Granules in the order of asking: first byte, whether they write, when they arrive (ps)."""

    address: Array
    write: NDArray[np.bool_]
    arrive_ps: Array
    chunk_bytes: int


def make_stream(pattern: Pattern, spec: DramSpec, rng: np.random.Generator) -> Stream:
    """Return the granules of a pattern on a device."""
    count = max(1, pattern.total_bytes // pattern.chunk_bytes)
    address = _ADDRESSES[pattern.name](pattern, spec, count, rng)
    if pattern.name in ("seq", "random"):
        write = rng.random(count) >= pattern.read_frac
    else:
        readers = round(pattern.read_frac * pattern.n_streams)
        write = np.arange(count) % pattern.n_streams >= readers
    return Stream(
        address=address % spec.organisation.capacity_bytes,
        write=write,
        arrive_ps=_arrivals(pattern, spec, count, rng),
        chunk_bytes=pattern.chunk_bytes,
    )


def _arrivals(pattern: Pattern, spec: DramSpec, count: int, rng: np.random.Generator) -> Array:
    if pattern.offered_load <= 0:
        return np.zeros(count, dtype=np.int64)
    mean_ps = pattern.chunk_bytes * 1e12 / (spec.peak_bytes_per_s * pattern.offered_load)
    return np.cumsum(rng.exponential(mean_ps, count)).astype(np.int64)


def _seq(pattern: Pattern, _spec: DramSpec, count: int, _rng: np.random.Generator) -> Array:
    return np.arange(count, dtype=np.int64) * pattern.chunk_bytes


def _random(pattern: Pattern, spec: DramSpec, count: int, rng: np.random.Generator) -> Array:
    granules = spec.organisation.capacity_bytes // pattern.chunk_bytes
    return rng.integers(0, granules, count, dtype=np.int64) * pattern.chunk_bytes


def round_robin(pattern: Pattern, bases: Array, count: int) -> Array:
    """Return `count` granules of ascending streams from `bases`, one of each in turn."""
    index = np.arange(count, dtype=np.int64)
    n = pattern.n_streams
    return bases[index % n] + index // n * pattern.chunk_bytes


def _streams_rand(pattern: Pattern, spec: DramSpec, count: int, rng: np.random.Generator) -> Array:
    places = spec.organisation.capacity_bytes // _BASE_BYTES
    bases = rng.integers(0, places, pattern.n_streams, dtype=np.int64) * _BASE_BYTES
    return round_robin(pattern, bases, count)


def _streams_aligned(
    pattern: Pattern, spec: DramSpec, count: int, _rng: np.random.Generator
) -> Array:
    o = spec.organisation
    step = _ALIGNED_ROWS * o.banks * o.row_bytes
    return round_robin(pattern, np.arange(pattern.n_streams, dtype=np.int64) * step, count)


_ADDRESSES: Final = {
    "seq": _seq,
    "random": _random,
    "streams_rand": _streams_rand,
    "streams_aligned": _streams_aligned,
}
