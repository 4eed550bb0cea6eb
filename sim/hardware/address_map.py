"""Address maps: how the bytes of a segment spread over the pseudo-channels.

Real GPUs hash addresses over channels at a granularity of a few hundred bytes (IPOLY-modulo
partition indexing in the Accel-Sim SM90 configuration; 256 B L2 channel hashing in AMD's ROCm
documentation), so that a request of a few kilobytes touches all channels about evenly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from sim.hardware.placement import KvPages, channel_bytes, runs_of
from sim.hardware.spec import ChipSpec
from sim.hardware.walk import Interleave
from sim.kernel.kernel import Segment
from sim.units import ceil_div

MapKind = Literal["even", "interleaved", "hashed"]
MAP_KINDS: tuple[MapKind, ...] = get_args(MapKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvenMap:
    """Spreads every request evenly: the limit of a perfect hash."""

    n_channels: int

    def shares(self, segments: Sequence[Segment]) -> tuple[tuple[int, ...], ...]:
        """Return a row of shares per segment and one for writes, a column per channel."""
        even = (1,) * self.n_channels
        return (even,) * (len(segments) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class InterleavedMap:
    """Places every segment: chunk i of the address space lies in channel i mod n, or is `hashed`.

    Segments lie one after another, each aligned to a chunk; a segment that is short against
    `n_channels` chunks, or whose short runs lie at a power of two, camps on few channels. Hashed,
    each round of chunks goes round the channels from another one on (`Interleave`): runs meet in
    a channel by chance only. `pages` and `seed` say where the blocks of a KV cache are.
    """

    n_channels: int
    chunk_bytes: int
    hashed: bool = False
    pages: KvPages = "in_order"
    seed: int = 0

    def shares(self, segments: Sequence[Segment]) -> tuple[tuple[int, ...], ...]:
        """Return the bytes of each segment in each channel, and an even row for writes."""
        return _placed(self, tuple(segments))


@lru_cache(maxsize=256)
def _placed(how: InterleavedMap, segments: tuple[Segment, ...]) -> tuple[tuple[int, ...], ...]:
    interleave = Interleave(channels=how.n_channels, chunk_bytes=how.chunk_bytes, hashed=how.hashed)
    rows, base = [], 0
    for segment in segments:
        runs = runs_of(segment, how.pages, how.seed)
        rows.append(tuple(channel_bytes(interleave, base + runs.starts, runs.sizes).tolist()))
        base += ceil_div(runs.extent_bytes, how.chunk_bytes) * how.chunk_bytes
    return (*rows, (1,) * how.n_channels)


AddressMap = EvenMap | InterleavedMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What a scenario says about addresses: the map, and how the pages of a KV cache lie."""

    address_map: MapKind = "even"
    kv_pages: KvPages = "scattered"

    def on(self, spec: ChipSpec, seed: int) -> AddressMap | None:
        """Return the address map of a chip, None for the even one, where no place matters."""
        if self.address_map == "even":
            return None
        return InterleavedMap(
            n_channels=spec.pseudo_channels,
            chunk_bytes=spec.interleave_bytes,
            hashed=self.address_map == "hashed",
            pages=self.kv_pages,
            seed=seed,
        )


EVEN = Placement()
