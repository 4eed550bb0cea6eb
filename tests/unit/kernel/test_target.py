"""`sim.kernel.target`: what lowering may know of a chip."""

import pytest

from sim.kernel.target import Target
from tests.unit.kernel.samples import AMPERE, HOPPER


@pytest.mark.parametrize(
    ("target", "wanted", "format_"),
    [(HOPPER, "fp8", "fp8"), (AMPERE, "fp8", "bf16"), (AMPERE, "int8", "int8")],
)
def test_a_multiply_falls_back_to_bf16_where_the_chip_lacks_its_format(
    target: Target, wanted: str, format_: str
) -> None:
    """An A100 runs fp8 weights as bf16."""
    assert target.compute(wanted) == format_
