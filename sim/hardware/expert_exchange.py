"""Experts on other ranks: the dispatch of tokens to them and the combine of their results.

There are two kinds of kernels (DeepEP, github.com/deepseek-ai/DeepEP @dd758caf). Low-latency ones
send a token to every expert that it chose; throughput ones once to every rank that holds one of
these. Tokens are spread evenly: the expectation of routing at random.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

from sim.hardware.link import CollectiveRun, Pace, run_collective
from sim.hardware.spec import ChipSpec
from sim.kernel.collective import Collective, Op, direct
from sim.units import PS_PER_S, ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What is exchanged: `tokens` of each rank with `topk` of `n_experts` experts on all ranks."""

    op: Op
    ranks: int
    per_node: int
    tokens: int
    hidden: int
    topk: int
    n_experts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertKernel:
    """How a library moves tokens.

    `per_rank` sends a token once to a rank, else once to each expert. A value takes `value_bytes`,
    scales included. `start_ps` passes before the first byte, and `expert_ps` for each expert whose
    counter is signalled. One SM handles a token in `token_ps`: of low-latency kernels as many SMs
    as there are experts, of throughput kernels `senders`. `network_hops` go through the network.
    """

    per_rank: bool
    value_bytes: Fraction
    pace: Pace
    start_ps: int
    expert_ps: int
    token_ps: int
    senders: int | None = None
    network_hops: int = 2

    def copies(self, what: Tokens) -> Fraction:
        """Return to how many places a token goes, its own rank included.

        With k experts chosen at random, R ranks hold R(1−(1−1/R)^k) of them in expectation.
        """
        if not self.per_rank:
            return Fraction(what.topk)
        return what.ranks * (1 - (1 - Fraction(1, what.ranks)) ** what.topk)

    def size_bytes(self, what: Tokens) -> int:
        """Return the bytes of all copies of one rank's tokens."""
        return ceil(what.tokens * self.copies(what) * what.hidden * self.value_bytes)

    def paced(self, what: Tokens, sm_count: int) -> Pace:
        """Return the pace of the link, limited by the SMs that handle the tokens."""
        senders = self.senders or min(what.n_experts, sm_count)
        busy_ps = ceil_div(what.tokens, senders) * self.token_ps
        if not busy_ps:
            return self.pace
        most = max(1, self.size_bytes(what) * PS_PER_S // busy_ps)
        limit = self.pace.most_bytes_per_s
        return replace(self.pace, most_bytes_per_s=most if limit is None else min(most, limit))


def run_experts(
    chip: ChipSpec, what: Tokens, kernel: ExpertKernel, *, launch_ps: int
) -> CollectiveRun:
    """Return the run of a dispatch or combine. Raises InputError as `run_collective`."""
    asked = Collective(
        op=what.op,
        ranks=what.ranks,
        per_node=what.per_node,
        size_bytes=kernel.size_bytes(what),
    )
    return run_collective(
        chip,
        direct(asked, hops=1, network_hops=kernel.network_hops),
        pace=kernel.paced(what, chip.sm_count),
        launch_ps=launch_ps + kernel.start_ps + what.n_experts * kernel.expert_ps,
    )
