"""`sim.hardware.collective_library`: which algorithm each library takes at which size."""

import pytest

from sim.errors import InputError
from sim.hardware.collective_library import (
    KIB,
    LIBRARIES,
    LL,
    MIB,
    NVLS,
    SIMPLE,
    library,
    nccl,
    run_library,
)
from sim.kernel.collective import Collective, Op
from tests.unit.hardware.links import SETUP_PS, TOY_LINK, linked_chip

PAIR, SWITCH = TOY_LINK, linked_chip(ranks=8, shared=(), multicast=True).link


def reduced(size_bytes: int, ranks: int = 4) -> Collective:
    return Collective(op=Op.ALL_REDUCE, ranks=ranks, per_node=ranks, size_bytes=size_bytes)


@pytest.mark.parametrize(
    ("name", "ranks", "size_bytes", "expected"),
    [
        ("vllm_v0", 2, 8 * MIB - 1, {"one-shot"}),
        ("vllm_v0", 2, 8 * MIB, {"ring", "multicast"}),
        ("vllm_v0", 4, 512 * KIB - 1, {"one-shot"}),
        ("vllm_v0", 4, 512 * KIB, {"two-shot"}),
        ("vllm_v0", 8, 256 * KIB, {"one-shot"}),
        ("vllm_v0", 8, 512 * KIB, {"two-shot"}),
        ("vllm", 8, 256 * KIB - 1, {"one-shot"}),
        ("vllm", 8, 256 * KIB, {"multicast"}),
        ("vllm", 8, 64 * MIB + 1, {"ring", "multicast"}),
        ("vllm", 4, 32 * MIB, {"multicast"}),
        ("vllm", 2, 64 * MIB, {"two-shot"}),
        ("sglang", 2, 16 * MIB, {"one-shot"}),
        ("sglang", 4, 16 * MIB, {"one-shot", "two-shot"}),
        ("sglang", 4, 16 * MIB + 1, {"ring", "multicast"}),
        ("trtllm", 8, MIB, {"one-shot", "ring", "multicast"}),
        ("trtllm", 8, MIB + 1, {"ring", "multicast"}),
        ("trtllm_v1", 8, 512 * KIB, {"one-shot"}),
        ("trtllm_v1", 8, 512 * KIB + 1, {"ring", "multicast"}),
        ("nccl", 8, 1, {"ring", "multicast"}),
    ],
)
def test_libraries_change_algorithms_at_their_sizes(
    name: str, ranks: int, size_bytes: int, expected: set[str]
) -> None:
    """Behind a switch that multicasts, as on an HGX H100."""
    assert SWITCH is not None
    plans = library(name)(reduced(size_bytes, ranks), SWITCH)
    assert {plan.schedule.name for plan in plans} == expected


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_without_a_link_between_all_ranks_every_library_is_nccl(name: str) -> None:
    """Eight GPUs, four of them joined: rings, and no multicast."""
    plans = library(name)(reduced(KIB, 8), PAIR)
    assert {plan.schedule.name for plan in plans} == {"ring"}


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_what_is_no_all_reduce_is_left_to_nccl(name: str) -> None:
    """Gathers go round, all-to-alls and sends at once."""
    for op, expected in ((Op.ALL_GATHER, "ring"), (Op.ALL_TO_ALL, "direct")):
        what = Collective(op=op, ranks=4, per_node=4, size_bytes=MIB)
        plans = library(name)(what, PAIR)
        assert {plan.schedule.name for plan in plans} == {expected}
        assert all(plan.setup for plan in plans)


def test_nccl_takes_low_latency_for_small_and_large_chunks_for_large() -> None:
    """The fastest plan changes from LL to Simple as the vector grows."""
    paces = [plan.pace for plan in nccl(reduced(MIB), PAIR)]
    assert paces[0] is LL
    assert paces[-1] is SIMPLE
    assert NVLS not in paces
    small = run_library(linked_chip(), reduced(KIB), nccl, launch_ps=0)
    assert small.time_ps == SETUP_PS + 6 * (10**6 + 256 * 10**12 // (18 * 10**9) + 1) + 2560
    large = run_library(linked_chip(), reduced(4 * 10**9), nccl, launch_ps=0)
    assert large.time_ps == SETUP_PS + 25 * 10**6 + 6 * (1_200_000 + 10**9) + 10**10


def test_a_misspelt_library_is_told_with_the_nearest() -> None:
    """The message lists all names."""
    with pytest.raises(InputError, match=r"unknown collective library .*did you mean 'nccl'"):
        library("ncll")
