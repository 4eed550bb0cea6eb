"""A measured vLLM run, simulated request by request from its spec, model and stated settings.

LLMServingSim @5daddb21, vLLM 0.19 on an RTX 4090, 300 requests; the cache is too small for them, so
that queueing, preemption and recomputation all count.
"""

import pytest

from sim.run.serve import execute_serve
from sim.run.serve_measured import compared
from sim.scenario.load import load_any
from sim.scenario.serve_scenario import ServeScenario

# Largest error that is accepted, and what is reached (2026-11-27), in per cent.
BOUNDS = {"mean TTFT": (15, 4.2), "mean TPOT": (8, 2.0), "duration": (5, 3.0)}
SLACK = 1.0


@pytest.mark.slow
def test_latencies_and_duration_are_those_of_the_real_server() -> None:
    """Within the bounds of the project, and near what was reached when they were pinned."""
    scenario = load_any("serve_vllm_measured")
    assert isinstance(scenario, ServeScenario)
    (one,) = execute_serve(scenario, memo=False).contestants
    errors = {number.name: abs(100 * number.error) for number in compared(one)}
    for name, (bound, reached) in BOUNDS.items():
        assert errors[name] <= bound
        assert errors[name] <= reached + SLACK
