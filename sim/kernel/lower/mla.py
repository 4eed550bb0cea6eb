"""Decode attention over a latent cache (MLA): one narrow K and V that all heads share."""

from collections.abc import Iterator

from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Store
from sim.kernel.lower.attention import (
    _CTA_ROUND_TRIPS,
    _SETUP_ROUND_TRIPS,
    SOFTMAX_FLOP,
    _combine,
    _partials,
    _rows,
    choose_splits,
)
from sim.kernel.lower.gemm import segment_of
from sim.kernel.operators import MlaAttention
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div


def lower_mla(op: MlaAttention, target: Target) -> Iterator[tuple[Kernel, ...]]:
    """Yield the MLA kernels: 64 heads a CTA over splits of the shared latent cache (FlashMLA)."""
    queries = op.n_heads * op.q_len
    head_blocks = ceil_div(queries, 64)
    tiles = op.batch * head_blocks
    split = choose_splits(tiles, ceil_div(op.context, 64), target.sm_count)
    share = ceil_div(op.context, split)
    rows = _rows(min(queries, 64), target)
    widths = 2 * op.kv_lora + op.rope_dim
    partial = op.batch * queries * (op.kv_lora + 1) * 4 * split
    out = segment_of(op.out) if split == 1 else _partials("attention_partials", partial)
    phase = Phase(
        round_trips=_CTA_ROUND_TRIPS,
        steps=2 * ceil_div(share, 64),
        loads=(
            Load(
                segment=0,
                size_bytes=ceil_div(op.kv_read_bytes, op.batch * split),
                sharers=head_blocks,
            ),
            Load(segment=1, size_bytes=ceil_div(op.q.size_bytes, tiles), sharers=split),
        ),
        tensor_flop=2 * rows * widths * share,
        vector_flop=SOFTMAX_FLOP * rows * share,
        sfu_ops=rows * share,
        stores=(Store(segment=2, size_bytes=ceil_div(out.size_bytes, tiles * split)),),
        overlapped=target.bulk_copy,
    )
    main = Kernel(
        name=f"mla_split{split}",
        operator=op.name,
        part=op.part,
        kinds=(
            CtaKind(
                count=tiles * split,
                phases=(phase,),
                buffer_bytes=target.shared_memory_bytes * 5 // 8,
            ),
        ),
        segments=(segment_of(op.kv, op.kv_read_bytes), segment_of(op.q), out),
        ctas_per_sm=1,
        flop=operator_flop(op),
        setup_round_trips=_SETUP_ROUND_TRIPS,
    )
    yield (main,) if split == 1 else (main, _combine(op, out, split))
