"""`sim.run.execute`: all points, in order, however many processes and whatever is remembered."""

from pathlib import Path

import pytest

from sim.run import execute
from sim.run.result import Result
from tests.unit.run.scenarios import scenario

SMALL = scenario(batches=(4, 1), contexts=(1024, 128))
POINTS = [
    (model, batch, context)
    for model in ("qwen2.5-0.5b", "olmoe-1b-7b-0924")
    for batch in (4, 1)
    for context in (1024, 128)
]


@pytest.fixture(scope="module")
def result() -> Result:
    """Return the result of the small scenario, worked out in one process without a memo."""
    return execute(SMALL, memo=False)


def test_points_are_in_the_order_of_the_scenario(result: Result) -> None:
    """Contestants, then batches, then contexts, as written."""
    assert [(p.contestant, p.batch, p.context) for p in result.points] == POINTS
    assert (result.batches, result.contexts) == ((4, 1), (1024, 128))


def test_a_result_says_what_was_compared_on_what(result: Result) -> None:
    """Model, formats, sizes, chip, engine and seed."""
    dense, moe = result.contestants
    assert (result.name, result.title, result.engine, result.seed) == ("small", "Small", "test", 3)
    assert (dense.parameters, dense.active_parameters) == (494_032_768, 494_032_768)
    assert dense.weights_bytes == 2 * 494_032_768
    assert dense.kv_bytes_per_token == 24 * 2 * 2 * 64 * 2
    assert (dense.weight_format, dense.kv_format) == ("bf16", "bf16")
    assert moe.active_parameters < moe.parameters / 4
    assert (result.chip.name, result.chip.sm_count) == ("h100-sxm", 132)
    assert result.chip.tensor_flop_per_s["bf16"] == SMALL.hardware.tensor_flop_per_s["bf16"]


def test_progress_counts_points(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, result: Result
) -> None:
    """Nothing at first, then a group of contexts at a time; all at once where all is known."""
    monkeypatch.setenv("TOKENSTALL_CACHE", str(tmp_path))
    calls: list[tuple[int, int]] = []
    assert execute(SMALL, progress=lambda *at: calls.append(at)) == result
    assert calls == [(0, 8), (2, 8), (4, 8), (6, 8), (8, 8)]
    calls.clear()
    monkeypatch.setattr("sim.run.point.run_step", lambda *_: pytest.fail("simulated"))
    assert execute(SMALL, progress=lambda *at: calls.append(at)) == result
    assert calls == [(8, 8)]


@pytest.mark.parametrize("memo", [False, True])
def test_two_processes_get_what_one_gets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, result: Result, memo: bool
) -> None:
    """With and without a memo; what the workers found is on disk afterwards."""
    monkeypatch.setenv("TOKENSTALL_CACHE", str(tmp_path))
    assert execute(SMALL, jobs=2, memo=memo) == result
    assert (tmp_path / "memo.sqlite").exists() is memo


def test_a_memo_that_knows_some_points_is_completed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, result: Result
) -> None:
    """A smaller scenario first, then the whole one on top."""
    monkeypatch.setenv("TOKENSTALL_CACHE", str(tmp_path))
    execute(scenario(("qwen2.5-0.5b",), batches=(4,), contexts=(1024, 128)))
    calls: list[tuple[int, int]] = []
    assert execute(SMALL, progress=lambda *at: calls.append(at)) == result
    assert calls[0] == (2, 8)
