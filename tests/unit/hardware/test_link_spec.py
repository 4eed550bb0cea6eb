"""`sim.hardware.link_spec`: the `[link]` table of a hardware spec."""

from fractions import Fraction

import pytest

from sim.errors import SpecError
from sim.hardware.link_spec import LinkSpec, NetworkTier, SharedTier
from sim.hardware.spec import ChipSpec, available_chips, load_chip, parse_chip
from sim.resources import chip_dirs
from tests.unit.hardware.test_spec import FROM, TOY

LINK = f"""\
[link]
type = "PCIe 4.0 x16"
bandwidth = {{ value = "31.5 GB/s", {FROM} }}
efficiency = {{ value = 0.68, {FROM} }}
latency = {{ value = "1.2 us", {FROM} }}
issue = {{ value = "30 ns", {FROM} }}
setup = {{ value = "2 us", {FROM} }}
ranks = {{ value = 2, {FROM} }}
[link.socket]
ranks = {{ value = 4, {FROM} }}
bandwidth = {{ value = "20 GB/s", {FROM} }}
latency = {{ value = "1.4 us", {FROM} }}
[link.network]
bandwidth = {{ value = "50 GB/s", {FROM} }}
latency = {{ value = "4 us", {FROM} }}
"""


def chip(text: str) -> ChipSpec:
    return parse_chip(text, file="toy.toml", stem="toy")


def test_a_link_is_read_in_base_units() -> None:
    """Rates per second, times in ps, tiers in their order, no multicast unless told."""
    assert chip(TOY + LINK).link == LinkSpec(
        type="PCIe 4.0 x16",
        bytes_per_s=31_500_000_000,
        efficiency=Fraction(68, 100),
        latency_ps=1_200_000,
        issue_ps=30_000,
        setup_ps=2_000_000,
        ranks=2,
        multicast=False,
        shared=(SharedTier(ranks=4, bytes_per_s=20_000_000_000, latency_ps=1_400_000),),
        network=NetworkTier(bytes_per_s=50_000_000_000, latency_ps=4_000_000),
    )


def test_a_chip_without_the_table_has_no_link_and_keeps_its_fingerprint() -> None:
    """The table is optional; with it the fingerprint is another, by each of its numbers."""
    alone, linked = chip(TOY), chip(TOY + LINK)
    slower = chip(TOY + LINK.replace("50 GB/s", "25 GB/s"))
    renamed = chip(TOY + LINK.replace("PCIe 4.0 x16", "PCIe Gen4"))
    assert alone.link is None
    assert len({alone.fingerprint(), linked.fingerprint(), slower.fingerprint()}) == 3
    assert renamed.fingerprint() == linked.fingerprint()


def test_every_number_of_a_link_has_its_provenance() -> None:
    """Also those of its tiers, by their dotted keys."""
    provenance = chip(TOY + LINK).provenance
    assert provenance["link.bandwidth"] == ("spec", "a datasheet")
    assert provenance["link.socket.latency"] == ("spec", "a datasheet")


def test_a_tier_that_joins_no_more_gpus_than_a_faster_one_is_refused() -> None:
    """It would never be taken."""
    with pytest.raises(SpecError) as refused:
        chip(TOY + LINK.replace("ranks = { value = 4", "ranks = { value = 2"))
    assert str(refused.value) == (
        "toy.toml:49:19: link.socket.ranks.value = 2: joins no more GPUs than a faster way does "
        "(expected more than 2)"
    )


@pytest.mark.parametrize("name", available_chips(chip_dirs()))
def test_the_shipped_links_are_plausible(name: str) -> None:
    """A hop takes 0.3 to 3 us, kernels reach half of the peak or more, tiers get slower."""
    link = load_chip(name, chip_dirs()).link
    if link is None:
        return
    assert 300_000 <= link.latency_ps <= 3_000_000
    assert Fraction(1, 2) <= link.efficiency < 1
    shares = [tier.bytes_per_s // tier.ranks for tier in link.shared]
    assert sorted(shares, reverse=True) == shares
    assert all(share < link.bytes_per_s for share in shares)
