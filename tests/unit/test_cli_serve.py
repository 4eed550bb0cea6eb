"""`sim run` of a serving scenario, and `sim explain`: whole files, 80 columns, exit codes."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import sim.cli as command_line
from sim.measure.causes import REQUEST_CAUSES

SCENARIO = """\
title = "A few requests"
hardware = "h100-sxm"
model = "llama-3.2-1b"
seed = 1
[serve]
max_num_seqs = 4
max_num_batched_tokens = 128
[serve.traffic]
requests = 12
arrivals = { law = "poisson", rate_per_s = 200 }
input_tokens = { law = "uniform", least = 20, most = 200 }
output_tokens = { law = "uniform", least = 2, most = 12 }
[serve.slo]
ttft = "20 ms"
[report]
report = false
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a small scenario was run, with a contestant of its own settings."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "few.toml").write_text(SCENARIO)
    with pytest.raises(SystemExit) as caught:
        command_line.main(
            ["run", str(folder / "few.toml"), "--out", str(folder / "out"), "--jobs", "1",
             "--no-memo"]
        )  # fmt: skip
    assert caught.value.code == 0
    return folder / "out"


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Return a function that runs a command in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKENSTALL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "few.toml").write_text(SCENARIO)

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            command_line.main(args)
        out, err = capsys.readouterr()
        return int(str(caught.value.code)), out, err

    return run


def _rows(results: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((results / "requests.csv").read_text().splitlines()))


def test_every_request_has_a_row_whose_causes_sum_to_its_time(results: Path) -> None:
    """Twelve rows, a column per cause."""
    rows = _rows(results)
    assert len(rows) == 12
    for row in rows:
        causes = [int(row[f"cause_{cause}_ps"]) for cause in REQUEST_CAUSES]
        assert sum(causes) == int(row["e2e_ps"])
        assert row["outcome"] == "finished"


def test_serve_json_counts_what_was_asked(results: Path) -> None:
    """Tokens out are the tokens asked for."""
    told = json.loads((results / "serve.json").read_text())
    rows = _rows(results)
    assert told["completed"] == 12
    assert told["total_output_tokens"] == sum(int(row["output_tokens"]) for row in rows)


def test_a_run_tells_its_tables_in_80_columns(call: Call) -> None:
    """And how many files there are."""
    code, out, _ = call("run", "few.toml", "--jobs", "1", "--set", "serve.limit=3")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "4 files in results/few: requests.csv, serve.json, summary.json" in out


def test_an_exact_run_is_the_interpolated_one_within_two_per_cent(call: Call) -> None:
    """The device runs every step of three requests."""
    ends = {}
    for exact in ("false", "true"):
        code, _, _ = call(
            "run", "few.toml", "--jobs", "1", "--set", f"serve.exact={exact}",
            "--set", "serve.limit=3", "--out", exact,
        )  # fmt: skip
        assert code == 0
        ends[exact] = json.loads(Path(exact, "serve.json").read_text())["duration"]
    assert ends["false"] == pytest.approx(ends["true"], rel=0.02)


def test_explain_says_where_a_request_spent_its_time(results: Path, call: Call) -> None:
    """By number, or the slowest."""
    code, out, _ = call("explain", str(results), "--request", "slowest")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    code, _, err = call("explain", str(results), "--request", "99")
    assert code == 2
    assert "11" in err


def test_contestants_have_a_folder_each(call: Call, tmp_path: Path) -> None:
    """With the files of a run in it."""
    more = '[[contestants]]\nname = "one"\n[[contestants]]\nname = "two"\n'
    (tmp_path / "few.toml").write_text(SCENARIO + more)
    code, out, _ = call("run", "few.toml", "--jobs", "2", "--set", "serve.limit=3")
    assert code == 0
    assert (tmp_path / "results/few/one/requests.csv").is_file()
    assert (tmp_path / "results/few/two/serve.json").is_file()
    assert "two" in out
