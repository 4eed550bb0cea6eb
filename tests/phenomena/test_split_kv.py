"""Phenomenon 13 of docs/phenomena.md: split KV fills the SMs at batch 1.

Measured: PyTorch blog "Flash-Decoding for long-context inference" (October 2023; read in excerpts):
CodeLlama-34B on A100, up to 8 times as fast end to end at long contexts, attention up to 50 times,
its time nearly constant up to 32k or 64k. On how many GPUs is not in what was read: four are taken
here, whose share is 16 query and 2 KV heads.
"""

from dataclasses import replace
from functools import cache

import pytest

from sim.run import execute
from sim.run.result import PointResult
from sim.scenario.load import load_scenario

LONG = 131_072


@cache
def point(engine: str, context: int) -> PointResult:
    scenario = load_scenario("split_kv", [f"engine={engine}", f"grid.context=[{context}]"])
    few_heads = replace(scenario, contestants=scenario.contestants[:1])
    (found,) = execute(few_heads, memo=False).points
    return found


def test_split_kv_makes_long_contexts_many_times_as_fast_end_to_end() -> None:
    """8 times within 25 %; the engine without splits is the negative control."""
    gain = point("unsplit", LONG).step_ps / point("cuda_graph", LONG).step_ps
    assert gain == pytest.approx(8, rel=0.25)


def test_a_step_with_split_kv_hardly_grows_with_the_context() -> None:
    """Up to 32k by less than a quarter; without splits it nearly triples."""
    grown = {
        engine: point(engine, 32_768).step_ps / point(engine, 512).step_ps
        for engine in ("cuda_graph", "unsplit")
    }
    assert grown["cuda_graph"] < 1.25
    assert grown["unsplit"] > 2.5
