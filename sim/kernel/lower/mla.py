"""Decode attention over a latent cache (MLA): one narrow K and V that all heads share.

Three kernels that engines run (docs/decisions/0015):

- FlashMLA (Hopper): 64 heads a CTA, one CTA an SM. A scheduler gives every SM the same number of
  blocks of 64 tokens; where a sequence is cut, float32 partials are merged by a second kernel.
- Tiled (TensorRT-LLM before Hopper): the context kernel `fmha_v2` "granular tiling" with the heads
  as 64 query rows. Each CTA owns 256 of the 512 output columns and works out all scores for
  itself. Its loop steps through 64 of 576 columns at a time with two buffers and two barriers a
  step, and fetches Q again for each block of keys. It does not split the context.
- Packed (llama.cpp on NVIDIA): 16 or 4 heads a CTA, as many splits as fill the SMs once.
- Vector (llama.cpp on Apple's GPUs): a group of threads per head and part of the context.
- Grouped (the Triton kernel of SGLang and vLLM): 16 heads a CTA, a fixed number of splits.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sim.kernel.engine import LatentVariant
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.gemm import segment_of
from sim.kernel.operators import MlaAttention, Traffic
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from sim.units import ceil_div

_BLOCK_TOKENS = 64
_SOFTMAX_FLOP = 6
_CTA_ROUND_TRIPS = 9
_SETUP_ROUND_TRIPS = 4
_TILED_SETUP_ROUND_TRIPS = 12

# FlashMLA: heads of a CTA; its scheduler counts a sequence as five blocks more than it has.
_FLASH_HEADS = 64
# Round trips a sequence costs a CTA: metadata, page table, Q, then the output through shared
# memory (H100, 1,024 sequences of 16 tokens: 7.2 us a wave, aiconfigurator-core 0.12.0).
_FLASH_ROUND_TRIPS = 30

# Values of V that FlashMLA turns around for fp8, per value: with it H100 reaches the measured
# 760 TFLOPS at 128 heads, against 650 in bf16 (aiconfigurator-core 0.12.0, 2026-11-23).
_TRANSPOSE_FLOP = 9

# Tiled kernel: query rows and output columns of a CTA, columns of a step.
_TILED_ROWS = 64
_TILED_OUT = 256
_TILED_COLUMNS = 64
_TILED_CTAS_PER_SM = 2
# Chains of four matrix instructions with their loads that a warp issues in one of the 9 + 4 stages
# of a block: a warp has eight column tiles, and both barriers expose the loads. 7.5 us a block on
# A100 and 5.0 on L40S are 58 and 65 chains (aiconfigurator-core 0.12.0, 2026-11-23).
_TILED_STEPS = 60
# Shared memory is read by every warp for itself: the pipe is busy 5.1 us of an A100 block, of
# which the matrix instructions take 2.7. As vector work: 64 rows x 832 columns x 64 keys.
_TILED_VECTOR_FLOP = 9

_TILED_REQUESTS = 64

# Grouped kernel.
_GROUPED_HEADS = 16
_GROUPED_TOKENS = 32
# The grid always has 16 splits; those without tokens cost a CTA all the same: 102 SM-us a sequence
# and 16 heads at context 16. A block is 1.5 us where few SMs run and 2.9 us where all do (L40S,
# aiconfigurator-core 0.12.0, sglang-0.5.14, 2026-11-23): 19 to 38 chains.
_GROUPED_SPLITS = 16
_GROUPED_LONGEST_SPLIT = 1024
_GROUPED_MOST_SPLITS = 64
_GROUPED_ROUND_TRIPS = 45
_GROUPED_STEPS = 28

# Packed kernel: heads of a tile, tokens of a block, dependent chains of a block: loads of its 576
# columns in parts, scores, softmax and products, each between barriers. 32,768 tokens add 10.1 ms
# to a step of GLM-4.7-Flash on DGX Spark, 14,336 tokens 3.2 ms on RTX 3090: 1.9 and 2.4 us a block.
_PACKED_HEADS = 16
_PACKED_FEW_HEADS = 4
_PACKED_TOKENS = 32
_PACKED_STEPS = 20

# Vector kernel (`kernel_flash_attn_ext_vec` of llama.cpp): tokens of a step, groups of threads an
# SM, and what a 16-bit value takes to be widened, multiplied and added.
_VECTOR_TOKENS = 32
_VECTOR_CTAS_PER_SM = 8
_VECTOR_FLOP = 4


def lower_mla(
    op: MlaAttention, target: Target, variant: LatentVariant = LatentVariant.FLASH_MLA
) -> Iterator[tuple[Kernel, ...]]:
    """Yield the MLA kernels of an engine's variant."""
    match variant:
        case LatentVariant.TILED:
            yield (_tiled(op, target),)
        case LatentVariant.PACKED:
            yield _split(op, target, _packed_grid(op, target))
        case LatentVariant.VECTOR:
            yield _vector(op, target)
        case LatentVariant.GROUPED:
            yield _split(op, target, _grouped_grid(op))
        case _:
            yield _split(op, target, _flash_grid(op, target))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """How a split kernel covers the work: CTAs of `heads` heads and `tokens` tokens.

    Each of `count` CTAs has `sequences` pieces in turn; `split` CTAs work on a sequence.
    """

    name: str
    count: int
    sequences: int
    tokens: int
    split: int
    head_blocks: int
    rows: int
    steps: int
    round_trips: int
    fp8: bool


def _flash_grid(op: MlaAttention, target: Target) -> _Grid:
    """Every SM gets an equal part of all blocks: a long sequence is cut, short ones are joined."""
    queries = op.n_heads * op.q_len
    head_blocks = ceil_div(queries, _FLASH_HEADS)
    parts = max(1, target.sm_count // head_blocks)
    blocks = ceil_div(op.context, _BLOCK_TOKENS)
    if op.batch >= parts:
        sequences, split = ceil_div(op.batch, parts), 1
        count = parts if blocks > 1 else ceil_div(op.batch, sequences)
    else:
        sequences = 1
        split = max(1, min(parts // op.batch, ceil_div(blocks, 2)))
        count = op.batch * split
    share = ceil_div(op.batch * op.context, count * sequences)
    rows = _FLASH_HEADS if target.bulk_copy else ceil_div(min(queries, _FLASH_HEADS), 16) * 16
    return _Grid(
        name="mla_flash",
        count=count * head_blocks,
        sequences=sequences,
        tokens=share,
        split=split,
        head_blocks=head_blocks,
        rows=rows,
        steps=2 * ceil_div(share, _BLOCK_TOKENS),
        round_trips=_FLASH_ROUND_TRIPS,
        fp8=target.bulk_copy,
    )


def _grouped_grid(op: MlaAttention) -> _Grid:
    head_blocks = ceil_div(op.n_heads * op.q_len, _GROUPED_HEADS)
    wanted = ceil_div(op.context, _GROUPED_LONGEST_SPLIT)
    split = min(_GROUPED_MOST_SPLITS, max(_GROUPED_SPLITS, wanted))
    share = ceil_div(op.context, split)
    return _Grid(
        name="mla_grouped",
        count=op.batch * head_blocks * split,
        sequences=1,
        tokens=share,
        split=split,
        head_blocks=head_blocks,
        rows=_GROUPED_HEADS,
        steps=_GROUPED_STEPS * ceil_div(share, _GROUPED_TOKENS),
        round_trips=_GROUPED_ROUND_TRIPS,
        fp8=False,
    )


def _packed_grid(op: MlaAttention, target: Target) -> _Grid:
    """Return `flash_attn_ext_f16` of llama.cpp: each tile of heads walks the context for itself."""
    heads = _PACKED_HEADS if op.n_heads % _PACKED_HEADS == 0 else _PACKED_FEW_HEADS
    head_blocks = ceil_div(op.n_heads * op.q_len, heads)
    blocks = ceil_div(op.context, _PACKED_TOKENS)
    split = max(1, min(target.sm_count // (op.batch * head_blocks), blocks))
    share = ceil_div(op.context, split)
    return _Grid(
        name="mla_packed",
        count=op.batch * head_blocks * split,
        sequences=1,
        tokens=share,
        split=split,
        head_blocks=head_blocks,
        rows=ceil_div(heads, 8) * 8,
        steps=_PACKED_STEPS * ceil_div(share, _PACKED_TOKENS),
        round_trips=_CTA_ROUND_TRIPS,
        fp8=False,
    )


def _split(op: MlaAttention, target: Target, grid: _Grid) -> tuple[Kernel, ...]:
    """Return a kernel over (sequence, head block, split) and the merge of its partial results."""
    queries = op.batch * op.n_heads * op.q_len
    out = segment_of(op.out)
    if grid.split > 1:
        out = _partials(queries * (op.kv_lora + 1) * 4 * grid.split)
    phase = _split_phase(op, target, grid, out)
    kind = CtaKind(
        count=grid.count,
        phases=(phase,) * grid.sequences,
        buffer_bytes=target.shared_memory_bytes * 5 // 8,
    )
    main = Kernel(
        name=f"{grid.name}_split{grid.split}",
        operator=op.name,
        part=op.part,
        kinds=(kind,),
        segments=(segment_of(op.kv, op.kv_read_bytes), segment_of(op.q), out),
        ctas_per_sm=1,
        flop=operator_flop(op),
        setup_round_trips=_SETUP_ROUND_TRIPS,
    )
    return (main,) if grid.split == 1 else (main, _combine(op, out, grid.split))


def _split_phase(op: MlaAttention, target: Target, grid: _Grid, out: Segment) -> Phase:
    """Return what a CTA of a split kernel does for one sequence."""
    pieces = grid.count * grid.sequences // grid.head_blocks
    return Phase(
        round_trips=grid.round_trips,
        steps=grid.steps,
        loads=(
            Load(
                segment=0,
                size_bytes=ceil_div(op.kv_read_bytes, pieces),
                sharers=grid.head_blocks,
            ),
            Load(
                segment=1,
                size_bytes=ceil_div(op.q.size_bytes, op.batch * grid.head_blocks),
                sharers=grid.split,
            ),
        ),
        compute=_compute(op, target) if grid.fp8 else "bf16",
        tensor_flop=2 * grid.rows * (2 * op.kv_lora + op.rope_dim) * grid.tokens,
        vector_flop=(_SOFTMAX_FLOP * grid.rows + _transpose_flop(op, grid)) * grid.tokens,
        sfu_ops=grid.rows * grid.tokens,
        stores=(
            Store(
                segment=2,
                size_bytes=ceil_div(out.size_bytes, pieces * grid.head_blocks),
            ),
        ),
    )


def _vector(op: MlaAttention, target: Target) -> tuple[Kernel, ...]:
    """Return a kernel over (sequence, head, split): all heads read the same latents, from L2.

    Keys are the latents with their rotary part, values the latents: read one after the other.
    """
    queries = op.batch * op.n_heads * op.q_len
    places = target.sm_count * _VECTOR_CTAS_PER_SM
    split = max(1, min(places // queries, ceil_div(op.context, _VECTOR_TOKENS)))
    out = _partials(queries * (op.kv_lora + 1) * 4 * split) if split > 1 else segment_of(op.out)
    width = op.kv_lora + op.rope_dim
    keys = ceil_div(op.kv_read_bytes, op.batch * split)
    values = keys * op.kv_lora // width
    phase = Phase(
        round_trips=_CTA_ROUND_TRIPS,
        loads=(
            Load(segment=0, size_bytes=keys + values, sharers=2 * op.n_heads * op.q_len),
            Load(segment=1, size_bytes=ceil_div(op.q.size_bytes, queries), sharers=split),
        ),
        vector_flop=_VECTOR_FLOP * (width + op.kv_lora) * ceil_div(op.context, split),
        sfu_ops=ceil_div(op.context, split),
        stores=(Store(segment=2, size_bytes=ceil_div(out.size_bytes, queries * split)),),
    )
    kind = CtaKind(
        count=queries * split,
        phases=(phase,),
        buffer_bytes=target.shared_memory_bytes // _VECTOR_CTAS_PER_SM,
    )
    main = Kernel(
        name=f"mla_vector_split{split}",
        operator=op.name,
        part=op.part,
        kinds=(kind,),
        segments=(segment_of(op.kv, op.kv_read_bytes), segment_of(op.q), out),
        ctas_per_sm=_VECTOR_CTAS_PER_SM,
        flop=operator_flop(op),
    )
    return (main,) if split == 1 else (main, _combine(op, out, split))


def _compute(op: MlaAttention, target: Target) -> str:
    """Return the format of the products: fp8 kernels quantise the queries, too."""
    return target.compute("fp8" if _is_fp8(op) else "bf16")


def _transpose_flop(op: MlaAttention, grid: _Grid) -> int:
    """Return the vector work a token takes to turn fp8 values the way the tensor cores want them.

    Matrix instructions read fp8 operands along the reduced dimension only; V lies across it.
    """
    return _TRANSPOSE_FLOP * op.kv_lora if grid.fp8 and _is_fp8(op) else 0


def _is_fp8(op: MlaAttention) -> bool:
    return op.kv_format.name == "fp8"


def _partials(size_bytes: int) -> Segment:
    return Segment(name="attention_partials", size_bytes=size_bytes, traffic=Traffic.ACTIVATIONS)


def _combine(op: MlaAttention, partials: Segment, split: int) -> Kernel:
    """Return the kernel that merges the partial results of `split` splits."""
    count = ceil_div(op.batch * op.n_heads * op.q_len, 4)
    phase = Phase(
        round_trips=2,
        loads=(Load(segment=0, size_bytes=ceil_div(partials.size_bytes, count)),),
        vector_flop=ceil_div(partials.size_bytes, 2 * count),
        sfu_ops=4 * split,
        stores=(Store(segment=1, size_bytes=ceil_div(op.out.size_bytes, count)),),
    )
    return Kernel(
        name=f"combine_split{split}",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=32 * 1024),),
        segments=(partials, segment_of(op.out)),
        ctas_per_sm=4,
        flop=0,
    )


def _tiled(op: MlaAttention, target: Target) -> Kernel:
    """Return the context kernel with heads as rows: no split, Q fetched again for every block."""
    width = op.kv_lora + op.rope_dim
    tiles = ceil_div(op.n_heads * op.q_len, _TILED_ROWS)
    parts = ceil_div(op.kv_lora, _TILED_OUT)
    blocks = ceil_div(op.context, _BLOCK_TOKENS)
    cells = _TILED_ROWS * blocks * _BLOCK_TOKENS
    kv_bytes = ceil_div(op.kv_read_bytes, op.batch)
    q_bytes = ceil_div(op.q.size_bytes, op.batch * tiles)
    phase = Phase(
        round_trips=_CTA_ROUND_TRIPS,
        steps=_TILED_STEPS * blocks,
        loads=(
            Load(segment=0, size_bytes=kv_bytes, sharers=tiles * parts),
            Load(segment=1, size_bytes=q_bytes * blocks, sharers=parts),
        ),
        tensor_flop=2 * cells * (width + _TILED_OUT),
        vector_flop=cells * (_SOFTMAX_FLOP + _TILED_VECTOR_FLOP * (width + _TILED_OUT) // 64),
        sfu_ops=cells,
        stores=(
            Store(segment=2, size_bytes=ceil_div(op.out.size_bytes, op.batch * tiles * parts)),
        ),
    )
    # A real CTA has one stage in flight; requests are merged to bound the cost of long contexts.
    # Cache-resident and pipe-bound cases do not notice; memory-bound ones on L40S do (0015).
    moved = kv_bytes + q_bytes * blocks
    buffer_bytes = max(target.shared_memory_bytes // 4, ceil_div(moved, _TILED_REQUESTS))
    kind = CtaKind(count=op.batch * tiles * parts, phases=(phase,), buffer_bytes=buffer_bytes)
    kv = replace(segment_of(op.kv, op.kv_read_bytes), tiled=True)
    return Kernel(
        name="mla_tiled",
        operator=op.name,
        part=op.part,
        kinds=(kind,),
        segments=(kv, segment_of(op.q), segment_of(op.out)),
        ctas_per_sm=_TILED_CTAS_PER_SM,
        flop=operator_flop(op),
        setup_round_trips=_TILED_SETUP_ROUND_TRIPS,
    )
