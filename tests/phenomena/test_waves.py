"""Phenomenon 14 of docs/phenomena.md: one tile more than there are SMs takes a second wave.

Source: NVIDIA, Matrix Multiplication Background User's Guide, section 3.2: 108 SMs, so 109 tiles
are two waves and use 109 / 216 = 50.5 % of the chip (arithmetic, no measurement).
"""

import pytest

from sim.hardware.gpu import Gpu
from sim.hardware.spec import load_chip
from sim.kernel.formats import WEIGHT_FORMATS
from sim.kernel.lower.gemm import build_gemm
from sim.kernel.lower.tiling import pipelines
from sim.kernel.operators import Gemm, Tensor, Traffic
from sim.resources import chip_dirs

ROWS, TOKENS, DEPTH = 256, 128, 4096
GPU = Gpu(spec=load_chip("a100-sxm-80gb", chip_dirs()))


def flop_per_ps(weight_rows: int, *, tile: tuple[int, int] = (ROWS, TOKENS)) -> float:
    """Return the rate of a GEMM of `weight_rows` x 128 tokens in tiles, one CTA an SM."""
    op = Gemm(
        name="gemm",
        part="gemm",
        m=TOKENS,
        n=weight_rows,
        k=DEPTH,
        a=Tensor(name="a", size_bytes=TOKENS * DEPTH * 2, traffic=Traffic.ACTIVATIONS),
        weight=Tensor(name="w", size_bytes=weight_rows * DEPTH * 2, traffic=Traffic.WEIGHTS),
        out=Tensor(name="o", size_bytes=TOKENS * weight_rows * 2, traffic=Traffic.ACTIVATIONS),
        weight_format=WEIGHT_FORMATS["bf16"],
    )
    stage_bytes = (tile[0] + tile[1]) * 128
    pipeline = max(pipelines(GPU.target(), stage_bytes), key=lambda p: p.buffer_bytes)
    (kernel,) = build_gemm(op, GPU.target(), tile, 1, pipeline)
    return kernel.flop / GPU.run(kernel).time_ps


def test_one_tile_more_than_sms_halves_the_rate() -> None:
    """Utilisation of 109 tiles against 108: 50.5 % within 10 % (the last tile has memory alone)."""
    assert flop_per_ps(109 * ROWS) / flop_per_ps(108 * ROWS) == pytest.approx(0.505, rel=0.1)


def test_the_loss_shrinks_with_the_number_of_waves() -> None:
    """217 tiles on 3 waves use 67.0 %, 325 on 4 waves 75.2 %, both within 10 %."""
    full = flop_per_ps(432 * ROWS)
    assert flop_per_ps(217 * ROWS) / full == pytest.approx(217 / 324, rel=0.1)
    assert flop_per_ps(325 * ROWS) / full == pytest.approx(325 / 432, rel=0.1)


def test_small_tiles_lose_little() -> None:
    """Negative control: the same two GEMMs in tiles of 32 rows differ by less than 15 %."""
    tile = (32, TOKENS)
    assert flop_per_ps(109 * ROWS, tile=tile) > 0.85 * flop_per_ps(108 * ROWS, tile=tile)
