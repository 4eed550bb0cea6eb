"""Which tiles decode attention kernels have, and what their CTAs wait for beside bytes and FLOP.

FlashAttention computes tiles of 64 rows however few heads a group has
(`run_mha_fwd_splitkv_dispatch`; FlashAttention-3's `tile_size.h`), FlashInfer, Triton and XQA tiles
of 16. Blocks of keys are computed whole. A CTA makes dependent round trips: lengths, page table and
addresses before its first score, the accumulator's way through shared memory after its last; the
first CTAs of a kernel also wait for its code.

Both are read off replays of 16 tokens: of one sequence, whose time is launch, setup and one CTA,
and of 512 or 1,024 sequences, where each further CTA of an SM adds its own (aiconfigurator-core
0.12.0, read 2026-11-27). One pair of numbers a kernel, in round trips to L2, holds for all chips.
"""

from dataclasses import dataclass
from fractions import Fraction

from sim.kernel.engine import DecodeKernel
from sim.kernel.operators import Attention
from sim.kernel.target import Target
from sim.units import ceil_div

FP8_BITS = 8
_LARGE_SHARED_MEMORY = 160 * 1024
_USUAL_HEAD = 128
_NARROW_HEAD = 64
# A block of 128 keys and values of a paged cache on Hopper: page table, gathered keys, scores,
# gathered values, in chains of instructions. One sequence in 32 splits takes 1.06 to 1.39 us more
# for each block of heads of 128 and 16 bits (vLLM, H100); half as many bytes take half of that.
_PAGED_BLOCK_STEPS = 17
_PAGED_ROW_BITS = 128 * 16
# XQA for Hopper has two CTAs an SM, whose blocks of 128 fp8 keys take 2.1 us with heads of 128 and
# 1.2 with 64, of which a part overlaps with the next one.
_XQA_BLOCK_STEPS = 20
# fp8 keys and values that are widened to 16 bits before the multiply: unpack, convert at a quarter
# of the rate, scale (L40S: 30 us more for 100 MB in L2 than their bf16 twins).
_WIDEN_FLOP = 24
# Vector kernels: blocks of 128 threads; a 16-bit value is widened, multiplied and added.
_VECTOR_KEYS = 64
VECTOR_CTAS_PER_SM = 8
_VECTOR_FLOP = 4
# FlashAttention-3 multiplies fp8 as it is, but must transpose V through shared memory: long caches
# take 1.5, 2 and 3 times their products with heads of 64, 128 and 256 (H100).
_TRANSPOSED_HEAD = 128
# FlashAttention-3's code for Ampere: tiles of 128 rows, no overlap of its softmax (A100: 0.81 TB/s
# however many bytes, grouped queries).
_AMPERE_FA3_ROWS = 128
_AMPERE_FA3_SLOWER = Fraction(5, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trips:
    """Dependent round trips to L2: of every CTA, and of the first ones of a kernel."""

    cta: int
    setup: int


_FLASH_ATTENTION_2 = Trips(cta=11, setup=5)
_FLASH_ATTENTION_3 = Trips(cta=8, setup=5)
_FLASH_ATTENTION_3_ON_AMPERE = Trips(cta=2, setup=17)
_FLASHINFER = Trips(cta=8, setup=2)
_XQA = Trips(cta=18, setup=0)
_XQA_BEFORE_HOPPER = Trips(cta=24, setup=0)
_XQA_FP8_ON_HOPPER = Trips(cta=2, setup=0)
_ONE_HEAD = Trips(cta=5, setup=6)
_ONE_HEAD_BEFORE_HOPPER = Trips(cta=9, setup=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeTile:
    """Rows and keys of a tile, CTAs an SM, its round trips, factors of tensor and vector work.

    `heads` query heads share a CTA: a group, or one. A block of keys has `block_steps` chains of
    instructions. With `merges_inside` the last CTA to finish merges the splits.
    """

    rows: int
    keys: int
    ctas_per_sm: int
    heads: int
    trips: Trips
    tensor_factor: Fraction = Fraction(1)
    vector_flop_per_value: int = 0
    merges_inside: bool = False
    block_steps: int = 2


def decode_tile(op: Attention, target: Target, kernel: DecodeKernel) -> DecodeTile:
    """Return the tile that a decode kernel takes for this operator on this chip."""
    if kernel is DecodeKernel.VECTOR:
        return _vector_tile(op)
    if kernel in (DecodeKernel.FLASHINFER, DecodeKernel.XQA):
        return _narrow_tile(op, target, kernel)
    if target.bulk_copy:
        return _hopper_tile(op)
    group = op.n_q_heads // op.n_kv_heads * op.q_len
    large = target.shared_memory_bytes >= _LARGE_SHARED_MEMORY
    narrow, usual = op.qk_dim <= _NARROW_HEAD, op.qk_dim <= _USUAL_HEAD
    if large and kernel is DecodeKernel.FLASH_ATTENTION_3:
        return DecodeTile(
            rows=_AMPERE_FA3_ROWS,
            keys=64,
            ctas_per_sm=1,
            heads=group,
            trips=_FLASH_ATTENTION_3_ON_AMPERE,
            tensor_factor=_AMPERE_FA3_SLOWER,
        )
    return DecodeTile(
        rows=ceil_div(group, 64) * 64,
        keys=256 if narrow else 128 if usual else 64,
        ctas_per_sm=2 if large and usual else 1,
        heads=1 if op.window is not None else group,
        trips=_FLASH_ATTENTION_2,
    )


def _hopper_tile(op: Attention) -> DecodeTile:
    """Return FlashAttention-3's tile; fp8 values are transposed in shared memory."""
    group = op.n_q_heads // op.n_kv_heads * op.q_len
    keys = 128 if op.qk_dim <= _USUAL_HEAD else 80
    return DecodeTile(
        rows=ceil_div(group, 64) * 64,
        keys=keys,
        ctas_per_sm=1,
        heads=group,
        trips=_FLASH_ATTENTION_3,
        tensor_factor=1 + Fraction(op.v_dim if is_fp8(op) else 0, _TRANSPOSED_HEAD),
        block_steps=ceil_div(_PAGED_BLOCK_STEPS * op.qk_dim * op.kv_format.bits, _PAGED_ROW_BITS),
    )


def _vector_tile(op: Attention) -> DecodeTile:
    """Return the grid of a kernel without tensor cores: a CTA per query head."""
    return DecodeTile(
        rows=0,
        keys=_VECTOR_KEYS,
        ctas_per_sm=VECTOR_CTAS_PER_SM,
        heads=1,
        trips=_FLASHINFER,
        vector_flop_per_value=_WIDEN_FLOP if is_fp8(op) else _VECTOR_FLOP,
    )


def _narrow_tile(op: Attention, target: Target, kernel: DecodeKernel) -> DecodeTile:
    """Return the tile of FlashInfer and XQA: as many rows as a group needs.

    Their CTAs take turns on an SM. TensorRT-LLM has no XQA for heads that share no keys, nor for
    heads of 64 before Hopper, and runs a CTA per query head there.
    """
    group = op.n_q_heads // op.n_kv_heads * op.q_len
    xqa = kernel is DecodeKernel.XQA
    apart = xqa and not target.bulk_copy and op.qk_dim <= _NARROW_HEAD
    quick = xqa and target.bulk_copy and is_fp8(op)
    widens = is_fp8(op) and not xqa and not target.bulk_copy
    return DecodeTile(
        rows=ceil_div(group, 16) * 16,
        keys=128 if quick else 64,
        ctas_per_sm=2 if apart or quick else 1,
        heads=1 if apart else group,
        trips=_narrow_trips(op, target, kernel),
        vector_flop_per_value=_WIDEN_FLOP if widens else 0,
        merges_inside=quick,
        block_steps=ceil_div(_XQA_BLOCK_STEPS * op.qk_dim, _USUAL_HEAD) if quick else 2,
    )


def _narrow_trips(op: Attention, target: Target, kernel: DecodeKernel) -> Trips:
    if kernel is DecodeKernel.FLASHINFER:
        return _FLASHINFER
    if target.bulk_copy and is_fp8(op):
        return _XQA_FP8_ON_HOPPER
    alone = op.n_q_heads == op.n_kv_heads
    if target.bulk_copy:
        return _ONE_HEAD if alone else _XQA
    return _ONE_HEAD_BEFORE_HOPPER if alone or op.qk_dim <= _NARROW_HEAD else _XQA_BEFORE_HOPPER


def is_fp8(op: Attention) -> bool:
    """Return whether the cache holds 8-bit values."""
    return op.kv_format.bits == FP8_BITS
