"""In which order a channel's bursts of a segment are read.

Chunks of `interleave_bytes` go round the channels; which channel of a round takes which chunk is
hashed, so that every channel has one chunk of each round. A channel's own bytes are those of its
chunks, one after another.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.units import ceil_div

Array = NDArray[np.int64]

# Where a kernel does not tell how long a row is: 4096 values of two bytes, a common hidden size.
ASSUMED_ROW_BYTES = 8192
_PIECE_BYTES = 128  # one swizzle row, a cache line (decision 0004)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio (Knuth, TAOCP 3, 6.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interleave:
    """Chunks of `chunk_bytes` go round `channels` channels, each round in another order if hashed.

    Of every `channels` neighbouring chunks each channel holds one. GPU makers do not publish their
    functions. The hash mixes all bits of the round by a multiplication, so that no stride is
    special: an assumption, and kinder than a hash of a few bits, after which a power of two can
    still meet few channels. Places within a channel count accesses of `access_bytes`.
    """

    channels: int
    chunk_bytes: int
    access_bytes: int = 1
    hashed: bool = True

    def channel_of(self, address: Array) -> Array:
        """Return which channel holds each byte of the chip."""
        chunk = address // self.chunk_bytes
        turn = chunk // self.channels if self.hashed else np.zeros_like(chunk)
        turn = (turn.astype(np.uint64) * _MULTIPLIER >> np.uint64(33)).astype(np.int64)
        return np.asarray((chunk - turn) % self.channels)

    def local(self, address: Array) -> Array:
        """Return the place within its channel of each byte of the chip.

        >>> Interleave(channels=2, chunk_bytes=512).local(np.arange(0, 2048, 512)).tolist()
        [0, 0, 512, 512]
        """
        chunk = address // self.chunk_bytes
        inside = chunk // self.channels * self.chunk_bytes + address % self.chunk_bytes
        return np.asarray(inside // self.access_bytes)


class Walk:
    """The bursts of one segment in one channel, in long runs; it begins again at the end."""

    __slots__ = ("_at", "_base", "_count")

    def __init__(self, interleave: Interleave, base_bytes: int, size_bytes: int) -> None:
        per_round = interleave.channels * interleave.access_bytes
        self._base = base_bytes // per_round
        self._count = max(1, ceil_div(size_bytes, per_round))
        self._at = 0

    def take(self, count: int) -> Array:
        """Return the next `count` bursts."""
        found = self._base + (self._at + np.arange(count)) % self._count
        self._at = (self._at + count) % self._count
        return np.asarray(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """How a matrix is read: `together` rows at a time, in halves of cache lines if `short`.

    Rows are `row_bytes` long (0: not told).
    """

    together: int
    short: bool = False
    row_bytes: int = 0


class TiledWalk:
    """The same for a matrix read in tiles: a piece of each of `rows` rows, then the next pieces."""

    __slots__ = (
        "_base", "_channel", "_column", "_columns", "_first_row", "_in", "_left", "_offsets",
        "_piece", "_row_bytes", "_rows", "_together",
    )  # fmt: skip

    def __init__(
        self, interleave: Interleave, base_bytes: int, size_bytes: int, tiling: Tiling, *,
        channel: int,
    ) -> None:  # fmt: skip
        self._in = interleave
        self._channel = channel
        self._base = base_bytes
        self._piece = min(_PIECE_BYTES // (2 if tiling.short else 1), interleave.chunk_bytes)
        # A row is a whole number of pieces, at most all there is.
        row = min(tiling.row_bytes or ASSUMED_ROW_BYTES, size_bytes)
        self._row_bytes = ceil_div(row, self._piece) * self._piece
        self._rows = max(1, size_bytes // self._row_bytes)
        self._columns = self._row_bytes // self._piece
        self._together = min(self._rows, tiling.together)
        self._offsets = np.arange(max(1, self._piece // interleave.access_bytes))
        self._first_row = self._column = 0
        self._left = np.empty(0, dtype=np.int64)

    def take(self, count: int) -> Array:
        """Return the next `count` bursts."""
        parts, have = [self._left], len(self._left)
        while have < count:
            more = self._next_column()
            parts.append(more)
            have += len(more)
        found = np.concatenate(parts)
        self._left = found[count:]
        return found[:count]

    def _next_column(self) -> Array:
        last_row = min(self._rows, self._first_row + self._together)
        rows = np.arange(self._first_row, last_row)
        address = self._base + rows * self._row_bytes + self._column * self._piece
        self._column += 1
        if self._column == self._columns:
            self._column = 0
            self._first_row = last_row if last_row < self._rows else 0
        mine = address[self._in.channel_of(address) == self._channel]
        return np.asarray((self._in.local(mine)[:, None] + self._offsets).ravel())
