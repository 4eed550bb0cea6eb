"""Which tiles prefill kernels have, and what their CTAs wait for beside bytes and FLOP.

Tiles are those of FlashAttention (`flash_fwd_launch_template.h` for mma.sync chips, `tile_size.h`
of FlashAttention-3 for Hopper): blocks of queries by blocks of keys that shrink with the head
dimension and with shared memory. Round trips of a CTA are its prologue (lengths, page table,
queries, first keys) and its epilogue through shared memory, those of the setup the kernel's code;
both are read off short sequences on L40S, A100 and H100 (aiconfigurator-core 0.12.0, read
2026-11-27), one pair a kernel.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from sim.kernel.engine import PrefillKernel
from sim.kernel.operators import Attention
from sim.kernel.target import Target

_FLASHINFER_QUERIES = (16, 64, 128)
_NARROW_HEAD, _USUAL_HEAD = 64, 128
# Triton code for Ada reaches 105 to 125 TFLOPS with heads of 64, FlashAttention-2 165 to 185. With
# a window it looks at the mask of every tile, multiplies those that show something, and needs
# 2/3 of the time for each tile, but three times as long to begin (L40S).
_TRITON_SLOWER = Fraction(3, 2)
_TRITON_MASKED = Fraction(11, 10)
# FlashInfer with heads of 256 wants more registers than a thread has: 157 TFLOPS on L40S, where
# FlashAttention-2 reaches 210.
_WIDE_SLOWER = Fraction(7, 5)
# Shared memory of GA100 and later data-centre chips; consumer chips have 100 KiB.
_LARGE_SHARED_MEMORY = 160 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Queries and keys of one block of scores, CTAs an SM, and round trips to L2.

    `slower` multiplies the time of the pipes; with `visits_all` blocks beyond a window are computed
    and masked.
    """

    queries: int
    keys: int
    ctas_per_sm: int
    cta_trips: int = 16
    setup_trips: int = 8
    slower: Fraction = Fraction(1)
    visits_all: bool = False


def tile_of(op: Attention, target: Target, kernel: PrefillKernel) -> Tile:
    """Return the tile that a kernel picks for a head dimension on this chip."""
    if target.bulk_copy:
        return _hopper_tile(op)
    large = target.shared_memory_bytes >= _LARGE_SHARED_MEMORY
    match kernel:
        case PrefillKernel.TENSORRT_LLM:
            return Tile(queries=64, keys=64, ctas_per_sm=2 if op.qk_dim <= _USUAL_HEAD else 1)
        case PrefillKernel.TRITON:
            return _triton_tile(op)
        case PrefillKernel.FLASHINFER | PrefillKernel.FLASH_ATTENTION_3:
            tile = _flashinfer_tile(op)
            code_of_3 = large and kernel is PrefillKernel.FLASH_ATTENTION_3
            return replace(tile, cta_trips=16, setup_trips=8) if code_of_3 else tile
        case _:
            return _flash_attention_2_tile(op, large=large)


def _hopper_tile(op: Attention) -> Tile:
    if op.qk_dim <= _NARROW_HEAD:
        return Tile(queries=192, keys=128, ctas_per_sm=1)
    return Tile(queries=128, keys=128 if op.qk_dim <= _USUAL_HEAD else 80, ctas_per_sm=1)


def _triton_tile(op: Attention) -> Tile:
    tile = Tile(queries=64, keys=64, ctas_per_sm=1, visits_all=True)
    if op.window is None:
        return replace(tile, cta_trips=6, setup_trips=2, slower=_TRITON_SLOWER)
    return replace(tile, cta_trips=34, setup_trips=26, slower=_TRITON_MASKED)


def _flashinfer_tile(op: Attention) -> Tile:
    """Return FlashInfer's tile: as many queries as there are, of all heads of a group."""
    usual = op.qk_dim <= _USUAL_HEAD
    rows = op.q_len * (op.n_q_heads // op.n_kv_heads)
    sizes = _FLASHINFER_QUERIES if usual else _FLASHINFER_QUERIES[:2]
    return Tile(
        queries=next((q for q in sizes if rows <= q), sizes[-1]),
        keys=64,
        ctas_per_sm=2 if usual else 1,
        cta_trips=4,
        setup_trips=0,
        slower=Fraction(1) if usual else _WIDE_SLOWER,
    )


def _flash_attention_2_tile(op: Attention, *, large: bool) -> Tile:
    """Return the tile of the split-KV kernel that a paged cache takes, here without a split.

    (`run_mha_fwd_splitkv_dispatch`.)
    """
    narrow, usual = op.qk_dim <= _NARROW_HEAD, op.qk_dim <= _USUAL_HEAD
    keys = 256 if narrow else 128 if usual else 64
    return Tile(queries=64, keys=keys, ctas_per_sm=2 if usual and large else 1)
