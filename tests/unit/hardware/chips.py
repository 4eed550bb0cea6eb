"""A chip in round numbers, and short ways to write kernels, for timelines worked out by hand.

One SM spends 1 ps on a FLOP and 1000 ps on an SFU operation; its port moves a byte a ps. HBM moves
a byte in 1 ps (2 ps in tiles, 1.5 ps written), L2 four bytes. A hit takes 200 ns, a miss 500 ns, a
kernel starts after 1 us, a step of a main loop takes 50 ns.
"""

from collections.abc import Iterable
from fractions import Fraction

from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.operators import Traffic

START_PS = 1_000_000
HIT_PS = 200_000
MISS_PS = 500_000
STEP_PS = 50_000


def toy_chip(**changes: object) -> ChipSpec:
    """Return the chip in round numbers, with some of them changed."""
    facts: dict[str, object] = {
        "name": "toy",
        "title": "Toy",
        "generation": "ampere",
        "aliases": (),
        "notes": (),
        "sm_count": 4,
        "clock_hz": 10**9,
        "shared_memory_bytes": 64 * 1024,
        "max_ctas": 4,
        "l2_port_bytes_per_clock": 1000,
        "vector_flop_per_s": 4 * 10**12,
        "sfu_ops_per_clock": 1,
        "step_latency_ps": STEP_PS,
        "tensor_flop_per_s": {"bf16": 8 * 10**12},
        "sustained_fraction": Fraction(1, 2),
        "l2_bytes": 100_000,
        "l2_bytes_per_s": 4 * 10**12,
        "l2_latency_ps": HIT_PS,
        "hbm_type": "HBM",
        "hbm_bytes": 10**9,
        "hbm_bytes_per_s": 10**12,
        "pseudo_channels": 4,
        "interleave_bytes": 256,
        "read_efficiency": Fraction(1),
        "copy_efficiency": Fraction(4, 5),
        "tile_efficiency": Fraction(1, 2),
        "hbm_latency_ps": MISS_PS,
        "stream_gap_ps": 3_000_000,
        "cuda_graph_gap_ps": 2_000_000,
        "graph_to_graph_gap_ps": 2_500_000,
        "kernel_start_ps": START_PS,
        "graph_replay_ps": 0,
        "provenance": {},
    }
    return ChipSpec(**{**facts, **changes})  # type: ignore[arg-type]


def segment(
    name: str, size_bytes: int, traffic: Traffic = Traffic.WEIGHTS, *, tiled: bool = False
) -> Segment:
    """Return a segment: untiled weights unless told otherwise."""
    return Segment(name=name, size_bytes=size_bytes, traffic=traffic, tiled=tiled)


def load(size_bytes: int, index: int = 0, *, sharers: int = 1) -> Load:
    """Return a load of the first segment unless told otherwise."""
    return Load(segment=index, size_bytes=size_bytes, sharers=sharers)


def store(size_bytes: int, index: int = 0) -> Store:
    """Return a store to the first segment unless told otherwise."""
    return Store(segment=index, size_bytes=size_bytes)


def cta(*phases: Phase, count: int = 1, buffer_bytes: int = 1_000_000) -> CtaKind:
    """Return a kind of CTA whose buffer is never full unless told otherwise."""
    return CtaKind(count=count, phases=phases, buffer_bytes=buffer_bytes)


def kernel(
    kinds: Iterable[CtaKind],
    segments: Iterable[Segment],
    *,
    ctas_per_sm: int = 1,
    setup_round_trips: int = 0,
) -> Kernel:
    """Return a kernel of these CTAs over these segments."""
    return Kernel(
        name="test",
        operator="test",
        part="test",
        kinds=tuple(kinds),
        segments=tuple(segments),
        ctas_per_sm=ctas_per_sm,
        flop=0,
        setup_round_trips=setup_round_trips,
    )
