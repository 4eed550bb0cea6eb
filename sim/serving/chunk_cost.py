"""What chunks of prompts cost that see their own contexts, and decodes in the same kernel.

Attention computes whole tiles of queries, so that new tokens count as the next whole tile of about
that many, and is a line over the tokens before them. Several chunks are one grid: where the
device is full, each adds its share of as many chunks like it; where it is not, the longest counts.

Where one kernel attends for chunks and decodes together, decodes first fill the SMs that the last
wave of the chunks leaves idle (their `tail`), and add their own work then.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sim.model.mixed import Group
from sim.serving.interpolation import Cell, Table
from sim.serving.lengths import unequal
from sim.serving.step_cost import COLUMNS, N_CAUSES, Chunk, Columns, DeviceRuns
from sim.units import ceil_div

_BEFORE: Final = (0.0, *(float(2**n) for n in range(9, 22)))
_COPIES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 1024)
_LEAST_TILE: Final = 32
_TILES_OF_A_CHUNK: Final = 8
_TAIL: Final = COLUMNS.index("tail")
# What decodes add to a chunk is about their work, so that a coarse grid does.
_TOKENS: Final = (128.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0)
_FEW_BEFORE: Final = (0.0, *(float(2**n) for n in range(10, 22, 2)))
_COUNTS: Final = (1.0, 8.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0)
_MEANS: Final = (1.0, *(float(2**n) for n in range(7, 22)))
_SPREADS: Final = (0.0, 0.5, 1.0, 2.0)
_FEW_COUNTS: Final = (1.0, 8.0, 64.0, 256.0, 1024.0, 4096.0)
_FEW_MEANS: Final = (1.0, *(float(2**n) for n in range(7, 22, 2)))
_USUAL_SPREAD: Final = 0.5
_USUAL_TOKENS: Final = 512
_GROUPS: Final = 5


def whole_tiles(tokens: int) -> int:
    """Return new tokens as whole tiles of queries: at least 32, and a small part of the chunk.

    >>> whole_tiles(5), whole_tiles(450), whole_tiles(1000)
    (32, 512, 1024)
    """
    tile = _LEAST_TILE
    while tile * _TILES_OF_A_CHUNK < tokens:
        tile *= 2
    return ceil_div(tokens, tile) * tile


def attended(tokens: int, context: int) -> int:
    """Return twice the pairs of new tokens and of tokens that they attend to."""
    return tokens * (2 * context - tokens)


@dataclass(slots=True, kw_only=True)
class ChunkCost:
    """Chunks, `beside` decodes or not."""

    runs: DeviceRuns
    beside: bool
    _tables: dict[tuple[int, int], Table] = field(default_factory=dict)

    def at(self, chunks: Sequence[Chunk]) -> Columns:
        """Return the cost of chunks in one step."""
        if len(chunks) == 1:
            return self._copies(1, chunks[0])
        copies = _COPIES[bisect_right(_COPIES, len(chunks)) - 1]
        full = sum((self._copies(copies, chunk) for chunk in chunks), np.zeros(1)) / copies
        longest = max((self._copies(1, c) for c in chunks), key=lambda c: c[:N_CAUSES].sum())
        if longest[:N_CAUSES].sum() > full[:N_CAUSES].sum():
            return np.concatenate((longest[:N_CAUSES], full[N_CAUSES:]))
        return np.asarray(full)

    def _copies(self, copies: int, chunk: Chunk) -> Columns:
        tokens = whole_tiles(chunk.tokens)
        place = (copies, tokens)
        if place not in self._tables:

            def compute(before: float) -> Columns:
                group = Group(count=copies, q_len=tokens, context=tokens + int(before))
                return self.runs.sequences((group,), beside=self.beside)

            self._tables[place] = Table(compute, (_BEFORE,))
        columns = self._tables[place].at(chunk.context - tokens)
        columns[-1] *= attended(*chunk) / attended(tokens, max(tokens, chunk.context))
        return columns


@dataclass(slots=True, kw_only=True)
class SharedKernelCost:
    """Chunks and decodes in one kernel; `chunks` prices chunks alone."""

    runs: DeviceRuns
    chunks: ChunkCost
    _usual: Table = field(init=False)
    _spread: Table = field(init=False)
    _cells: dict[tuple[Cell, Cell], Columns] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Set up the tables."""
        self._usual = Table(self._usual_at, (_TOKENS, _FEW_BEFORE, _COUNTS, _MEANS))
        self._spread = Table(self._spread_at, (_FEW_COUNTS, _FEW_MEANS, _SPREADS))

    def at(self, chunks: Sequence[Chunk], count: int, mean: float, spread: float) -> Columns:
        """Return the cost of chunks and of `count` decodes."""
        alone = self.chunks.at(chunks)
        tokens = sum(chunk.tokens for chunk in chunks)
        before = sum(chunk.tokens * (chunk.context - chunk.tokens) for chunk in chunks) / tokens
        usual, weights = self._usual.place(tokens, before, count, mean)
        other, more = self._spread.place(count, mean, spread)
        corners = self._cells.get((usual, other))
        if corners is None:
            corners = np.concatenate((self._usual.corners(usual), self._spread.corners(other)))
            self._cells[usual, other] = corners
        added = np.dot(weights + more, corners)
        if added[:N_CAUSES].sum() < alone[_TAIL]:
            alone[N_CAUSES:] += added[N_CAUSES:]
            return alone
        alone[_TAIL] = 0.0
        return np.asarray(alone + added)

    def _usual_at(self, tokens: float, before: float, count: float, mean: float) -> Columns:
        chunk = Group(count=1, q_len=int(tokens), context=int(tokens + before))
        alone = self.runs.sequences((chunk,), beside=True, rough=True)
        added = self._both(chunk, count, mean, _USUAL_SPREAD) - alone
        added[_TAIL] += alone[_TAIL]
        return added

    def _spread_at(self, count: float, mean: float, spread: float) -> Columns:
        chunk = Group(count=1, q_len=_USUAL_TOKENS, context=_USUAL_TOKENS)
        usual = self._both(chunk, count, mean, _USUAL_SPREAD)
        return self._both(chunk, count, mean, spread) - usual

    def _both(self, chunk: Group, count: float, mean: float, spread: float) -> Columns:
        decodes = unequal(int(count), mean, spread, most_groups=_GROUPS)
        return self.runs.sequences((*decodes, chunk), rough=True)
