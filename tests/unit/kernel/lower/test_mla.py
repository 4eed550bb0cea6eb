"""`sim.kernel.lower.mla`: which CTAs read which part of the latent cache."""

import pytest

from sim.kernel.engine import LatentVariant
from sim.kernel.kernel import Kernel
from sim.kernel.lower.mla import lower_mla
from sim.kernel.operators import MlaAttention
from sim.kernel.target import Target
from tests.unit.kernel.samples import AMPERE, HOPPER, mla


def lowered(
    op: MlaAttention, variant: LatentVariant, target: Target = HOPPER
) -> tuple[Kernel, ...]:
    """Return the one kernel sequence of a variant."""
    (kernels,) = lower_mla(op, target, variant)
    return kernels


def loaded(kernel: Kernel, segment: int) -> int:
    """Return the distinct bytes that a kernel loads from a segment."""
    return sum(
        kind.count * load.size_bytes // load.sharers
        for kind, phase in kernel.phases()
        for load in phase.loads
        if load.segment == segment
    )


SHARING = tuple(v for v in LatentVariant if v is not LatentVariant.VECTOR)


@pytest.mark.parametrize("variant", SHARING)
@pytest.mark.parametrize("batch", [1, 2, 128, 200])
def test_the_latent_cache_is_read_once_whatever_the_heads(
    variant: LatentVariant, batch: int
) -> None:
    """All CTAs of a sequence share what they read; rounding adds less than a byte a load."""
    op = mla(batch=batch, context=4096)
    main = lowered(op, variant)[0]
    pieces = sum(kind.count * len(kind.phases) for kind in main.kinds)
    assert 0 <= loaded(main, 0) - op.kv_read_bytes < pieces
    assert main.flop == 2 * 128 * (512 + 64 + 512) * 4096 * batch


def test_a_vector_kernel_reads_keys_and_values_apart_for_every_head() -> None:
    """Of 128 heads each reads 576 values a token and 512 of them again, without tensor cores."""
    op = mla(batch=1, context=4096)
    main, combine = lowered(op, LatentVariant.VECTOR)
    (kind,) = main.kinds
    (phase,) = kind.phases
    whole = 128 * op.kv_read_bytes * (576 + 512) // 576
    assert 0 <= kind.count * phase.loads[0].size_bytes - whole <= 2 * kind.count
    assert main.issued_tensor_flop == 0
    assert combine.name.startswith("combine")


def test_flash_mla_cuts_a_long_sequence_and_merges_its_parts() -> None:
    """Two sequences of two head blocks: 66 parts each, half of them for each sequence."""
    main, combine = lowered(mla(batch=2, context=8192), LatentVariant.FLASH_MLA)
    assert main.n_ctas == 2 * 2 * 33
    assert combine.name == "combine_split33"


def test_flash_mla_joins_short_sequences() -> None:
    """Of 200 sequences of one block, every CTA takes two in turn."""
    (main,) = lowered(mla(batch=200, context=64, n_heads=16), LatentVariant.FLASH_MLA)
    assert main.n_ctas == 100
    assert len(main.kinds[0].phases) == 2


def test_the_tiled_kernel_has_two_ctas_for_64_heads_and_never_splits() -> None:
    """Each owns 256 of 512 output columns and fetches Q again for every block of keys."""
    op = mla(batch=3, context=640)
    (main,) = lowered(op, LatentVariant.TILED, AMPERE)
    assert main.n_ctas == 3 * 2 * 2
    assert loaded(main, 1) == 10 * op.q.size_bytes


def test_the_grouped_kernel_always_has_its_splits() -> None:
    """Sixteen splits of 16 heads, whether they have tokens or not."""
    main, _ = lowered(mla(batch=4, context=16), LatentVariant.GROUPED, AMPERE)
    assert main.n_ctas == 4 * 8 * 16


@pytest.mark.parametrize(("n_heads", "tiles"), [(128, 8), (20, 5)])
def test_the_packed_kernel_has_sixteen_heads_a_tile_or_four(n_heads: int, tiles: int) -> None:
    """20 heads are no multiple of 16: five tiles read the cache, from L2 all but the first."""
    main, combine = lowered(mla(batch=1, context=4096, n_heads=n_heads), LatentVariant.PACKED)
    (kind,) = main.kinds
    (phase,) = kind.phases
    split = int(combine.name.removeprefix("combine_split"))
    assert kind.count == tiles * split
    assert phase.loads[0].sharers == tiles
