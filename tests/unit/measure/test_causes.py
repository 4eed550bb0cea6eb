"""`sim.measure.causes`: the vocabulary of every ledger."""

from types import MappingProxyType

from sim.hardware.plan import PIPES
from sim.measure.causes import CAUSES


def test_the_causes_are_those_of_the_ledger_in_the_order_of_the_figures() -> None:
    """Busy first, then waiting from near to far, then what is no kernel's own."""
    assert list(CAUSES) == [
        "tensor", "vector", "sfu", "sync", "hbm_bandwidth", "hbm_latency", "l2_bandwidth",
        "l2_latency", "link", "link_latency", "launch", "tail", "host",
    ]  # fmt: skip


def test_every_pipe_of_an_sm_is_a_cause() -> None:
    """A granule's time on a pipe is charged under the pipe's name."""
    assert set(PIPES) <= set(CAUSES)


def test_every_cause_is_explained_and_none_can_be_added_in_passing() -> None:
    """Descriptions stand beside the names, in a mapping that cannot be changed."""
    assert all(len(text) > 10 for text in CAUSES.values())
    assert isinstance(CAUSES, MappingProxyType)
