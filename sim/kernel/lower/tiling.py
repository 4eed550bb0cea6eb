"""Cutting: tiles, splits and pipeline buffers that candidate kernels share."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.target import Target
from sim.units import ceil_div

# Pipeline depth of shipped GEMM kernels: cuBLAS Ampere kernels are named ..._stages_64x3 to
# 64x6; CUTLASS Hopper builders fill shared memory ("StageCountAutoCarveout").
_STAGES = {False: 6, True: 12}
_FEWEST_STAGES = 2
# Shared memory that a CTA needs beside its pipeline (epilogue staging, barriers).
_RESERVED_BYTES = 8 * 1024


def cut(total: int, tile: int) -> tuple[tuple[int, int], ...]:
    """Return (count, length) of the whole tiles and of the rest that cover `total`.

    >>> cut(300, 128)
    ((2, 128), (1, 44))
    """
    whole, rest = divmod(total, tile)
    parts = ((whole, tile), (1, rest))
    return tuple((count, length) for count, length in parts if count and length)


def fit_tile(length: int, tiles: tuple[int, ...]) -> int:
    """Return the smallest tile that covers `length`, or the largest there is."""
    return next((tile for tile in tiles if tile >= length), tiles[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """How deep a CTA's loads run ahead: occupancy and buffer."""

    ctas_per_sm: int
    buffer_bytes: int


def pipelines(target: Target, stage_bytes: int, *, parts: int = 1) -> Iterator[Pipeline]:
    """Yield the pipelines that fit: two CTAs an SM, or one with a deeper buffer.

    Stages that are one of several `parts` of a swizzle row may be as many times more.
    """
    for ctas in (2, 1):
        room = target.shared_memory_bytes // ctas - _RESERVED_BYTES
        stages = min(room // stage_bytes, _STAGES[target.bulk_copy] * parts)
        if stages >= _FEWEST_STAGES:
            yield Pipeline(ctas_per_sm=ctas, buffer_bytes=stages * stage_bytes)


def splits(n_tiles: int, k_steps: int, places: int) -> tuple[int, ...]:
    """Return the split-K counts worth trying: none, and those that fill `places` once or twice."""
    found = {1}
    for waves in (1, 2):
        split = min(places * waves // n_tiles, k_steps // 2, 32)
        if split > 1:
            found.add(split)
            found.add(1 << (split.bit_length() - 1))
    return tuple(sorted(found))


def sharing(rows: int, columns: int, places: int) -> tuple[int, int]:
    """Return how many of the CTAs that run together share a row's and a column's operand.

    A rasterised grid of `rows` x `columns` tiles runs in blocks of about `places` tiles, as square
    as the grid allows.
    """
    together = min(places, rows * columns)
    side = max(1, int(together**0.5))
    tall = min(rows, max(side, ceil_div(together, columns)))
    wide = min(columns, max(1, together // tall))
    return wide, tall
