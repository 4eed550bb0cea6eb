"""`analysis.command`: wrong input is told in lines, exit code 2, and never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("l2_sweep", "nochip"), "nochip: unknown chip"),
        (
            ("calibrate", "nochip", ".", "--op", "gemm", "--parameter", "l2.bandwidth"),
            "nochip: unknown chip",
        ),
    ],
)
def test_an_unknown_chip_is_a_sentence(words: tuple[str, ...], told: str) -> None:
    module, *rest = words
    done = subprocess.run(
        [sys.executable, "-m", f"analysis.{module}", *rest],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(told)
    assert "Traceback" not in done.stderr


def test_every_wrong_row_of_curves_is_told_with_its_line(tmp_path: Path) -> None:
    """A configuration and a map that nobody knows, and a number that is none."""
    curves, out = tmp_path / "curves.csv", tmp_path / "out.csv"
    head = "experiment,config,mapping,pattern,n_streams,chunk_bytes,read_frac,offered_load,"
    rows = (
        "a,hbm9_1,bglow,seq,1,128,1.0,0,0.5,9",
        "a,hbm2_2000_refab,nomap,seq,1,128,1.0,0,0.5,9",
        "a,hbm2_2000_refab,bglow,seq,1,128,1.0,0,half,9",
        "a,hbm2_2000_refab,bglow,seq,1,128,1.0,0,0.5,9",
    )
    curves.write_text("\n".join((head + "bandwidth_fraction,mean_latency_ns", *rows)) + "\n")
    command = ["-m", "analysis.dram_reference", str(curves), "--out", str(out)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{curves}:2: unknown configuration 'hbm9_1'",
        f"{curves}:3: knows no map 'nomap'",
        f"{curves}:4: could not convert string to float: 'half'",
    ]
    assert not out.exists()
