"""A link in round numbers, for timelines worked out by hand.

A byte takes 1 ps, a hop 1 us, a further peer 10 ns, a library's channels 5 us to set up. Four GPUs
are joined; eight share a way of 4 ps a byte (all together) and 2 us. The network takes 10 ps a byte
and 7 us. A copy within a GPU takes 2.5 ps a byte.
"""

from dataclasses import replace
from fractions import Fraction

from sim.hardware.link_spec import LinkSpec, NetworkTier, SharedTier
from sim.hardware.spec import ChipSpec
from tests.unit.hardware.chips import toy_chip

HOP_PS = 1_000_000
ISSUE_PS = 10_000
SETUP_PS = 5_000_000

TOY_LINK = LinkSpec(
    type="toy",
    bytes_per_s=2 * 10**12,
    efficiency=Fraction(1, 2),
    latency_ps=HOP_PS,
    issue_ps=ISSUE_PS,
    setup_ps=SETUP_PS,
    ranks=4,
    multicast=False,
    shared=(SharedTier(ranks=8, bytes_per_s=10**12 // 4, latency_ps=2 * HOP_PS),),
    network=NetworkTier(bytes_per_s=10**11, latency_ps=7 * HOP_PS),
)


def linked_chip(**changes: object) -> ChipSpec:
    """Return the toy chip with the toy link, with some of the link's numbers changed."""
    return toy_chip(link=replace(TOY_LINK, **changes))  # type: ignore[arg-type]
