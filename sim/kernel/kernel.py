"""The narrow waist: a kernel is a grid of CTAs with bytes and arithmetic, and no time.

Model code makes kernels, hardware code runs them; neither sees the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.errors import InvariantError
from sim.kernel.layout import Layout
from sim.kernel.operators import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A tensor, or a part of one, whose residency in L2 is tracked as a whole.

    `streamed` segments are marked evict-first: weights, experts, KV and state pass through L2 once
    a step and must not displace the activations. `tiled` segments are matrices read in tiles:
    short pieces of many rows, which DRAM serves less efficiently than long runs; `short` tells
    that those pieces are below 128 bytes, a cache line, which costs more still. `layout` says which
    runs of its tensor are read (None: one run of `size_bytes`). A row of a tiled matrix is
    `row_bytes` long (0: not told).
    """

    name: str
    size_bytes: int
    traffic: Traffic
    tiled: bool = False
    short: bool = False
    layout: Layout | None = None
    row_bytes: int = 0

    @property
    def streamed(self) -> bool:
        """Return whether L2 evicts this segment before others."""
        return self.traffic is not Traffic.ACTIVATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Bytes that one CTA reads from a segment (an index into `Kernel.segments`).

    `sharers` CTAs that run at the same time read the same bytes: the first to ask fetches them,
    the others hit. Bytes that only one CTA reads have one sharer.
    """

    segment: int
    size_bytes: int
    sharers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Bytes that one CTA writes to a segment; they stay in L2, dirty, until evicted.

    `in_place` stores overwrite what the CTA has read (recurrent state), others make new bytes.
    """

    segment: int
    size_bytes: int
    in_place: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of a CTA: dependent round trips, then a pipelined loop of loads and compute.

    `tensor_flop` are the FLOP issued to the tensor cores (padding included) in the format
    `compute`, `vector_flop` and `sfu_ops` those of the other pipes; for `issue_clocks` of its SM
    the CTA's instructions keep the vector pipe whatever they compute. The pipes take turns
    unless `overlapped` (warp-specialised kernels), where the longest hides the others. The loop
    has `steps` dependent iterations, each a barrier and a chain of dependent instructions that
    takes its latency however little work it holds; in a loop that runs `in_order` the latency adds
    to the work of the CTA itself. For the latency of `port_steps` such chains the CTA holds the
    SM's load/store unit, which its neighbours wait for. Stores leave when the loop is done.
    """

    loads: tuple[Load, ...] = ()
    stores: tuple[Store, ...] = ()
    round_trips: int = 0
    steps: int = 0
    port_steps: int = 0
    compute: str = "bf16"
    tensor_flop: int = 0
    vector_flop: int = 0
    sfu_ops: int = 0
    issue_clocks: int = 0
    overlapped: bool = False
    in_order: bool = False

    @property
    def load_bytes(self) -> int:
        """Return the bytes that this phase reads."""
        return sum(load.size_bytes for load in self.loads)


@dataclass(frozen=True, slots=True, kw_only=True)
class CtaKind:
    """`count` identical CTAs, neighbours in the grid.

    `buffer_bytes` is what a CTA may have in flight or waiting for compute: its pipeline stages.
    """

    count: int
    phases: tuple[Phase, ...]
    buffer_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A grid, in launch order, of CTA kinds over segments.

    `flop` is the useful arithmetic (2mnk for a GEMM): independent of tiling. `ctas_per_sm` is
    the occupancy. `setup_round_trips` are the dependent L2 round trips of every SM's first CTAs:
    the instruction and constant caches start cold. Raises InvariantError for an empty grid, sizes
    below zero, a load of an unknown segment or two segments of one name.
    """

    name: str
    operator: str
    part: str
    kinds: tuple[CtaKind, ...]
    segments: tuple[Segment, ...]
    ctas_per_sm: int
    flop: int
    setup_round_trips: int = 0

    def __post_init__(self) -> None:
        """Check the grid."""
        if self.n_ctas <= 0 or self.ctas_per_sm <= 0:
            raise InvariantError(f"kernel {self.name!r} has an empty grid or no occupancy")
        if len({segment.name for segment in self.segments}) < len(self.segments):
            raise InvariantError(f"kernel {self.name!r} has two segments of one name")
        for kind, phase in self.phases():
            moves: tuple[Load | Store, ...] = (*phase.loads, *phase.stores)
            if any(not 0 <= m.segment < len(self.segments) or m.size_bytes < 0 for m in moves):
                raise InvariantError(f"kernel {self.name!r} moves bytes of no segment: {phase}")
            if kind.count <= 0 or kind.buffer_bytes <= 0:
                raise InvariantError(f"kernel {self.name!r} has an empty kind: {kind}")

    @property
    def n_ctas(self) -> int:
        """Return the size of the grid."""
        return sum(kind.count for kind in self.kinds)

    def phases(self) -> Iterator[tuple[CtaKind, Phase]]:
        """Yield every phase with its kind."""
        for kind in self.kinds:
            for phase in kind.phases:
                yield kind, phase

    def swept_bytes(self) -> tuple[int, ...]:
        """Return the distinct bytes of every segment that its CTAs read or write."""
        moved = [0] * len(self.segments)
        for kind, phase in self.phases():
            for load in phase.loads:
                moved[load.segment] += kind.count * load.size_bytes // load.sharers
            for store in phase.stores:
                moved[store.segment] += 0 if store.in_place else kind.count * store.size_bytes
        return tuple(min(m, s.size_bytes) for m, s in zip(moved, self.segments, strict=True))

    @property
    def requested_bytes(self) -> int:
        """Return the bytes that all CTAs read, from L2 or beyond."""
        return sum(kind.count * phase.load_bytes for kind, phase in self.phases())

    @property
    def stored_bytes(self) -> int:
        """Return the bytes that all CTAs write."""
        return sum(k.count * s.size_bytes for k, phase in self.phases() for s in phase.stores)

    @property
    def issued_tensor_flop(self) -> int:
        """Return the tensor-core FLOP with padding."""
        return sum(kind.count * phase.tensor_flop for kind, phase in self.phases())
