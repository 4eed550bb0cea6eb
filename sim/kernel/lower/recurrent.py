"""Recurrent kernels of decode: one step on a state (docs/decisions/0016).

The Triton kernels in use (flash-linear-attention's
`fused_recurrent_gated_delta_rule`, mamba_ssm's `selective_state_update`) give one warp a tile of
one head's state: it loads the tile in one burst, multiplies, reduces over the key and stores the
tile in place. With only one warp a tile's arithmetic is a chain. A short convolution has the same
form with a small tile: a few values per channel, converted one by one.
"""

from collections.abc import Sequence

from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.gemm import segment_of
from sim.kernel.operators import StateUpdate, Tensor, Traffic
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

# One warp's chain over 16 KiB of state (128 keys x 32 values in float32): decay, two reductions
# over the keys, the correction; four such tiles run on an SM at a time. One pair of numbers for
# A100, H100 and L40S, from L2-resident steps (aiconfigurator-core 0.12.0, 2026-11-23): an SM takes
# 1.2, .75 and .9 us a tile, with or without other tiles to wait for.
_STEPS_PER_TILE = 31
_STEPS_PER_CTA = 5
_TILE_BYTES = 16 * 1024
_TILES_PER_SM = 4
# Small states (short convolutions): 256 channels a CTA, one burst of loads, four taps and SiLU.
_SMALL_CTAS_PER_SM = 4
_SMALL_STEPS = 5
_SMALL_TILE_BYTES = 2 * 1024
_MOST_STATE_CTAS_PER_SM = 256
_COPIED_BYTES = 8 * 1024
# Instruction and constant caches start cold: floors of the three chips (decision 0016).
_SETUP_ROUND_TRIPS = 9


def _segments(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> tuple[tuple[Segment, ...], dict[str, int]]:
    """Return the distinct segments of a kernel's tensors and the index of each name."""
    distinct = {tensor.name: segment_of(tensor) for tensor in (*inputs, *outputs)}
    return tuple(distinct.values()), {name: i for i, name in enumerate(distinct)}


def moves(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], count: int
) -> tuple[tuple[Segment, ...], tuple[Load, ...], tuple[Store, ...]]:
    """Return segments, and loads and stores of one CTA of `count`; each tensor moves once."""
    segments, index = _segments(inputs, outputs)
    read = {tensor.name for tensor in inputs}
    loads = tuple(
        Load(segment=index[t.name], size_bytes=ceil_div(t.size_bytes, count)) for t in inputs
    )
    stores = tuple(
        Store(
            segment=index[t.name],
            size_bytes=ceil_div(t.size_bytes, count),
            in_place=t.name in read,
        )
        for t in outputs
    )
    return segments, loads, stores


def lower_state_update(op: StateUpdate, target: Target, *, copied: bool) -> tuple[Kernel, ...]:
    """Return the recurrent decode kernel, between copies of the state if it is `copied`.

    llama.cpp gathers the states of a batch, runs its scan on them and copies the new ones back
    (`build_rs` and `ggml_cpy` in its graphs).
    """
    main = _update(op, target)
    if not copied:
        return (main,)
    gathered = Tensor(
        name=f"{op.state.name}.gathered", size_bytes=op.state.size_bytes, traffic=Traffic.STATE
    )
    made = Tensor(
        name=f"{op.state.name}.made", size_bytes=op.state.size_bytes, traffic=Traffic.STATE
    )
    gather = _copy(op, target, "gather_state", (op.state, gathered))
    return (gather, main, _copy(op, target, "store_state", (made, op.state)))


def _copy(op: StateUpdate, target: Target, name: str, ends: tuple[Tensor, Tensor]) -> Kernel:
    most = target.sm_count * _MOST_STATE_CTAS_PER_SM
    count = min(ceil_div(op.state.size_bytes, _COPIED_BYTES), most)
    segments, loads, stores = moves(ends[:1], ends[1:], count)
    phase = Phase(round_trips=1, loads=loads, stores=stores)
    return Kernel(
        name=name,
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=_COPIED_BYTES),),
        segments=segments,
        ctas_per_sm=_SMALL_CTAS_PER_SM,
        flop=0,
    )


def _update(op: StateUpdate, target: Target) -> Kernel:
    """Return the update: tiles of state in, updated and out again."""
    slices = op.batch * op.n_heads
    slice_bytes = ceil_div(op.state.size_bytes, slices)
    small = slice_bytes <= _SMALL_TILE_BYTES
    count = slices * ceil_div(slice_bytes, op.tile_bytes)
    count = min(count, target.sm_count * _MOST_STATE_CTAS_PER_SM)
    share = ceil_div(op.state.size_bytes, count)
    segments, loads, stores = moves(tuple(op.reads()), tuple(op.writes()), count)
    phase = Phase(
        round_trips=0 if small else 1,
        steps=_SMALL_STEPS if small else _steps(share),
        loads=loads,
        stores=stores,
        vector_flop=ceil_div(op.vector_flop, count),
        sfu_ops=ceil_div(op.sfu_ops, count),
    )
    return Kernel(
        name="state_update",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=op.tile_bytes * 5 // 4),),
        segments=segments,
        ctas_per_sm=_SMALL_CTAS_PER_SM if small else _resident(op, target),
        flop=operator_flop(op),
        setup_round_trips=_SETUP_ROUND_TRIPS,
    )


def _steps(share_bytes: int) -> int:
    return _STEPS_PER_CTA + ceil_div(_STEPS_PER_TILE * share_bytes, _TILE_BYTES)


def _resident(op: StateUpdate, target: Target) -> int:
    return max(1, min(target.max_ctas, _TILES_PER_SM * _TILE_BYTES // op.tile_bytes))
