"""FLOP counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel.operators import Operator
from sim.kernel.work import operator_flop, visible_pairs
from tests.unit.kernel.samples import exchange


@given(q_len=st.integers(1, 40), prefix=st.integers(0, 60), window=st.none() | st.integers(1, 120))
def test_visible_pairs_equal_a_count_of_the_mask(
    q_len: int, prefix: int, window: int | None
) -> None:
    """The closed form counts what a causal mask with a window lets through."""
    context = prefix + q_len
    counted = sum(
        query - key < (window or context)
        for query in range(prefix, context)
        for key in range(query + 1)
    )
    assert visible_pairs(q_len=q_len, context=context, window=window) == counted


def test_an_unknown_operator_has_no_flop() -> None:
    """A new operator class must be counted on purpose."""
    with pytest.raises(TypeError, match="no FLOP count for Operator"):
        operator_flop(Operator(name="new", part="x"))


def test_an_exchange_has_no_flop_of_its_own() -> None:
    """The additions of a sum depend on the algorithm."""
    assert operator_flop(exchange()) == 0
