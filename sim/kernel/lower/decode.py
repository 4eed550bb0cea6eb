"""Decode attention with split KV, as FlashAttention, FlashInfer and TensorRT-LLM's XQA run it.

One CTA per sequence, KV head and split. The query heads of a group fill the rows of one tile, so KV
is read once per KV head (`sim.kernel.lower.decode_tiles`).

FlashAttention-2 regards the heads of a group as query rows by transposing Q and the output, which
copies both where there is more than one sequence and KV head (`seqlenq_ngroups_swapped`) and copies
the output once more where it hands it over; with a window it does not, and every query head is a
CTA. Its merge kernel reads the splits one after the other, each a round trip. FlashAttention-3 with
a scheduler launches its merge always. XQA for Hopper merges in the last CTA to finish.
"""

from sim.kernel.engine import DecodeKernel, Engine
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.decode_tiles import DecodeTile, decode_tile
from sim.kernel.lower.gemm import segment_of
from sim.kernel.lower.layouts import visible_tokens
from sim.kernel.lower.prefill import SOFTMAX_TENSOR_FLOP
from sim.kernel.lower.split_kv import choose_splits, combine, partials
from sim.kernel.operators import Attention, Traffic
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

_MERGE_ROUND_TRIPS = 4
# FlashAttention-2's merge stages and reduces the sums of all splits in shared memory first: with
# eight splits it adds 7.2 us on A100, 4.2 us on L40S, of which its launch and the reads of partial
# results explain 4.4 and 2.5.
_MERGE_IN_TURN_ROUND_TRIPS = 17
# Two transposes of a few kilobytes cost 6.2 us on A100, 3.5 us on L40S.
_COPY_SETUP_ROUND_TRIPS = 5
_INSIDE_TRIPS = 10


def lower_decode(
    op: Attention, target: Target, engine: Engine, *, split_kv: bool
) -> tuple[Kernel, ...]:
    """Return the kernels of one decode attention: helpers, the attention itself, the merge."""
    split = decode_splits(op, target, engine, split_kv=split_kv)
    main = decode_kernel(op, target, engine, split, merges=split > 1)
    return around_decode(op, main, split, target, engine)


def decode_splits(op: Attention, target: Target, engine: Engine, *, split_kv: bool) -> int:
    """Return into how many parts the context of every sequence is cut."""
    if not split_kv:
        return 1
    tile = decode_tile(op, target, engine.decode)
    tiles = op.batch * op.n_q_heads * op.q_len // tile.heads
    blocks = ceil_div(visible_tokens(op), tile.keys)
    # FlashAttention-2's heuristic reckons with two CTAs an SM whatever fits.
    slots = 1 if target.bulk_copy else 2
    if engine.decode is DecodeKernel.VECTOR:
        slots = tile.ctas_per_sm
    return min(choose_splits(tiles, blocks, target.sm_count * slots), engine.decode_splits)


def decode_kernel(
    op: Attention, target: Target, engine: Engine, split: int, *, merges: bool
) -> Kernel:
    """Return the attention itself; with `merges` it leaves partial results where a kernel merges.

    Its segments are the cache, the queries and the output, in this order.
    """
    tile = decode_tile(op, target, engine.decode)
    outside = merges and not tile.merges_inside
    out = partials(_partial_bytes(op, split)) if outside else segment_of(op.out)
    return _attention(op, target, tile, out, split)


def _partial_bytes(op: Attention, split: int) -> int:
    return op.batch * op.n_q_heads * op.q_len * (op.v_dim + 1) * 4 * split


def around_decode(
    op: Attention, main: Kernel, split: int, target: Target, engine: Engine
) -> tuple[Kernel, ...]:
    """Return the attention with the small kernels before and behind it."""
    merges = split > 1 and not decode_tile(op, target, engine.decode).merges_inside
    before = tuple(_helper(op, f"decode_helper{i}") for i in range(engine.decode_helpers))
    in_turn = engine.decode is DecodeKernel.FLASH_ATTENTION and not target.bulk_copy
    trips = split + _MERGE_IN_TURN_ROUND_TRIPS if in_turn else _MERGE_ROUND_TRIPS
    after = (combine(op, main.segments[2], split, trips),) if merges else ()
    if target.bulk_copy and engine.decode_helpers and not merges:
        # A merge that is launched whatever the scheduler decides, and finds nothing to merge.
        after = (_helper(op, "no_merge"),)
    if _swaps(op, target, engine.decode):
        before, after = (*before, *_copies(op, "q")), (*after, *_copies(op, "out"))
        after = (*after, _copy(op, "hand_out", setup_round_trips=0))
    return (*before, main, *after)


def scheduled_prefill(op: Attention, main: Kernel, engine: Engine) -> tuple[Kernel, ...]:
    """Return a Hopper prefill with the small kernels that an engine launches around it."""
    if not engine.decode_helpers:
        return (main,)
    before = (_helper(op, f"decode_helper{i}") for i in range(engine.decode_helpers))
    return (*before, main, _helper(op, "no_merge"))


def _attention(op: Attention, target: Target, tile: DecodeTile, out: Segment, split: int) -> Kernel:
    tiles = op.batch * op.n_q_heads * op.q_len // tile.heads
    share = ceil_div(visible_tokens(op), split)
    computed = ceil_div(share, tile.keys) * tile.keys
    per_key = 2 * (op.qk_dim + op.v_dim) + SOFTMAX_TENSOR_FLOP
    sharers = op.n_q_heads // op.n_kv_heads * op.q_len // tile.heads
    read_bytes = ceil_div(op.kv_read_bytes * sharers, tiles * split)
    # A block is widened whole.
    widened = computed * (op.qk_dim + op.v_dim)
    phase = Phase(
        round_trips=tile.trips.cta + (_INSIDE_TRIPS if tile.merges_inside and split > 1 else 0),
        steps=tile.block_steps * (computed // tile.keys),
        loads=(
            Load(segment=0, size_bytes=read_bytes, sharers=sharers),
            Load(segment=1, size_bytes=ceil_div(op.q.size_bytes, tiles), sharers=split),
        ),
        tensor_flop=int(tile.tensor_factor * tile.rows * per_key * computed),
        vector_flop=tile.vector_flop_per_value * widened,
        stores=(Store(segment=2, size_bytes=ceil_div(out.size_bytes, tiles * split)),),
    )
    buffer_bytes = target.shared_memory_bytes // tile.ctas_per_sm * 5 // 8
    kv = Segment(
        name=op.kv.name,
        size_bytes=op.kv_read_bytes,
        traffic=op.kv.traffic,
        # Ampere and Ada gather pages in pieces of 16 bytes a thread, Hopper in longer ones.
        tiled=not target.bulk_copy,
    )
    return Kernel(
        name=f"flash_decode_split{split}",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=tiles * split, phases=(phase,), buffer_bytes=buffer_bytes),),
        segments=(kv, segment_of(op.q), out),
        ctas_per_sm=tile.ctas_per_sm,
        flop=operator_flop(op),
        setup_round_trips=tile.trips.setup,
    )


def _swaps(op: Attention, target: Target, kernel: DecodeKernel) -> bool:
    """Return whether FlashAttention-2 regards the heads of a group as rows of a tile."""
    swapped = kernel is DecodeKernel.FLASH_ATTENTION and not target.bulk_copy
    return swapped and op.window is None and op.n_q_heads > op.n_kv_heads


def _copies(op: Attention, name: str) -> tuple[Kernel, ...]:
    """Return the transpose of Q or of the output, a copy unless one of its axes has length 1."""
    return (_copy(op, f"transpose_{name}"),) if op.n_kv_heads > 1 and op.batch > 1 else ()


def _copy(op: Attention, name: str, setup_round_trips: int = _COPY_SETUP_ROUND_TRIPS) -> Kernel:
    """Return a kernel that reads and writes as many bytes as Q has."""
    count = max(1, op.q.size_bytes // (8 * 1024))
    size = ceil_div(op.q.size_bytes, count)
    source = segment_of(op.q)
    target = Segment(name=name, size_bytes=op.q.size_bytes, traffic=Traffic.ACTIVATIONS)
    phase = Phase(
        round_trips=1,
        loads=(Load(segment=0, size_bytes=size),),
        stores=(Store(segment=1, size_bytes=size),),
    )
    return _small(op, name, count, phase, (source, target), setup_round_trips)


def _helper(op: Attention, name: str) -> Kernel:
    """Return a kernel of one CTA that reads the sequence lengths: a scheduler of splits."""
    lengths = Segment(name="lengths", size_bytes=4 * op.batch, traffic=Traffic.ACTIVATIONS)
    phase = Phase(
        loads=(Load(segment=0, size_bytes=4 * op.batch),),
        stores=(Store(segment=0, size_bytes=4 * op.batch, in_place=True),),
    )
    return _small(op, name, 1, phase, (lengths,))


def _small(
    op: Attention,
    name: str,
    count: int,
    phase: Phase,
    segments: tuple[Segment, ...],
    setup_round_trips: int = 0,
) -> Kernel:
    return Kernel(
        name=name,
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=16 * 1024),),
        segments=segments,
        ctas_per_sm=4,
        flop=0,
        setup_round_trips=setup_round_trips,
    )
