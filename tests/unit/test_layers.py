"""The architecture is a test: contracts hold, they bite, and no module outgrows its concept."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 400

BREACHES = {
    "Imports point down": ("sim/kernel/breach.py", "import sim.run"),
    "Only hardware, the serving engine and run know SimPy": ("sim/model/breach.py", "import simpy"),
    "The simulator draws nothing": ("sim/measure/breach.py", "import matplotlib"),
    "The simulator does not know its analysis": ("sim/run/breach.py", "import analysis"),
}


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    return subprocess.run(
        [*command, "--no-cache"], cwd=root, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in ("sim", "analysis"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_keep_every_contract() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_contract_is_broken_by_its_breach_and_no_other(copy: Path) -> None:
    for name, line in BREACHES.values():
        (copy / name).write_text(f'"""A breach."""\n\n{line}\n')
    done = lint_imports(copy)
    assert done.returncode != 0
    for contract in BREACHES:
        assert f"{contract} BROKEN" in done.stdout
    assert f"0 kept, {len(BREACHES)} broken" in done.stdout


def test_a_new_module_that_no_layer_names_is_refused(copy: Path) -> None:
    (copy / "sim" / "stray.py").write_text('"""A module outside the layers."""\n')
    done = lint_imports(copy)
    assert done.returncode != 0
    assert "stray" in done.stdout


@pytest.mark.parametrize("package", ["sim", "analysis"])
def test_no_module_is_longer_than_400_lines(package: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / package).rglob("*.py")
    }
    assert lengths
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}
