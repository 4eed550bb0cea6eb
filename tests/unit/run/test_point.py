"""`sim.run.point`: what a point needs, and what comes of it."""

from dataclasses import replace

import pytest

from sim.hardware.address_map import Placement
from sim.run.memo import Memo
from sim.run.point import PointRunner, build_device
from sim.run.result import MemoryNeed
from sim.scenario.scenario import Scenario
from tests.unit.run.scenarios import scenario

DENSE = "qwen2.5-0.5b"


def runner(chosen: Scenario | None = None, memo: Memo | None = None) -> PointRunner:
    """Return a runner of the first contestant."""
    whole = chosen or scenario((DENSE,))
    device = build_device(whole, memo or Memo(None))
    return PointRunner(scenario=whole, contestant=whole.contestants[0], device=device)


def test_a_point_needs_weights_cache_and_activations() -> None:
    """494 million parameters, head tied; 24 layers x K and V x 2 heads x 64 values, in bf16."""
    need = runner().run(4, 128).memory
    assert need.weights_bytes == 2 * 494_032_768
    assert need.kv_bytes == 4 * 128 * 24 * 2 * 2 * 64 * 2
    assert need.state_bytes == 0
    # The logits alone are 4 x 151,936 values.
    assert need.activations_bytes > 4 * 151_936 * 2
    assert need.capacity_bytes == scenario((DENSE,)).hardware.hbm_bytes
    assert need.fits


@pytest.mark.parametrize(("capacity", "fits"), [(99, False), (100, True)])
def test_a_point_fits_up_to_the_last_byte(capacity: int, fits: bool) -> None:
    """Weights 50, cache 30, state 15, activations 5."""
    need = MemoryNeed(
        weights_bytes=50,
        kv_bytes=30,
        state_bytes=15,
        activations_bytes=5,
        capacity_bytes=capacity,
    )
    assert need.total_bytes == 100
    assert need.fits is fits


def test_metrics_follow_from_step_bytes_and_flop() -> None:
    """Rates are per second of the step, utilisations against the chip's peak."""
    result = runner().run(4, 128)
    spec = scenario((DENSE,)).hardware
    seconds = result.step_ps / 1e12
    hbm = sum(row.size_bytes for row in result.traffic if row.level == "hbm")
    assert sum(result.ledger_ps.values()) == result.step_ps > 0
    assert result.tokens_per_s == pytest.approx(4 / seconds, rel=1e-12)
    assert result.mbu == pytest.approx(hbm / spec.hbm_bytes_per_s / seconds, rel=1e-12)
    assert result.mfu == pytest.approx(
        result.flop / spec.tensor_flop_per_s["bf16"] / seconds, rel=1e-12
    )
    assert result.roofline_ps == -(-hbm * 10**12 // spec.hbm_bytes_per_s)
    assert result.roofline_ps < result.step_ps
    assert result.ledger_ps[result.bound] == max(result.ledger_ps.values())
    assert sum(row.flop for row in result.operators) == result.flop
    assert result.fits


def test_every_weight_of_a_dense_model_is_read_from_hbm_once() -> None:
    """A step cannot be faster than its weights, nor read them twice; the embedding is a row."""
    result = runner().run(1, 128)
    read = sum(
        row.size_bytes
        for row in result.traffic
        if (row.traffic, row.level, row.direction) == ("weights", "hbm", "read")
    )
    assert read == pytest.approx(2 * 494_032_768, rel=1e-3)


def test_a_point_that_does_not_fit_is_a_result_without_a_simulation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The need is told, everything else is empty."""
    whole = scenario((DENSE,))
    small = replace(whole, hardware=replace(whole.hardware, hbm_bytes=10**9))
    monkeypatch.setattr("sim.run.point.run_step", lambda *_: pytest.fail("simulated"))
    result = runner(small).run(4, 100_000)
    assert not result.fits
    assert result.memory.total_bytes > 10**9 == result.memory.capacity_bytes
    assert (result.contestant, result.batch, result.context) == (DENSE, 4, 100_000)
    assert (result.step_ps, result.roofline_ps, result.flop) == (0, 0, 0)
    assert (result.tokens_per_s, result.mbu, result.mfu) == (0.0, 0.0, 0.0)
    assert (result.bound, result.ledger_ps, result.traffic, result.operators) == ("", {}, (), ())


def test_a_point_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another runner with the same memo and question does not simulate it again."""
    memo = Memo(None)
    first = runner(memo=memo)
    assert first.recall(1, 128) is None
    result = first.run(1, 128)
    monkeypatch.setattr("sim.run.point.run_step", lambda *_: pytest.fail("simulated"))
    assert runner(memo=memo).run(1, 128) == result == runner(memo=memo).recall(1, 128)


def test_seed_engine_chip_and_point_are_part_of_the_question() -> None:
    """Each of them asks anew."""
    memo = Memo(None)
    whole = scenario((DENSE,))
    runner(whole, memo).run(1, 128)
    engine = replace(whole.engine, host_time_ps=1)
    hardware = replace(whole.hardware, l2_latency_ps=1)
    for other in (
        replace(whole, seed=4),
        replace(whole, engine=engine),
        replace(whole, hardware=hardware),
    ):
        assert runner(other, memo).recall(1, 128) is None
    assert runner(whole, memo).recall(1, 129) is None
    assert runner(whole, memo).recall(2, 128) is None
    assert runner(replace(whole, title="Another title"), memo).recall(1, 128) is not None


def test_the_knobs_of_a_scenario_reach_the_device() -> None:
    """Symmetry, request size and chip."""
    whole = scenario((DENSE,))
    knobs = replace(whole.simulation, symmetry=False, granule_bytes=4096)
    device = build_device(replace(whole, simulation=knobs), Memo(None))
    assert (device.gpu.symmetry, device.gpu.granule_bytes) == (False, 4096)
    assert device.gpu.spec is whole.hardware
    assert device.engine is whole.engine


def test_a_placement_reaches_the_device_and_is_part_of_the_question() -> None:
    """The scenario's seed shuffles; without a placement the map is the even one of before."""
    whole, memo = scenario((DENSE,)), Memo(None)
    hashed = Placement(address_map="hashed")
    gpu = build_device(whole, memo, hashed).gpu
    assert gpu.address_map == hashed.on(whole.hardware, whole.seed)
    assert build_device(whole, memo).gpu.address_map is None
    assert gpu.fingerprint() != build_device(whole, memo).gpu.fingerprint()
    in_order = replace(hashed, kv_pages="in_order")
    assert gpu.fingerprint() != build_device(whole, memo, in_order).gpu.fingerprint()


def test_several_gpus_share_memory_and_time() -> None:
    """Two GPUs each hold half of the cache and all matrices, read half, and are faster together."""
    whole = scenario(("qwen3-8b",))
    two = replace(whole, contestants=(replace(whole.contestants[0], tensor_parallel=2),))
    alone, shared = (runner(chosen).run(4, 1024) for chosen in (whole, two))
    assert shared.memory.kv_bytes == alone.memory.kv_bytes // 2
    assert shared.memory.weights_bytes == pytest.approx(alone.memory.weights_bytes / 2, rel=1e-3)
    assert shared.flop == pytest.approx(alone.flop / 2, rel=0.01)
    assert shared.tokens_per_s == pytest.approx(4e12 / shared.step_ps)
    assert shared.step_ps < alone.step_ps
    assert sum(shared.ledger_ps.values()) == shared.step_ps
    assert shared.ledger_ps["link"] > 0 == alone.ledger_ps["link"]
