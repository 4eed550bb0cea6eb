"""What a person gets who installs the wheel: the data, the entry points, and a run that works."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--set", "grid.batch=[1]", "--set", "grid.context=[512]")
WRITTEN = ("result.json", "points.csv", "ledger.csv", "report.html")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    hidden = ("PYTHONPATH", "PYTHONHOME", "COV_CORE_SOURCE", "COVERAGE_PROCESS_START")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", out, ROOT, cwd=out)
    (built,) = out.glob("tokenstall-*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an empty environment into which the wheel was installed."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, with_pip=True)
    interpreter = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(interpreter, "-m", "pip", "install", "--quiet", wheel, cwd=home)
    return interpreter


def metadata(wheel: Path, name: str) -> str:
    archive = zipfile.ZipFile(wheel)
    (found,) = (n for n in archive.namelist() if n.endswith(f".dist-info/{name}"))
    return archive.read(found).decode()


def test_the_wheel_carries_every_data_file(names: set[str]) -> None:
    for folder in ("hardware_specs", "scenarios"):
        files = {
            f"sim/_data/{path.relative_to(ROOT).as_posix()}"
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }
        assert files
        assert files <= names


def test_the_wheel_holds_two_packages_and_nothing_else(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"sim", "analysis"}


def test_the_wheel_names_its_licence_command_and_report(wheel: Path) -> None:
    about = Parser().parsestr(metadata(wheel, "METADATA"))
    assert about["License-Expression"] == "Apache-2.0"
    assert set(about.get_all("License-File", [])) == {"LICENSE", "NOTICE"}
    entries = ConfigParser()
    entries.read_string(metadata(wheel, "entry_points.txt"))
    assert dict(entries["console_scripts"]) == {"tokenstall": "sim.cli:main"}
    assert dict(entries["tokenstall.reports"]) == {"report": "analysis.report:write"}


@pytest.mark.parametrize("scenario", ["moe_vs_dense", str(ROOT / "scenarios/moe_vs_dense.toml")])
def test_the_installed_job_runs_from_another_folder(
    python: Path, tmp_path: Path, scenario: str
) -> None:
    run(python, "-m", "sim", "run", scenario, "--out", tmp_path / "out", *SMALL, cwd=tmp_path)
    missing = [name for name in WRITTEN if not (tmp_path / "out" / name).stat().st_size]
    assert missing == []
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["batches"], result["contexts"]) == ([1], [512])


def test_the_installed_command_answers(python: Path, tmp_path: Path) -> None:
    assert "run" in run(python.with_name("tokenstall"), "--help", cwd=tmp_path).stdout
