"""`sim.run.memo`: answers on disk, and every way in which the disk can fail."""

import sqlite3
from pathlib import Path

import pytest

from sim.run import memo as memo_module
from sim.run.memo import Memo, code_version, default_path, key_of, write

KEY, OTHER = key_of("question"), key_of("another question")


def remember(path: Path, **answers: object) -> None:
    """Write answers to the keys of their names."""
    memo = Memo(None)
    for name, answer in answers.items():
        memo.put(key_of(name), answer)
    write(path, memo.take_added())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a path whose folder does not exist yet."""
    return tmp_path / "cache" / "memo.sqlite"


def test_an_answer_survives_on_disk(path: Path) -> None:
    """A later process finds what an earlier one wrote, and nothing else."""
    remember(path, question=("an", {"answer": 1}))
    memo = Memo(path)
    assert memo.get(KEY) == ("an", {"answer": 1})
    assert memo.get(OTHER) is None
    memo.close()


def test_a_memo_without_a_disk_remembers_in_the_process() -> None:
    """And hands over what was added, once."""
    memo = Memo(None)
    memo.put(KEY, 42)
    assert memo.get(KEY) == 42
    assert [key for key, _ in memo.take_added()] == [KEY]
    assert memo.take_added() == []
    assert memo.get(KEY) == 42


def test_nothing_is_on_disk_before_it_is_written(path: Path) -> None:
    """Workers hand their answers back; one process writes."""
    memo = Memo(path)
    memo.put(KEY, 42)
    memo.close()
    assert not path.exists()
    write(path, memo.take_added())
    assert path.is_file()


def test_writing_nothing_makes_no_file(path: Path) -> None:
    """A run that only remembered leaves no trace."""
    write(path, [])
    assert not path.parent.exists()


def test_a_second_answer_replaces_the_first(path: Path) -> None:
    """Two workers that answer the same question do not collide."""
    remember(path, question=1)
    remember(path, question=2, more=3)
    memo = Memo(path)
    assert (memo.get(KEY), memo.get(key_of("more"))) == (2, 3)
    memo.close()


def test_a_corrupt_file_is_ignored_and_left_alone(path: Path) -> None:
    """Neither reading nor writing raises; the answer is worked out anew."""
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    memo = Memo(path)
    assert memo.get(KEY) is None
    memo.put(KEY, 1)
    write(path, memo.take_added())
    assert path.read_bytes() == b"this is no database" * 100


def test_a_database_of_something_else_is_ignored(path: Path) -> None:
    """A file without the memo's table knows nothing."""
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()
    assert Memo(path).get(KEY) is None


def test_a_memo_whose_table_vanishes_while_it_is_open_knows_nothing(path: Path) -> None:
    """An error of the disk is no answer."""
    remember(path, question=1)
    memo = Memo(path)
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE memo")
    connection.commit()
    connection.close()
    assert memo.get(KEY) is None
    memo.close()


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    """Results never depend on the memo."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "memo.sqlite"
    remember(path, question=1)
    assert Memo(path).get(KEY) is None


def test_a_path_that_cannot_be_opened_for_writing_is_no_error(tmp_path: Path) -> None:
    """Such as a folder in the place of the file."""
    path = tmp_path / "memo.sqlite"
    path.mkdir()
    remember(path, question=1)
    assert Memo(path).get(KEY) is None


def test_a_damaged_answer_is_ignored(path: Path) -> None:
    """A row that does not unpickle is as good as none."""
    write(path, [(KEY, b"\x80\x05 no pickle")])
    memo = Memo(path)
    try:
        assert memo.get(KEY) is None
    finally:
        memo.close()


def test_a_key_depends_on_every_part_of_the_question() -> None:
    """Order and type count: 1 is not "1"."""
    questions = [("run", 1), ("run", "1"), (1, "run"), ("run", 1, None), ("run", (1,))]
    assert len({key_of(*question) for question in questions}) == len(questions)
    assert key_of("run", 1) == key_of("run", 1)


def test_a_key_depends_on_the_source_of_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit asks everything anew."""
    before = key_of("question")
    monkeypatch.setattr(memo_module, "code_version", lambda: b"edited")
    assert key_of("question") != before


def test_the_code_version_covers_everything_below_the_run() -> None:
    """Scenario and command line are not part of a number; kernels, hardware and models are."""
    covered = set(memo_module._CODE)
    assert {"units.py", "kernel", "measure", "hardware", "model", "run"} <= covered
    assert not {"cli.py", "scenario"} & covered
    assert len(code_version()) == 32


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TOKENSTALL_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, Path("/a/memo.sqlite")),
        ({"XDG_CACHE_HOME": "/b"}, Path("/b/tokenstall/memo.sqlite")),
        ({"HOME": "/h"}, Path("/h/.cache/tokenstall/memo.sqlite")),
    ],
)
def test_the_memo_lives_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: Path
) -> None:
    """Or where TOKENSTALL_CACHE says."""
    for name in ("TOKENSTALL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_path() == expected
