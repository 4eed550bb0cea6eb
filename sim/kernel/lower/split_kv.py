"""Split KV: how many splits a decode attention takes, and the kernel that merges them.

The number of splits follows FlashAttention's `num_splits_heuristic`: none when the grid fills 80 %
of the SMs, else the fewest splits within 85 % of the best wave efficiency. Splits leave float32
partial results.
"""

from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.gemm import segment_of
from sim.kernel.operators import Attention, MlaAttention, Traffic
from sim.units import ceil_div

_MAX_SPLITS = 128


def choose_splits(tiles: int, blocks: int, places: int) -> int:
    """Return the KV splits for `tiles` CTAs of `blocks` KV blocks on `places` CTA slots.

    >>> choose_splits(8, 256, 132)
    14
    """
    if tiles >= 0.8 * places:
        return 1
    best, efficiency = 0.0, []
    for split in range(1, min(_MAX_SPLITS, places, blocks) + 1):
        waves = tiles * split / places
        eligible = split == 1 or ceil_div(blocks, split) != ceil_div(blocks, split - 1)
        efficiency.append(waves / -(-waves // 1) if eligible else 0.0)
        best = max(best, efficiency[-1])
    return next(i for i, e in enumerate(efficiency, 1) if e >= 0.85 * best)


def partials(size_bytes: int) -> Segment:
    """Return the segment of the partial results of all splits."""
    return Segment(name="attention_partials", size_bytes=size_bytes, traffic=Traffic.ACTIVATIONS)


def combine(
    op: Attention | MlaAttention, partial: Segment, split: int, round_trips: int = 2
) -> Kernel:
    """Return the kernel that merges the partial results of `split` splits."""
    heads = op.n_heads if isinstance(op, MlaAttention) else op.n_q_heads
    count = ceil_div(op.batch * heads, 4)
    phase = Phase(
        round_trips=round_trips,
        loads=(Load(segment=0, size_bytes=ceil_div(partial.size_bytes, count)),),
        vector_flop=ceil_div(partial.size_bytes, 2 * count),
        sfu_ops=4 * split,
        stores=(Store(segment=1, size_bytes=ceil_div(op.out.size_bytes, count)),),
    )
    return Kernel(
        name=f"combine_split{split}",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=32 * 1024),),
        segments=(partial, segment_of(op.out)),
        ctas_per_sm=4,
        flop=0,
    )
