"""Law: a step reads the experts that its tokens hit, whose number follows the closed form."""

from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu
from sim.kernel.formats import BF16, KV_FORMATS
from sim.kernel.lower import lower
from sim.kernel.operators import GroupedGemm
from sim.model.routing import draw_routing, expected_distinct_experts
from sim.model.step import build_step
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.step import run_step
from sim.scenario.references import find_model
from tests.strategies import ENGINE, grouped_gemm, real_chip, small_chip

DRAWS = 1000
STANDARD_ERRORS = 4


def spread_of_distinct(tokens: int, n_experts: int, top_k: int) -> float:
    """Return the standard deviation of the number of distinct experts hit by uniform tokens."""
    one = (1 - top_k / n_experts) ** tokens
    both = (comb(n_experts - 2, top_k) / comb(n_experts, top_k)) ** tokens
    variance = n_experts * one * (1 - one) + n_experts * (n_experts - 1) * (both - one * one)
    return sqrt(max(0.0, variance))


def distance(routing: str, tokens: int, n_experts: int, top_k: int) -> float:
    """Return how many standard errors the mean of many draws is from the closed form."""
    rng = np.random.default_rng(7)
    hit = [
        sum(n > 0 for n in draw_routing(
            routing, tokens=tokens, n_experts=n_experts, top_k=top_k, rng=rng))
        for _ in range(DRAWS)
    ]  # fmt: skip
    expected = expected_distinct_experts(tokens=tokens, n_experts=n_experts, top_k=top_k)
    error = spread_of_distinct(tokens, n_experts, top_k) / sqrt(DRAWS)
    difference = abs(float(np.mean(hit)) - expected)
    return difference / error if error > 1e-9 else difference * 1e9


@pytest.mark.parametrize(
    ("tokens", "n_experts", "top_k"),
    [(1, 128, 8), (2, 128, 8), (8, 128, 8), (64, 128, 8), (4, 8, 2), (16, 8, 2), (5, 64, 6),
     (32, 256, 8), (3, 16, 1), (9, 6, 6)],
)  # fmt: skip
def test_distinct_experts_of_uniform_draws_follow_the_closed_form(
    tokens: int, n_experts: int, top_k: int
) -> None:
    """The mean over a thousand draws is within four standard errors of E(1 - (1 - k/E)^n)."""
    assert distance("uniform", tokens, n_experts, top_k) <= STANDARD_ERRORS


def test_skewed_draws_are_far_from_the_uniform_closed_form() -> None:
    """The comparison tells Zipf from uniform by a hundred standard errors."""
    assert distance("zipf", 8, 128, 8) > 100


@given(st.lists(st.integers(0, 40), min_size=1, max_size=32).filter(any))
def test_expert_bytes_follow_the_number_of_distinct_experts(counts: list[int]) -> None:
    """A cold grouped GEMM fetches each hit expert once, to the byte, for any candidate."""
    op = grouped_gemm(tuple(counts), 192, 128)
    gpu = Gpu(spec=small_chip(l2_bytes=16 * 2**20))
    one = op.experts.size_bytes // len(counts)
    for (kernel,) in lower(op, gpu.target(), ENGINE):
        assert gpu.run(kernel).missed_bytes[0] == one * sum(n > 0 for n in counts)


def test_a_step_reads_the_experts_that_its_routing_hits() -> None:
    """Over all layers, the expert bytes from HBM are the distinct experts times their size."""
    model = find_model("olmoe-1b-7b-0924")
    assert model.moe is not None
    rng = np.random.default_rng(3)
    draws = tuple(
        draw_routing(
            "uniform", tokens=5, n_experts=model.moe.n_experts, top_k=model.moe.top_k, rng=rng
        )
        for _ in range(3)
    )
    graph = build_step(
        model,
        batch=5,
        q_len=1,
        context=64,
        weight_format=BF16,
        kv_format=KV_FORMATS["bf16"],
        merge_projections=True,
        routing_draws=draws,
    )
    expected = 0
    for _, op in graph.operators():
        if isinstance(op, GroupedGemm):
            hit = sum(n > 0 for n in op.tokens_per_expert)
            expected += hit * op.n * op.k * 2
    step = run_step(
        graph, Device(gpu=Gpu(spec=real_chip("h100-sxm")), engine=ENGINE, memo=Memo(None))
    )
    read = {(r.traffic, r.level, r.direction): r.size_bytes for r in step.traffic()}
    hits = [sum(n > 0 for n in draw) for draw in draws]
    assert len(set(hits)) > 1
    assert read["experts", "hbm", "read"] == expected
