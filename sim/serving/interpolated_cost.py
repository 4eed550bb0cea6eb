"""The cost of a step by interpolation over device runs of its parts.

A step is the sum of
- what sees tokens: a function of their number, padded to the sizes of captured graphs;
- the head: a function of the number of sequences;
- decodes: a function of their number, mean context and spread (`sim.serving.decode_cost`);
- chunks: a function of their new tokens and of those before (`sim.serving.chunk_cost`);
- where one kernel attends for chunks and decodes together: what decodes add to it.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sim.serving.chunk_cost import ChunkCost, SharedKernelCost
from sim.serving.decode_cost import DecodeCost
from sim.serving.lengths import spread_behind, spread_of
from sim.serving.patch import Patch
from sim.serving.step_cost import (
    COLUMNS,
    N_CAUSES,
    BatchShape,
    Columns,
    DeviceRuns,
    Integers,
    Price,
    price_of,
)
from sim.units import ceil_div

# A line over contexts may be off by this share of the step without attention.
_TOLERANCE: Final = 0.004
# The head reads its weights for any few rows.
_HEADS: Final = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
# (Rows, step): up to so many rows, as many as the next step cost the same.
_STEPS: Final = (
    (32, 1),
    (128, 16),
    (512, 32),
    (2048, 64),
    (4096, 128),
    (8192, 256),
    (1 << 62, 512),
)
# Of more rows than this, a tile that is cut shows.
_UNCUT: Final = 512
_NONE: Final = np.zeros((0, len(COLUMNS)), dtype=np.int64)
_ALIGNED: Final = 8


def padded(tokens: int, graph_sizes: Sequence[int]) -> int:
    """Return the rows that token-wise kernels compute: the next captured size, if there is one.

    >>> padded(19, (1, 2, 4, 8, 16, 24)), padded(100, (1, 2, 4, 8, 16, 24))
    (24, 100)
    """
    place = bisect_left(graph_sizes, tokens)
    return graph_sizes[place] if place < len(graph_sizes) else tokens


def like(rows: int) -> int:
    """Return a number of rows that costs about the same, as tiles are computed whole.

    CTAs of a cut tile are a kind of their own, so that whole ones stand for themselves only.

    >>> like(20), like(40), like(1003), like(1024)
    (20, 48, 1016, 1024)
    """
    step = next(step for most, step in _STEPS if rows <= most)
    top = ceil_div(rows, step) * step
    return top - _ALIGNED if rows != top and rows > _UNCUT else top


@dataclass(slots=True, kw_only=True)
class InterpolatedCost:
    """Prices steps from device runs of their parts; `graph_sizes` are captured token counts."""

    runs: DeviceRuns
    graph_sizes: tuple[int, ...]
    _decodes: dict[tuple[int, bool], DecodeCost] = field(default_factory=dict)
    _chunks: dict[bool, ChunkCost] = field(default_factory=dict)
    _fixed: dict[tuple[int, int, str], Columns] = field(default_factory=dict)
    _patches: dict[tuple[int, int], list[Patch]] = field(default_factory=dict)
    _alone: dict[BatchShape, Price] = field(default_factory=dict)
    _shared: SharedKernelCost = field(init=False)
    _usual: DecodeCost = field(init=False)

    def __post_init__(self) -> None:
        """Set up what prices the parts."""
        for beside in (False, True):
            self._chunks[beside] = ChunkCost(runs=self.runs, beside=beside)
        self._shared = SharedKernelCost(runs=self.runs, chunks=self._chunks[True])
        self._usual = self._decode_cost(1, beside=False)

    def price(self, shape: BatchShape) -> Price:
        """Return the cost of a step; equal shapes cost the same at all times."""
        if shape.chunks or shape.decode_tokens != 1:
            known = self._alone.get(shape)
            if known is None:
                known = price_of(np.maximum(self.columns(shape), 0.0))
                if not shape.decodes:
                    self._alone[shape] = known
            return known
        count = shape.decodes
        mean, spread = shape.context / count, spread_of_shape(shape)
        for patch in self._patches.get((count, shape.rows), ()):
            if patch.low <= mean < patch.high and patch.least <= spread < patch.most:
                return price_of(patch.at(mean, spread))
        return self._price_anew(shape, mean, spread)

    def glide(self, count: int, contexts: Integers, squares: Integers) -> Integers:
        """Return what steps of `count` decodes cost that follow each other, as `price` has them.

        `contexts` and `squares` are those of each step. Rows are of COLUMNS; there are as many as
        are priced from one patch, which may be none.
        """
        means = contexts / count
        spreads = np.sqrt(np.maximum(0.0, count * squares / (contexts * contexts) - 1.0))
        mean, spread = float(means[0]), float(spreads[0])
        for patch in self._patches.get((count, 0), ()):
            if patch.low <= mean < patch.high and patch.least <= spread < patch.most:
                return np.rint(patch.along(means, spreads)).astype(np.int64)
        return _NONE

    def _price_anew(self, shape: BatchShape, mean: float, spread: float) -> Price:
        """Price a step of decodes, and remember the patch that it lies in."""
        patch = self._usual.patch(shape.decodes, mean, spread)
        if patch is None:
            return price_of(np.maximum(self.columns(shape), 0.0))
        patch = patch._replace(base=patch.base + self._others(shape, "decode"))
        self._patches.setdefault((shape.decodes, shape.rows), []).append(patch)
        return price_of(patch.at(mean, spread))

    def columns(self, shape: BatchShape) -> Columns:
        """Return the cost of a step before rounding."""
        if not shape.chunks:
            return self._others(shape, "decode") + self._decodes_of(shape, beside=False)
        if not shape.decodes:
            return self._others(shape, "prefill") + self._chunks[False].at(shape.chunks)
        others = self._others(shape, "mixed")
        if not self.runs.mixes:
            both = self._chunks[True].at(shape.chunks) + self._decodes_of(shape, beside=True)
            return others + both
        mean = shape.context / shape.decodes
        return others + self._shared.at(shape.chunks, shape.decodes, mean, spread_of_shape(shape))

    def _decodes_of(self, shape: BatchShape, *, beside: bool) -> Columns:
        cost = self._decode_cost(shape.decode_tokens, beside=beside)
        return cost.at(shape.decodes, shape.context / shape.decodes, spread_of_shape(shape))

    def _decode_cost(self, new: int, *, beside: bool) -> DecodeCost:
        key = (new, beside)
        if key not in self._decodes:
            self._decodes[key] = DecodeCost(
                runs=self.runs, new=new, beside=beside, tolerance_ps=self._tolerance_ps
            )
        return self._decodes[key]

    def _tolerance_ps(self, tokens: int) -> float:
        rows = self._rows(padded(tokens, self.graph_sizes), "decode")
        return _TOLERANCE * float(rows[:N_CAUSES].sum())

    def _others(self, shape: BatchShape, form: str) -> Columns:
        """Return what sees tokens, the head and the host."""
        rows = shape.rows or padded(shape.tokens, self.graph_sizes)
        sequences = shape.decodes + len(shape.chunks)
        key = (rows, sequences, form)
        if key not in self._fixed:
            logits = shape.decodes * shape.decode_tokens + len(shape.chunks)
            self._fixed[key] = (
                self._rows(rows, form)
                + _between(self.runs.head, logits, _HEADS)
                + self.runs.host(sequences)
            )
        return self._fixed[key]

    def _rows(self, rows: int, form: str) -> Columns:
        stand_in = like(rows)
        columns = self.runs.tokens(stand_in, form).copy()
        columns[-1] *= rows / stand_in
        return columns


def spread_of_shape(shape: BatchShape) -> float:
    """Return the spread of contexts, from their longest if their squares are not known."""
    if shape.squares:
        return spread_of(shape.decodes, shape.context, shape.squares)
    return spread_behind(shape.decodes, shape.longest * shape.decodes / shape.context)


def _between(compute: Callable[[int], Columns], count: int, points: Sequence[int]) -> Columns:
    place = bisect_left(points, count)
    high = points[place]
    if high == count:
        return compute(high)
    low = points[place - 1]
    a, b = compute(low), compute(high)
    return a + (b - a) * ((count - low) / (high - low))
