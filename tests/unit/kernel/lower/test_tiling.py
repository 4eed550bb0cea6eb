"""`sim.kernel.lower.tiling`: tiles, pipelines, splits and sharing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel.lower.tiling import Pipeline, cut, fit_tile, pipelines, sharing, splits
from sim.kernel.target import Target
from tests.unit.kernel.samples import AMPERE, HOPPER


@pytest.mark.parametrize(
    ("total", "tile", "parts"),
    [
        (256, 128, ((2, 128),)),
        (300, 128, ((2, 128), (1, 44))),
        (44, 128, ((1, 44),)),
        (1, 1, ((1, 1),)),
    ],
)
def test_a_length_is_cut_into_whole_tiles_and_a_rest(
    total: int, tile: int, parts: tuple[tuple[int, int], ...]
) -> None:
    """Neither empty parts nor overlap."""
    assert cut(total, tile) == parts


@given(total=st.integers(1, 10**6), tile=st.integers(1, 512))
def test_the_parts_cover_the_length_exactly(total: int, tile: int) -> None:
    """Counts times lengths sum to the whole, and no part is longer than a tile."""
    parts = cut(total, tile)
    assert sum(count * length for count, length in parts) == total
    assert all(0 < length <= tile for _, length in parts)


@pytest.mark.parametrize(
    ("length", "tile"), [(1, 16), (16, 16), (17, 32), (128, 128), (129, 128), (9999, 128)]
)
def test_a_tile_fits_its_length_or_is_the_largest(length: int, tile: int) -> None:
    """The smallest tile that covers, as padding costs tensor time."""
    assert fit_tile(length, (16, 32, 64, 128)) == tile


@pytest.mark.parametrize(
    ("target", "stage", "found"),
    [
        # 164 KiB: half is 83,968, less 8 KiB is 75,776: three stages; whole: seven, six at most.
        (AMPERE, 20_000, [(2, 60_000), (1, 120_000)]),
        # Two CTAs would have one stage each.
        (AMPERE, 40_000, [(1, 120_000)]),
        (AMPERE, 80_000, []),
        # 228 KiB: half less 8 KiB is 108,544; twelve stages at most.
        (HOPPER, 8192, [(2, 98_304), (1, 98_304)]),
        (HOPPER, 54_272, [(2, 108_544), (1, 217_088)]),
        (HOPPER, 54_273, [(1, 217_092)]),
    ],
)
def test_pipelines_fill_shared_memory_with_whole_stages(
    target: Target, stage: int, found: list[tuple[int, int]]
) -> None:
    """At least two stages, at most what the chip's kernels use, and room for the epilogue."""
    assert list(pipelines(target, stage)) == [
        Pipeline(ctas_per_sm=ctas, buffer_bytes=buffer) for ctas, buffer in found
    ]


@pytest.mark.parametrize(
    ("n_tiles", "k_steps", "places", "found"),
    [
        # 108 places hold 10 tiles 10 times, two waves 21 times; and the powers of two below.
        (10, 64, 108, (1, 8, 10, 16, 21)),
        # Each split keeps two steps of K at least.
        (10, 8, 108, (1, 4)),
        (10, 3, 108, (1,)),
        # The grid is full already; two waves would leave no second CTA.
        (200, 64, 108, (1,)),
        (108, 64, 108, (1, 2)),
        (1, 1000, 108, (1, 32)),
    ],
)
def test_splits_fill_the_chip_once_or_twice(
    n_tiles: int, k_steps: int, places: int, found: tuple[int, ...]
) -> None:
    """And no split is always among them."""
    assert splits(n_tiles, k_steps, places) == found


@pytest.mark.parametrize(
    ("rows", "columns", "places", "shared"),
    [
        (1, 100, 132, (100, 1)),
        (100, 1, 132, (1, 100)),
        (1, 1000, 132, (132, 1)),
        (100, 100, 132, (12, 11)),
        (4, 4, 132, (4, 4)),
        (5, 5, 1, (1, 1)),
    ],
)
def test_a_block_of_tiles_that_run_together_is_about_square(
    rows: int, columns: int, places: int, shared: tuple[int, int]
) -> None:
    """A row's operand is shared by the width of the block, a column's by its height."""
    assert sharing(rows, columns, places) == shared


@given(rows=st.integers(1, 500), columns=st.integers(1, 500), places=st.integers(1, 300))
def test_no_more_ctas_share_than_run_together(rows: int, columns: int, places: int) -> None:
    """The block fits into the grid and into the places."""
    wide, tall = sharing(rows, columns, places)
    assert 1 <= wide <= columns
    assert 1 <= tall <= rows
    assert wide * tall <= places
