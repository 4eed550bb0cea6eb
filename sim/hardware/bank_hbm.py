"""HBM at the level of banks: stands behind the L2 in place of `Hbm` (decision 0026).

Requests become bursts at addresses: segments lie one after another, and reads walk them. With
symmetry one channel stands for all; they differ only by the draw of the hash, so the slowest of
many, a little later than one alone, is not seen.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from sim.hardware.clock import Clock
from sim.hardware.dram.gpu_like import gpu_controller, gpu_map
from sim.hardware.dram.process import BankChannel, BankDevice
from sim.hardware.dram.scaled import dram_for
from sim.hardware.pending import Pending
from sim.hardware.spec import ChipSpec
from sim.hardware.walk import Interleave, TiledWalk, Tiling, Walk
from sim.kernel.kernel import Segment
from sim.measure.probe import Probe
from sim.units import ceil_div

_ALIGNMENT_BYTES = 2 << 20  # allocations of the CUDA driver are multiples of 2 MiB
_TILE_ROWS = 128  # rows of a weight tile an SM works on
# Written back are bytes of any segment; they go, in one run, behind the last one.
_WRITES_BYTES = 1 << 30


class BankHbm:
    """All channels of a chip, as far as they are simulated. Counts the bytes read per segment."""

    __slots__ = (
        "_bytes", "_in", "_sent", "_walks", "access_ps", "channels", "probe", "pseudo_channels",
        "read_bytes",
    )  # fmt: skip

    def __init__(
        self, env: Clock, spec: ChipSpec, probe: Probe | None, *,
        segments: Sequence[Segment], symmetry: bool,
    ) -> None:  # fmt: skip
        dram = dram_for(spec.hbm_type, spec.pseudo_channels, spec.hbm_bytes_per_s)
        o = dram.spec.organisation
        n = spec.pseudo_channels // o.pseudo_channels
        self.probe = probe
        self.pseudo_channels = n * o.pseudo_channels
        self.access_ps = min(dram.access_ps, spec.hbm_latency_ps)
        self.read_bytes = [0] * len(segments)
        self._in = Interleave(
            channels=n,
            chunk_bytes=max(spec.interleave_bytes, o.access_bytes),
            access_bytes=o.access_bytes,
        )
        self._bytes = [0] * (len(segments) + 1)
        self._sent = [0] * (len(segments) + 1)
        shown = 1 if symmetry else n
        device = BankDevice(dram=dram, controller=gpu_controller(dram.spec), address_map=gpu_map(o))
        self.channels = [
            BankChannel(env, device, probe, name=f"hbm{i}", multiplicity=n // shown)
            for i in range(shown)
        ]
        together = spec.sm_count * _TILE_ROWS
        self._walks = [_walks(self._in, segments, i, together) for i in range(shown)]

    def serve(self, arrival_ps: int, reads: Sequence[tuple[int, int]], write_bytes: int) -> Pending:
        """Ask for `reads` (segment, bytes) and write-backs; the answer comes later.

        A channel's bursts are its share of all bytes so far, rounded up: a request that lies
        within a burst that was asked for before fetches the next one, which later ones find.
        """
        counts: list[tuple[int, int]] = []
        for segment, size in reads:
            self.read_bytes[segment] += size
            counts.append((segment, self._bursts(segment, size)))
        writes = self._bursts(-1, write_bytes)
        if counts and not any(count for _, count in counts):
            segment, _ = counts[0]
            counts[0] = (segment, 1)
            self._sent[segment] += 1
        pending = Pending(len(self.channels))
        for channel, walks in zip(self.channels, self._walks, strict=True):
            parts = [walks[segment].take(count) for segment, count in counts]
            found = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
            done = partial(pending.part_done, channel.busy)
            channel.request(arrival_ps, found, walks[-1].take(writes), done)
        return pending

    def finish(self) -> None:
        """Serve what is left when nobody asks any more."""
        for channel in self.channels:
            channel.finish()

    def busiest_bytes(self) -> int:
        """Return the bytes read: every channel gets the same share."""
        return sum(self.read_bytes)

    def dram_ps(self, time_ps: int) -> dict[str, int]:
        """Return pseudo-channel picoseconds by cause; they sum to time x pseudo-channels."""
        total: dict[str, int] = {}
        for channel in self.channels:
            for cause, ps in channel.cause_ps().items():
                total[cause] = total.get(cause, 0) + ps
        total["idle"] = time_ps * self.pseudo_channels - sum(total.values())
        return total

    def _bursts(self, segment: int, size: int) -> int:
        """Return how many more bursts a channel moves for `size` more bytes."""
        step = self._in.channels * self._in.access_bytes
        self._bytes[segment] += size
        more = max(0, ceil_div(self._bytes[segment], step) - self._sent[segment])
        self._sent[segment] += more
        return more


def _walks(
    interleave: Interleave, segments: Sequence[Segment], channel: int, together: int
) -> list[Walk | TiledWalk]:
    """Return the walks of a channel: one a segment, and a last one for writes."""
    walks: list[Walk | TiledWalk] = []
    base = 0
    for segment in segments:
        size = segment.size_bytes
        # A small matrix may have no chunk in this channel: it is read as a run.
        if segment.tiled and size >= 4 * interleave.channels * interleave.chunk_bytes:
            tiling = Tiling(together=together, short=segment.short, row_bytes=segment.row_bytes)
            walk: Walk | TiledWalk = TiledWalk(interleave, base, size, tiling, channel=channel)
        else:
            walk = Walk(interleave, base, size)
        walks.append(walk)
        base += ceil_div(max(1, size), _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    return [*walks, Walk(interleave, base, _WRITES_BYTES)]
