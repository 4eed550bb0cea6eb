"""Recurrent kernels of decode: one step on a state (docs/decisions/0016).

The Triton kernels in use (flash-linear-attention's
`fused_recurrent_gated_delta_rule`, mamba_ssm's `selective_state_update`) give one warp, or a few, a
tile of one head's state: they load the tile in one burst, multiply, reduce over the key and store
the tile. A tile's arithmetic is a chain; on their way in and out, tiles take turns. A short
convolution has the same form with a small tile: a few values per channel, converted one by one.
"""

from collections.abc import Sequence

from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.gemm import segment_of
from sim.kernel.operators import StateUpdate, Tensor, Traffic
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

# One warp's chains for 16 KiB of state (128 keys x 32 values in float32): norms of Q and K, gates,
# two reductions over the keys, the correction; then tiles take turns at the load/store unit. Their
# values fill 128 of a thread's 255 registers, so that eight such tiles fit an SM. One set of
# numbers for A100, H100 and L40S, from L2-resident steps (aiconfigurator-core 0.12.0, 2026-11-27):
# each tile that an SM has takes .77 us on H100, .95 on L40S, 1.1 on A100, however many its warps.
_STEPS_PER_TILE = 25
_STEPS_PER_CTA = 2
_TILE_BYTES = 16 * 1024
_TILES_PER_SM = 8
_PORT_STEPS_PER_TILE = 11
# Small states (short convolutions): 256 channels a CTA, one burst of loads, four taps and SiLU;
# 2.0 to 2.6 chains a CTA on the three chips, for values that lie 6 bytes apart.
_SMALL_CTAS_PER_SM = 8
_SMALL_STEPS = 2
_SMALL_PORT_STEPS = 2
_SMALL_TILE_BYTES = 2 * 1024
_MANY_WAVES = 6
# Tiles beyond so many waves are simulated several to a CTA.
_MOST_WAVES = 48
_MOST_STATE_CTAS_PER_SM = 256
_COPIED_BYTES = 8 * 1024
# Instruction and constant caches start cold.
_SETUP_ROUND_TRIPS = 4


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
    tiles = slices * ceil_div(slice_bytes, op.tile_bytes)
    resident = _SMALL_CTAS_PER_SM if small else _resident(op, target)
    places = target.sm_count * resident
    in_turn = ceil_div(tiles, places * _MOST_WAVES)
    count = ceil_div(tiles, in_turn)
    segments, loads, stores = moves(tuple(op.reads()), tuple(op.writes()), count)
    steps, held = (_SMALL_STEPS, _SMALL_PORT_STEPS) if small else _steps(op)
    held = held if op.turn_steps is None else op.turn_steps
    # What a CTA does before its turn at the load/store unit delays it, but in a grid of many waves
    # its neighbours are busy meanwhile.
    few = not small and count < places * _MANY_WAVES
    burst = Phase(
        steps=in_turn * (held if few else steps + held),
        port_steps=in_turn * held,
        loads=loads,
        stores=stores,
        vector_flop=ceil_div(op.vector_flop, count),
        sfu_ops=ceil_div(op.sfu_ops, count),
    )
    phases = (Phase(round_trips=1, steps=steps), burst) if few else (burst,)
    buffer_bytes = in_turn * op.tile_bytes * 5 // 4
    return Kernel(
        name="state_update",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=phases, buffer_bytes=buffer_bytes),),
        segments=segments,
        ctas_per_sm=resident,
        flop=operator_flop(op),
        setup_round_trips=_SETUP_ROUND_TRIPS,
    )


def _steps(op: StateUpdate) -> tuple[int, int]:
    """Return a tile's chains before its turn at the load/store unit, and those of its turn."""
    tile_bytes = _tile_bytes(op)
    update = ceil_div(_STEPS_PER_TILE * tile_bytes, _TILE_BYTES * op.warps)
    held = max(1, _PORT_STEPS_PER_TILE * tile_bytes // _TILE_BYTES)
    return _STEPS_PER_CTA + update + op.extra_steps, held


def _tile_bytes(op: StateUpdate) -> int:
    """Return the bytes that a tile works on: as float32 in registers, whatever it is in memory."""
    written = op.new_state or op.state
    return op.tile_bytes * max(1, written.size_bytes // max(1, op.state.size_bytes))


def _resident(op: StateUpdate, target: Target) -> int:
    return max(1, min(target.max_ctas, _TILES_PER_SM * _TILE_BYTES // _tile_bytes(op)))
