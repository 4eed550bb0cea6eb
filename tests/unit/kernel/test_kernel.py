"""`sim.kernel.kernel`: sums over a grid, and grids that cannot be."""

import re
from dataclasses import replace

import pytest

from sim.errors import InvariantError
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.operators import Traffic

W = Segment(name="w", size_bytes=100, traffic=Traffic.WEIGHTS)
X = Segment(name="x", size_bytes=100, traffic=Traffic.ACTIVATIONS)
MAIN = Phase(
    loads=(Load(segment=0, size_bytes=30), Load(segment=1, size_bytes=5, sharers=2)),
    tensor_flop=1000,
)
END = Phase(stores=(Store(segment=1, size_bytes=7),), loads=(Load(segment=1, size_bytes=1),))
BIG = CtaKind(count=3, phases=(MAIN, END), buffer_bytes=64)
SMALL = CtaKind(count=2, phases=(MAIN,), buffer_bytes=64)
KERNEL = Kernel(
    name="k",
    operator="op",
    part="mlp",
    kinds=(BIG, SMALL),
    segments=(W, X),
    ctas_per_sm=2,
    flop=10,
)


def test_sums_count_every_cta_of_every_kind() -> None:
    """Three CTAs of two phases and two of one."""
    assert KERNEL.n_ctas == 5
    assert KERNEL.requested_bytes == 3 * 36 + 2 * 35
    assert KERNEL.stored_bytes == 3 * 7
    assert KERNEL.issued_tensor_flop == 5 * 1000
    assert list(KERNEL.phases()) == [(BIG, MAIN), (BIG, END), (SMALL, MAIN)]


def test_all_but_activations_are_streamed() -> None:
    """Weights, experts, KV and state pass through L2; activations stay."""
    streamed = {t for t in Traffic if Segment(name="s", size_bytes=1, traffic=t).streamed}
    assert streamed == set(Traffic) - {Traffic.ACTIVATIONS}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ()}, "kernel 'k' has an empty grid or no occupancy"),
        ({"ctas_per_sm": 0}, "kernel 'k' has an empty grid or no occupancy"),
        ({"segments": (W, W)}, "kernel 'k' has two segments of one name"),
        ({"segments": (W,)}, "kernel 'k' moves bytes of no segment: Phase("),
        (
            {"kinds": (replace(SMALL, phases=(Phase(loads=(Load(segment=-1, size_bytes=1),)),)),)},
            "kernel 'k' moves bytes of no segment: Phase(",
        ),
        (
            {
                "kinds": (
                    replace(SMALL, phases=(Phase(stores=(Store(segment=0, size_bytes=-1),)),)),
                )
            },
            "kernel 'k' moves bytes of no segment: Phase(",
        ),
        ({"kinds": (BIG, replace(SMALL, count=0))}, "kernel 'k' has an empty kind: CtaKind("),
        ({"kinds": (replace(BIG, buffer_bytes=0),)}, "kernel 'k' has an empty kind: CtaKind("),
    ],
)
def test_a_kernel_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    """The message names the kernel and what is wrong with it."""
    with pytest.raises(InvariantError, match="^" + re.escape(message)):
        replace(KERNEL, **change)  # type: ignore[arg-type]
