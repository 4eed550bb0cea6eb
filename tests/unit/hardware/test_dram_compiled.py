"""`sim.hardware.dram.compiled`: compiled code is kept for its source, where it can be kept."""

import subprocess
import sys
from pathlib import Path

import pytest

from sim.hardware.dram import compiled
from sim.hardware.dram.compiled import cache_folder

needs_numba = pytest.mark.skipif(compiled.numba is None, reason="needs the extra `fast`")


def test_any_change_of_the_source_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """A line in any file, a new name, another place: only the last is the same."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "a.py").write_text("x = 1\n")
    first = cache_folder(here)
    assert cache_folder(there) == first
    (here / "a.py").write_text("x = 2\n")
    second = cache_folder(here)
    (here / "a.py").rename(here / "b.py")
    assert len({first, second, cache_folder(here)}) == 3


def test_it_lies_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the memo, unless numba has a place of its own."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("TOKENSTALL_CACHE", str(tmp_path / "own"))
    assert cache_folder().parent == tmp_path / "own" / "numba"
    monkeypatch.delenv("TOKENSTALL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().parent == tmp_path / "tokenstall" / "numba"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "jit"))
    assert cache_folder().parent == tmp_path / "jit"


@needs_numba
@pytest.mark.parametrize("writable", [True, False])
def test_a_second_process_finds_the_code_if_it_could_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    """A file stands where the folder should be: nothing is kept, and all works."""
    cache = tmp_path / "cache"
    if not writable:
        cache.write_text("")
    monkeypatch.setenv("TOKENSTALL_CACHE", str(cache))
    program = tmp_path / "program.py"
    program.write_text(
        "from sim.hardware.dram.compiled import compile_function\n"
        "def twice(x):\n    return 2 * x\n"
        "code = compile_function(twice)\n"
        "print(code(21), sum(code.stats.cache_hits.values()))\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, str(program)], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert outputs == [["42", "0"], ["42", "1" if writable else "0"]]
