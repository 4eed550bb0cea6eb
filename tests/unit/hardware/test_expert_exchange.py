"""`sim.hardware.expert_exchange`: tokens to the experts of other ranks and back."""

from dataclasses import replace
from fractions import Fraction

from sim.hardware.expert_exchange import ExpertKernel, Tokens, run_experts
from sim.hardware.link import Pace
from sim.kernel.collective import Op
from tests.unit.hardware.links import HOP_PS, ISSUE_PS, linked_chip

WHAT = Tokens(op=Op.DISPATCH, ranks=4, per_node=4, tokens=8, hidden=1000, topk=2, n_experts=2)
LATENCY = ExpertKernel(
    per_rank=False,
    value_bytes=Fraction(1),
    pace=Pace(),
    start_ps=100,
    expert_ps=10,
    token_ps=0,
)
HOPS_PS = HOP_PS + 2 * ISSUE_PS


def test_a_low_latency_kernel_sends_a_token_to_each_of_its_experts() -> None:
    """8 tokens x 2 experts x 1000 B, three quarters leave; two counters; a local copy."""
    run = run_experts(linked_chip(), WHAT, LATENCY, launch_ps=1000)
    assert run.time_ps == 1000 + 100 + 2 * 10 + 12_000 + HOPS_PS + 40_000
    assert run.link_bytes == 4 * 12_000


def test_a_throughput_kernel_sends_a_token_once_to_each_rank() -> None:
    """Two experts on 4 ranks are on 4(1 - (3/4)^2) = 1.75 of them in expectation."""
    kernel = replace(LATENCY, per_rank=True, value_bytes=Fraction(2))
    assert kernel.copies(WHAT) == Fraction(7, 4)
    assert kernel.size_bytes(WHAT) == 8 * 3500
    assert kernel.copies(replace(WHAT, topk=50)) < 4


def test_senders_limit_the_rate() -> None:
    """As many SMs as experts: 8 tokens on 2 of them, 10 ns each, are 0.4 bytes a ps at most."""
    slow = replace(LATENCY, token_ps=10_000)
    assert slow.paced(WHAT, 132).most_bytes_per_s == 16_000 * 10**12 // 40_000
    assert slow.paced(WHAT, 1).most_bytes_per_s == 16_000 * 10**12 // 80_000
    assert replace(slow, senders=8).paced(WHAT, 132).most_bytes_per_s == 16 * 10**11
    assert LATENCY.paced(WHAT, 132) is LATENCY.pace
    run = run_experts(linked_chip(), WHAT, slow, launch_ps=0)
    assert run.time_ps == 120 + 30_000 + HOPS_PS + 40_000


def test_tokens_of_other_nodes_leave_by_the_network() -> None:
    """Of 4 ranks in 2 nodes, two are away: half of the bytes at 10 ps each, two hops of 7 us."""
    run = run_experts(linked_chip(), replace(WHAT, per_node=2), LATENCY, launch_ps=0)
    assert run.network_bytes == 4 * 8_000
    assert run.time_ps == 120 + 80_000 + HOP_PS + 14 * HOP_PS + 40_000
