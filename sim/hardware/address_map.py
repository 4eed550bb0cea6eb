"""Address maps: how the bytes of a segment spread over the pseudo-channels.

Real GPUs hash addresses over channels at a granularity of a few hundred bytes (IPOLY-modulo
partition indexing in the Accel-Sim SM90 configuration; 256 B L2 channel hashing in AMD's ROCm
documentation), so that a request of a few kilobytes touches all channels about evenly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.kernel.kernel import Segment
from sim.units import ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedMap:
    """Spreads every request evenly: the limit of a perfect hash."""

    n_channels: int

    def shares(self, segments: Sequence[Segment]) -> tuple[tuple[int, ...], ...]:
        """Return a row of shares per segment and one for writes, a column per channel."""
        even = (1,) * self.n_channels
        return (even,) * (len(segments) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class InterleavedMap:
    """Plain modulo interleaving: chunk i of the address space lies in channel i mod n.

    Segments lie one after another, each aligned to a chunk; a segment that is short against
    `n_channels` chunks camps on few channels.
    """

    n_channels: int
    chunk_bytes: int

    def shares(self, segments: Sequence[Segment]) -> tuple[tuple[int, ...], ...]:
        """Return the chunks of each segment in each channel, and an even row for writes."""
        rows, first = [], 0
        for segment in segments:
            chunks = max(1, ceil_div(segment.size_bytes, self.chunk_bytes))
            whole, rest = divmod(chunks, self.n_channels)
            extra = {(first + i) % self.n_channels for i in range(rest)}
            rows.append(tuple(whole + (c in extra) for c in range(self.n_channels)))
            first += chunks
        return (*rows, (1,) * self.n_channels)


AddressMap = HashedMap | InterleavedMap
