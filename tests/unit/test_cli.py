"""`sim.cli`: commands, exit codes, and nothing half written."""

import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest

import sim.cli as command_line
from sim import cli_run
from sim.errors import InputError, InvariantError, Problem
from sim.run.result import Result
from sim.scenario.scenario import ReportOptions

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--set", "grid.batch=[1]", "--set", "grid.context=[512]", "--jobs", "1", "--no-memo")
SCENARIO = """\
title = "One small model"
hardware = "h100-sxm"
[grid]
batch = [1]
context = [512]
[[contestants]]
model = "llama-3.2-1b"
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Return a function that runs a command in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SCENARIO)

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            command_line.main(args)
        out, err = capsys.readouterr()
        return int(str(caught.value.code)), out, err

    return run


def test_help_comes_at_once() -> None:
    """Less than 0.4 s for the best of three, and none of the slow packages is imported."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        command = [sys.executable, "-m", "sim", "--help"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.4
    code = "import sys, sim.cli; print([m for m in sys.modules if '.' not in m])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert not {"pydantic", "rich", "numpy", "simpy", "networkx"} & set(eval(done.stdout))


def test_the_version_is_told(call: Call) -> None:
    """The name of the program and a number."""
    code, out, _ = call("--version")
    assert (code, out.split()[0]) == (0, "tokenstall")


def test_a_run_writes_and_tells(call: Call, tmp_path: Path) -> None:
    """Table on stdout, files in results/NAME, nothing beside them."""
    code, out, err = call(
        "run", "small.toml", "--jobs", "1", "--no-memo", "--set", "report.report=false"
    )
    assert (code, err) == (0, "")
    assert out.startswith("One small model\nNVIDIA H100 SXM 80 GB, engine cuda_graph, decode\n")
    assert " files in results/small: ledger.csv, " in out
    assert max(map(len, out.split("\n"))) <= 80
    assert (tmp_path / "results" / "small" / "result.json").is_file()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["small"]


def test_wrong_input_ends_with_2_and_all_problems(call: Call) -> None:
    """On stderr, counted, and nothing is written."""
    code, out, err = call("run", "small.toml", "--set", "seed=-1", "--set", "grid.batch=[]")
    assert (code, out) == (2, "")
    assert err.split("\n") == [
        "--set seed: seed = -1: is too small (expected 0 or more)",
        "--set grid.batch: grid.batch = []: is too short (expected 1 or more values)",
        "2 problems, nothing was run",
        "",
    ]
    assert not Path("results").exists()


def test_a_misspelt_option_ends_with_2(call: Call) -> None:
    """Click tells what there is."""
    code, _, err = call("run", "small.toml", "--sett", "a=b")
    assert code == 2
    assert "--sett" in err


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "\ninterrupted; nothing was written"),
        (
            InvariantError("time ran backwards"),
            3,
            "This is a bug in tokenstall, please report it: time ran backwards",
        ),
        (
            InputError([Problem(file="f", message="is wrong")]),
            2,
            "f: is wrong\n1 problem, nothing was run",
        ),
    ],
)
def test_what_ends_a_run_early_is_told(
    call: Call, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, message: str
) -> None:
    """Each has its exit code; no traceback, no file."""

    def execute(*_: object, **__: object) -> Result:
        raise raised

    monkeypatch.setattr(cli_run, "execute", execute)
    assert call("run", "small.toml") == (code, "", f"{message}\n")
    assert not Path("results").exists()


def test_an_interrupted_report_leaves_the_old_results(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers work in a folder of their own, which vanishes."""
    Path("out").mkdir()
    Path("out/result.json").write_text("old")

    def writer(_: Result, folder: Path) -> list[Path]:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_run, "report_writers", lambda _: [writer])
    code, _, _ = call("run", "small.toml", "--out", "out", *TINY)
    assert code == 130
    assert sorted(path.name for path in Path().iterdir()) == ["out", "small.toml"]
    assert [path.read_text() for path in Path("out").iterdir()] == ["old"]


def test_a_folder_with_other_files_is_not_written_to(call: Call) -> None:
    """Unless forced; then the other files stay."""
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    code, _, err = call("run", "small.toml", "--out", "out", *TINY)
    assert code == 2
    assert err.split("\n")[0] == (
        "out: holds files that are not results "
        "(expected an empty folder, an earlier result, or --force)"
    )
    call("run", "small.toml", "--out", "out", "--force", "--set", "report.report=false", *TINY)
    assert Path("out/mine.txt").read_text() == "mine"
    assert Path("out/result.json").is_file()


def test_a_file_in_place_of_the_folder_is_a_problem(call: Call) -> None:
    """It is not overwritten, not even by force."""
    Path("out").write_text("mine")
    _, _, err = call("run", "small.toml", "--out", "out", "--force")
    assert err.split("\n")[0] == "out: is not a folder"


def test_reports_come_from_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their names, without those that the scenario switches off."""
    entries = [
        EntryPoint(name=name, value=f"operator:{function}", group="tokenstall.reports")
        for name, function in (("report", "add"), ("figures", "sub"), ("other", "mul"))
    ]
    monkeypatch.setattr(cli_run, "entry_points", lambda group: entries)
    on = [w.__name__ for w in cli_run.report_writers(ReportOptions())]
    off = [w.__name__ for w in cli_run.report_writers(ReportOptions(report=False))]
    assert (on, off) == (["sub", "mul", "add"], ["sub", "mul"])


def test_commands_come_from_entry_points(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """An added command is listed, and imported when it is called."""

    class Added:
        name = "added"

        def load(self) -> click.Command:
            return click.Command("added", callback=lambda: click.echo("hello"))

    monkeypatch.setattr(command_line, "_added", lambda: {"added": Added()})
    assert "added" in call("--help")[1]
    assert call("added") == (0, "hello\n", "")


def test_everything_that_can_be_named_is_listed(call: Call) -> None:
    """One kind, or all of them, within 80 columns."""
    code, out, _ = call("list", "chips")
    assert code == 0
    lines = [line.split(maxsplit=1) for line in out.split("\n")]
    assert ["h100-sxm", "NVIDIA H100 SXM 80 GB"] in lines
    out = call("list")[1]
    headings = [line for line in out.split("\n") if line.endswith(":") and " " not in line]
    assert headings == ["chips:", "models:", "engines:", "scenarios:"]
    assert max(map(len, out.split("\n"))) <= 80


def test_a_chip_is_shown_with_its_sources(call: Call) -> None:
    """As written in its spec, each number followed by where it comes from."""
    lines = call("show", "chip", "H100_SXM")[1].split("\n")
    assert lines[0] == "h100-sxm: NVIDIA H100 SXM 80 GB (hopper, HBM3, NVLink 4)"
    at = lines.index("count = 132 (spec)")
    assert lines[at - 1] == "[sm]"
    assert lines[at + 1].startswith("    NVIDIA")


def test_the_tables_within_a_chip_s_link_are_shown(call: Call) -> None:
    """A table in a table has a heading of its own."""
    lines = call("show", "chip", "l40s")[1].split("\n")
    at = lines.index("[link.socket]")
    assert lines[at + 1] == "ranks = 4 (estimate)"


def test_a_model_is_shown_with_its_layers(call: Call) -> None:
    """Parameters, experts and each kind of layer once."""
    lines = call("show", "model", "qwen3-30b-a3b")[1].split("\n")
    assert lines[0] == "qwen3-30b-a3b (qwen3_moe)"
    assert "parameters        30,532,122,624" in lines
    assert "experts           8 of 128 per token" in lines
    assert "48 x AttentionMixer, then Moe" in lines


@pytest.mark.parametrize(("what", "name"), [("chip", "h10-sxm"), ("model", "llama-3.1-8")])
def test_an_unknown_name_is_told_with_the_nearest(call: Call, what: str, name: str) -> None:
    """Exit code 2 like any wrong input."""
    code, _, err = call("show", what, name)
    assert code == 2
    assert err.startswith(f"{name}: unknown {what} (expected a path or one of ")
    assert "did you mean" in err
