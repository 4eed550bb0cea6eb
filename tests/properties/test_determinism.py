"""Law: the same scenario and seed give the same bytes, however and wherever they are computed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sim.run.execute import execute
from sim.run.memo import default_path
from sim.run.write import write_result
from sim.scenario.load import load_scenario

DENSE = """
title = "tiny"
hardware = "h100-sxm"
seed = 11

[grid]
batch = [1, 3]
context = [64]

[[contestants]]
name = "dense"
model = "qwen2.5-0.5b"
weights = "fp8"
kv = "bf16"
"""
MOE = """
[[contestants]]
name = "MoE"
model = "olmoe-1b-7b-0924"
weights = "bf16"
kv = "bf16"
routing = { kind = "uniform", draws = 2 }
"""
RUN = """
import sys
from pathlib import Path
from sim.run.execute import execute
from sim.run.write import write_result
from sim.scenario.load import load_scenario

write_result(execute(load_scenario(sys.argv[1]), memo=False), Path(sys.argv[2]))
"""

Written = Callable[..., dict[str, bytes]]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Return a function that runs the scenario and returns what it wrote, file by file."""
    monkeypatch.setenv("TOKENSTALL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.toml").write_text(DENSE + MOE)
    (tmp_path / "dense.toml").write_text(DENSE)
    count = iter(range(100))

    def run(
        *overrides: str, scenario: str = "tiny", jobs: int = 1, memo: bool = False
    ) -> dict[str, bytes]:
        folder = tmp_path / f"out{next(count)}"
        result = execute(
            load_scenario(str(tmp_path / f"{scenario}.toml"), overrides), jobs=jobs, memo=memo
        )
        return {p.name: p.read_bytes() for p in write_result(result, folder)}

    return run


def test_the_same_seed_gives_the_same_bytes_in_one_process_and_in_two(written: Written) -> None:
    """Neither a second run nor a second process changes a byte of any file."""
    first = written()
    assert len(first) == 5
    assert written() == first
    assert written(jobs=2) == first


def test_the_memo_changes_no_byte(written: Written) -> None:
    """Without a memo, with an empty one and with a full one, by one process or two."""
    first = written()
    assert written(memo=True) == first
    assert default_path().is_file()
    assert written(memo=True) == first
    assert written(memo=True, jobs=2) == first


def test_the_order_of_hashes_changes_no_byte(written: Written, tmp_path: Path) -> None:
    """A process that hashes strings differently writes the same files."""
    first = written()
    out = tmp_path / "other"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", RUN, str(tmp_path / "tiny.toml"), str(out)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == first


def test_another_seed_gives_other_bytes(written: Written) -> None:
    """The comparison is not blind: a new seed routes tokens to other experts."""
    assert written("seed=12") != written()


def test_symmetry_off_writes_the_same_points(written: Written) -> None:
    """A whole scenario with one process per SM and channel gives the same tables."""
    first = written("grid.batch=[3]", scenario="dense")
    assert written("grid.batch=[3]", 'simulation.symmetry="off"', scenario="dense") == first
