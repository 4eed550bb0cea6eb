"""Bytes by class of whole decode steps against arithmetic done by hand from the model cards."""

from collections import Counter

import pytest

from sim.run.draws import routing_draws
from sim.run.memo import Memo
from sim.run.point import PointRunner, build_device
from sim.run.result import PointResult
from sim.scenario.load import load_scenario


def runner(model: str) -> PointRunner:
    """Return a runner of one model in bf16 on an H100."""
    scenario = load_scenario(
        "moe_vs_dense", [f"contestants.0.model={model}", "grid.batch=[1]", "grid.context=[64]"]
    )
    device = build_device(scenario, Memo(None))
    return PointRunner(scenario=scenario, contestant=scenario.contestants[0], device=device)


def dense(model: str) -> PointRunner:
    """Return a runner of a model without experts."""
    scenario = load_scenario(
        "moe_vs_dense", [f"contestants.1.model={model}", "grid.batch=[1]", "grid.context=[64]"]
    )
    device = build_device(scenario, Memo(None))
    return PointRunner(scenario=scenario, contestant=scenario.contestants[1], device=device)


def moved(point: PointResult) -> Counter[tuple[str, str, str]]:
    """Return the bytes of a point by (class, level, direction)."""
    return Counter({(r.traffic, r.level, r.direction): r.size_bytes for r in point.traffic})


def test_a_dense_step_reads_its_matrices_once_and_its_cache_once() -> None:
    """Llama-3.1-8B: 8.030 G parameters less the 0.525 G token table, and 128 KiB a token of KV."""
    bytes_of = moved(dense("llama-3.1-8b").run(4, 1024))
    matrices = 2 * (8_030_261_248 - 128_256 * 4096)
    kv = 4 * 1024 * 32 * 2 * 8 * 128 * 2
    assert bytes_of["weights", "hbm", "read"] == pytest.approx(matrices, rel=1e-3)
    # The last token of each sequence was just appended: it is in L2 and not read from HBM.
    assert bytes_of["kv", "hbm", "read"] == pytest.approx(kv * 1023 / 1024, rel=1e-3)
    assert bytes_of["state", "hbm", "read"] == 0
    assert bytes_of["experts", "hbm", "read"] == 0


def test_a_moe_step_reads_the_experts_that_were_hit_and_no_other() -> None:
    """Qwen3-30B-A3B: every hit expert is three matrices of 2048 x 768, in each of 48 layers."""
    moe = runner("qwen3-30b-a3b")
    bytes_of = moved(moe.run(4, 512))
    draws = routing_draws(moe.scenario.seed, moe.contestant, 4)
    hit = sum(sum(count > 0 for count in draws[layer % len(draws)]) for layer in range(48))
    assert 48 * 8 < hit < 48 * 32
    expected = hit * 3 * 2048 * 768 * 2
    assert bytes_of["experts", "hbm", "read"] == pytest.approx(expected, rel=1e-3)


def test_an_ssm_step_reads_and_writes_its_state_and_has_no_cache() -> None:
    """Falcon-Mamba-7B: 64 layers x 8192 channels x 16 fp32 states, and 4 taps of convolution."""
    bytes_of = moved(dense("falcon-mamba-7b").run(8, 4096))
    state = 8 * 64 * 8192 * (16 * 4 + 4 * 2)
    assert bytes_of["state", "l2", "read"] == pytest.approx(state, rel=0.03)
    assert bytes_of["state", "l2", "write"] == pytest.approx(state, rel=0.03)
    assert bytes_of["state", "hbm", "read"] == pytest.approx(state, rel=0.03)
    assert bytes_of["kv", "l2", "read"] == 0


def test_a_window_keeps_the_bytes_of_a_step_flat_beyond_it() -> None:
    """Mistral-7B-v0.1 reads 4,096 tokens of KV a layer, whether 4,096 or 16,384 are in context."""
    mistral = dense("mistral-7b-v0.1")
    short, within, beyond = (mistral.run(2, context) for context in (1024, 4096, 16384))
    assert moved(within) == moved(beyond)
    assert within.step_ps == beyond.step_ps
    kv = ("kv", "l2", "read")
    assert moved(within)[kv] == pytest.approx(4 * moved(short)[kv], rel=1e-3)


def test_an_ssm_step_is_as_long_at_any_context() -> None:
    """Nothing of a state grows with the tokens that it has seen."""
    mamba = dense("falcon-mamba-7b")
    assert mamba.run(1, 512).step_ps == mamba.run(1, 131072).step_ps
