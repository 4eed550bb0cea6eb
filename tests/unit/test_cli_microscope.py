"""`python -m sim microscope`: what it prints and writes, and how it refuses."""

from pathlib import Path

import pytest

from sim.cli import main

TEXT = """
title = "Toy"
bytes = "8 KiB"
[[contestants]]
name = "a channel with a rather long name"
[[contestants]]
name = "b"
refresh = "per_bank"
[[patterns]]
kind = "streams"
name = "some streams"
streams = [1, 4]
chunk = ["64 B", "1 KiB"]
read_share = 0.5
"""


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(args)
    return int(caught.value.code or 0)


def test_tables_fit_80_columns_and_files_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "toy.toml"
    file.write_text(TEXT)
    assert run("microscope", str(file), "--out", str(tmp_path / "out"), "--jobs", "1") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "some streams, by chunk x streams:" in text
    assert "1 KiB 4" in text
    assert (tmp_path / "out" / "microscope.csv").exists()
    assert run("run", str(file), "--out", str(tmp_path / "out"), "--jobs", "1") == 0
    assert capsys.readouterr().out == text


def test_wrong_scenarios_end_with_2_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "toy.toml"
    file.write_text(TEXT.replace("per_bank", "per_bnk"))
    assert run("microscope", str(file), "--out", str(tmp_path / "out")) == 2
    assert "did you mean 'per_bank'?" in capsys.readouterr().err
    assert run("microscope", "moe_vs_dense", "--out", str(tmp_path / "out")) == 2
    assert "is no scenario for the microscope" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_shipped_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "scenarios") == 0
    assert capsys.readouterr().out.count("microscope_") == 3
