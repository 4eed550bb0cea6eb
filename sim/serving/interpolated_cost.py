"""The cost of a step by interpolation over device runs of its parts.

A step is the sum of
- what sees tokens: a function of their number, padded to the sizes of captured graphs;
- the head: a function of the number of sequences;
- decodes: for each number of sequences a line over their mean context, and what unequal lengths
  add, on a coarser grid of number, mean and longest context over mean;
- chunks: number of chunks, new tokens and tokens before them of the mean chunk;
- where one kernel attends for chunks and decodes together: what decodes add to it.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp, log
from statistics import NormalDist
from typing import Final

import numpy as np

from sim.model.mixed import Group
from sim.serving.interpolation import Line, Table
from sim.serving.step_cost import (
    N_CAUSES,
    BatchShape,
    Chunk,
    Columns,
    DeviceRuns,
    Price,
    price_of,
)
from sim.units import ceil_div

# Sequences are exact where each counts; tiles and waves make steps beyond.
_SEQUENCES: Final = (
    *range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(72, 129, 8), *range(144, 257, 16),
    *range(288, 513, 32), *range(576, 1025, 64), 1536, 2048, 4096, 8192,
)  # fmt: skip
_CONTEXTS: Final = (1.0, *(float(2**n) for n in range(8, 23, 2)))
_NARROWEST: Final = 64
# A line over contexts may be off by this share of the step without attention.
_TOLERANCE: Final = 0.004
_RATIOS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
_FEW_SEQUENCES: Final = (
    1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 512.0, 1024.0,
    4096.0,
)  # fmt: skip
_FEW_CONTEXTS: Final = (1.0, *(float(2**n) for n in range(8, 22)))
_NEW_TOKENS: Final = (
    2.0, 16.0, 32.0, 64.0, 128.0, 192.0, 256.0, 384.0, 512.0, 768.0, 1024.0, 1536.0, 2048.0, 3072.0,
    4096.0, 6144.0, 8192.0, 16384.0, 32768.0, 65536.0, 131072.0,
)  # fmt: skip
_BEFORE: Final = (0.0, *(float(2**n) for n in range(9, 22)))
_CHUNKS: Final = (
    1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0,
)  # fmt: skip
# What decodes add to a chunk is about their work, so that a coarse grid does.
_BESIDE_TOKENS: Final = (2.0, 128.0, 512.0, 2048.0, 8192.0, 32768.0)
_BESIDE_SEQUENCES: Final = (1.0, 4.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)
_BESIDE_CONTEXTS: Final = (1.0, *(float(2**n) for n in range(9, 22, 2)))
_BESIDE_RATIOS: Final = (1.0, 3.0, 9.0, 64.0)
_ROWS_STEP: Final = 64
# Buckets of the sequences beside the longest, in a batch of unequal lengths.
_BUCKETS: Final = 4


def padded(tokens: int, graph_sizes: Sequence[int]) -> int:
    """Return the rows that token-wise kernels compute: the next captured size, if there is one.

    >>> padded(19, (1, 2, 4, 8, 16, 24)), padded(100, (1, 2, 4, 8, 16, 24))
    (24, 100)
    """
    place = bisect_left(graph_sizes, tokens)
    return graph_sizes[place] if place < len(graph_sizes) else tokens


def unequal(count: int, mean: float, ratio: float) -> tuple[Group, ...]:
    """Return decodes of mean context `mean` and a longest one of `ratio` times that.

    The others are a few quantiles of the log-normal distribution whose largest of `count` samples
    lies there: lengths of prompts and answers are about log-normal in all traces that we know.
    """
    total = round(count * mean)
    longest = max(1, min(round(mean * ratio), total - (count - 1)))
    if count == 1 or ratio <= 1.0:
        return (Group(count=count, q_len=1, context=max(1, round(mean))),)
    rest, left = count - 1, total - longest
    top = NormalDist().inv_cdf(count / (count + 1))
    sigma = top - max(0.0, top * top - 2 * log(ratio)) ** 0.5
    buckets = min(_BUCKETS, rest)
    places = [(n + 0.5) / buckets * count / (count + 1) for n in range(buckets)]
    shares = [exp(sigma * NormalDist().inv_cdf(place)) for place in places]
    sizes = [rest * (n + 1) // buckets - rest * n // buckets for n in range(buckets)]
    whole = sum(size * share for size, share in zip(sizes, shares, strict=True))
    groups = (
        Group(count=size, q_len=1, context=max(1, min(longest, round(left * share / whole))))
        for size, share in zip(sizes, shares, strict=True)
    )
    return (*groups, Group(count=1, q_len=1, context=longest))


def mean_chunk(chunks: Sequence[Chunk]) -> tuple[int, float, float]:
    """Return number, new tokens and tokens before them of equal chunks with the same attention.

    A new token attends to what was before and to half of the new ones: that sum is kept.
    """
    count = len(chunks)
    tokens = sum(chunk.tokens for chunk in chunks)
    attended = sum(chunk.tokens * (chunk.context - chunk.tokens / 2) for chunk in chunks)
    mean = tokens / count
    return count, mean, max(0.0, attended / tokens - mean / 2)


@dataclass(slots=True, kw_only=True)
class InterpolatedCost:
    """Prices steps from device runs of their parts; `graph_sizes` are captured token counts."""

    runs: DeviceRuns
    graph_sizes: tuple[int, ...]
    _lines: dict[tuple[int, int, bool], Line] = field(default_factory=dict)
    _fixed: dict[tuple[int, int, str], Columns] = field(default_factory=dict)
    _chunks: Table = field(init=False)
    _skew: Table = field(init=False)
    _beside: Table = field(init=False)

    def __post_init__(self) -> None:
        """Set up the tables."""
        self._chunks = Table(self._chunks_at, (_CHUNKS, _NEW_TOKENS, _BEFORE, (0.0, 1.0)))
        self._skew = Table(self._skew_at, (_FEW_SEQUENCES, _FEW_CONTEXTS, _RATIOS))
        self._beside = Table(
            self._beside_at,
            (_BESIDE_TOKENS, _BESIDE_SEQUENCES, _BESIDE_CONTEXTS, _BESIDE_RATIOS),
        )

    def price(self, shape: BatchShape) -> Price:
        """Return the cost of a step; equal shapes cost the same at all times."""
        return price_of(self.columns(shape))

    def columns(self, shape: BatchShape) -> Columns:
        """Return the cost of a step before rounding."""
        if shape.chunks:
            return self._mixed(shape) if shape.decodes else self._prefill(shape.chunks)
        return self._tokens(shape, "decode") + self._decodes(shape, beside=False)

    def _mixed(self, shape: BatchShape) -> Columns:
        total = self._tokens(shape, "mixed") + self._chunks.at(*mean_chunk(shape.chunks), 1.0)
        if not self.runs.mixes:
            return total + self._decodes(shape, beside=True)
        tokens = sum(chunk.tokens for chunk in shape.chunks)
        mean = shape.context / shape.decodes
        return total + self._beside.at(tokens, shape.decodes, mean, shape.longest / mean)

    def _prefill(self, chunks: tuple[Chunk, ...]) -> Columns:
        shape = BatchShape(chunks=chunks)
        return self._tokens(shape, "prefill") + self._chunks.at(*mean_chunk(chunks), 0.0)

    def _tokens(self, shape: BatchShape, form: str) -> Columns:
        rows = shape.rows or padded(shape.tokens, self.graph_sizes)
        sequences = shape.decodes + len(shape.chunks)
        key = (rows, sequences, form)
        if key not in self._fixed:
            logits = shape.decodes * shape.decode_tokens + len(shape.chunks)
            self._fixed[key] = (
                self._rows(rows, form)
                + _between(self.runs.head, logits, _SEQUENCES)
                + self.runs.host(sequences)
            )
        return self._fixed[key]

    def _rows(self, rows: int, form: str) -> Columns:
        """Return token-wise operators; beyond captured sizes tiles are computed whole."""
        if rows not in self.graph_sizes:
            step = _ROWS_STEP * max(1, rows // (16 * _ROWS_STEP))
            rows = ceil_div(rows, step) * step
        return self.runs.tokens(rows, form)

    def _decodes(self, shape: BatchShape, *, beside: bool) -> Columns:
        count, mean = shape.decodes, shape.context / shape.decodes
        equal = self._equal(count, shape.decode_tokens, mean, beside=beside)
        ratio = shape.longest / mean
        return equal if count == 1 else equal + self._skew.at(count, mean, ratio)

    def _equal(self, count: int, new: int, mean: float, *, beside: bool) -> Columns:
        place = bisect_left(_SEQUENCES, count)
        if _SEQUENCES[place] == count:
            return self._line(count, new, beside=beside).at(mean)
        low, high = _SEQUENCES[place - 1], _SEQUENCES[place]
        a = self._line(low, new, beside=beside).at(mean)
        b = self._line(high, new, beside=beside).at(mean)
        share = (count - low) / (high - low)
        return np.asarray(a + (b - a) * share)

    def _line(self, count: int, new: int, *, beside: bool) -> Line:
        key = (count, new, beside)
        if key not in self._lines:

            def compute(mean: float) -> Columns:
                context = max(new, round(mean))
                group = Group(count=count, q_len=new, context=context)
                return self.runs.sequences((group,), beside=beside)

            rows = padded(count * new, self.graph_sizes)
            step_ps = float(self._rows(rows, "decode")[:N_CAUSES].sum())
            self._lines[key] = Line(compute, _CONTEXTS, _TOLERANCE * step_ps, _NARROWEST)
        return self._lines[key]

    def _skew_at(self, count: float, mean: float, ratio: float) -> Columns:
        equal = self.runs.sequences(unequal(int(count), mean, 1.0), rough=True)
        return self.runs.sequences(unequal(int(count), mean, ratio), rough=True) - equal

    def _chunks_at(self, count: float, tokens: float, before: float, beside: float) -> Columns:
        group = Group(count=int(count), q_len=int(tokens), context=int(tokens + before))
        return self.runs.sequences((group,), beside=beside > 0)

    def _beside_at(self, tokens: float, count: float, mean: float, ratio: float) -> Columns:
        chunk = Group(count=1, q_len=int(tokens), context=int(tokens))
        both = self.runs.sequences((*unequal(int(count), mean, ratio), chunk), rough=True)
        return both - self.runs.sequences((chunk,), beside=True, rough=True)


def _between(compute: Callable[[int], Columns], count: int, points: Sequence[int]) -> Columns:
    place = bisect_left(points, count)
    high = points[place]
    if high == count:
        return compute(high)
    low = points[place - 1]
    a, b = compute(low), compute(high)
    return a + (b - a) * ((count - low) / (high - low))
