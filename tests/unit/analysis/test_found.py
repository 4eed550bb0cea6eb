"""`analysis.validate.found`: what a profiled kernel finds in L2."""

from analysis.validate.case import activation
from analysis.validate.found import Found
from sim.hardware.spec import load_chip
from sim.resources import chip_dirs

A100 = load_chip("a100-sxm-80gb", chip_dirs())
MIB = 2**20


def test_a_gemm_leaves_one_tile_an_sm() -> None:
    """Of 64 MiB the last 108 tiles of 32 KiB; of less than that, all."""
    large, small = (Found(tensor=activation("x", size)) for size in (64 * MIB, MIB))
    assert large.state(A100)[1:] == (108 * 32 * 1024,) * 2
    assert small.state(A100)[1:] == (MIB, MIB)


def test_what_a_pass_wrote_is_found_while_the_pass_fits_l2() -> None:
    """Three times 8 MiB are less than 40 MiB, three times 16 MiB are not."""
    fits, does_not = (Found(tensor=activation("x", n * MIB), flow=3) for n in (8, 16))
    assert fits.state(A100) == (fits.tensor, 8 * MIB, 8 * MIB)
    tensor, there, dirty = does_not.state(A100)
    assert tensor.name == ""
    assert there == dirty == 40 * MIB // 3


def test_of_a_lost_tensor_only_the_dirt_is_left() -> None:
    """At most half of L2."""
    for size, dirt in ((MIB, MIB), (64 * MIB, 20 * MIB)):
        tensor, there, dirty = Found(tensor=activation("x", size), lost=True).state(A100)
        assert (tensor.name, there, dirty) == ("", dirt, dirt)
