"""`sim.resources`: where data lives, and what a name means."""

from pathlib import Path

import pytest

from sim.errors import InputError
from sim.resources import (
    by_alias,
    chip_dirs,
    data_dirs,
    display,
    engine_dirs,
    expected_names,
    find_file,
    find_trace,
    model_dirs,
    named_files,
    named_models,
    named_traces,
    scenario_dirs,
    trace_dirs,
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the current one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_checkout_has_its_data_beside_the_package(here: Path) -> None:
    """Every kind of data is found from any folder."""
    assert not list(here.iterdir())
    assert "h100-sxm" in named_files(chip_dirs())
    assert "moe_vs_dense" in named_files(scenario_dirs())
    assert "cuda_graph" in named_files(engine_dirs())
    assert "llama-3.1-8b" in named_models(model_dirs())
    assert "azure2023_code" in named_traces(trace_dirs())


def test_an_installed_package_has_its_data_inside(here: Path, tmp_path: Path) -> None:
    """A folder of the same name beside it in site-packages is somebody else's."""
    package = tmp_path / "site-packages" / "sim"
    inside = package / "_data" / "scenarios"
    inside.mkdir(parents=True)
    (package.parent / "scenarios").mkdir()
    assert data_dirs("scenarios", package=package) == (inside,)


def test_the_current_folder_comes_first(here: Path) -> None:
    """A local chip hides the shipped one of the same name."""
    mine = here / "hardware_specs" / "h100-sxm.toml"
    mine.parent.mkdir()
    mine.write_text("")
    assert named_files(chip_dirs())["h100-sxm"] == mine
    assert "h200-sxm" in named_files(chip_dirs())


def test_the_same_folder_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the root of a checkout the current folder is the shipped one."""
    monkeypatch.chdir(chip_dirs()[0].parent)
    assert len(chip_dirs()) == 1


def test_a_name_an_alias_and_a_path_mean_a_file(here: Path) -> None:
    """An alias is found however it is written."""
    path = here / "a-b.toml"
    path.write_text("")
    known, aliases = {"a-b": path}, by_alias([("Other_Name", "a-b")])
    assert find_file("a-b", known, what="chip") == path
    assert find_file("other-name", known, what="chip", aliases=aliases) == path
    assert find_file("./a-b.toml", {}, what="chip") == Path("a-b.toml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a_c", "a_c: unknown chip (expected a path or one of a-b; did you mean 'a-b'?)"),
        ("b.toml", "b.toml: no such file"),
        ("x/y", "x/y: no such file"),
    ],
)
def test_what_means_no_file_is_a_problem(here: Path, name: str, message: str) -> None:
    """A bare name is misspelt, a path is missing."""
    with pytest.raises(InputError) as caught:
        find_file(name, {"a-b": here / "a-b.toml"}, what="chip")
    assert str(caught.value) == message


def test_many_names_are_not_listed() -> None:
    """Then the command that lists them is told."""
    assert expected_names(["x"] * 13, what="model") == (
        "a path or one of the 13 names of `python -m sim list models`"
    )
    assert expected_names([], what="chip") == "a path or one of no names: none was found"


def test_a_path_is_shown_as_a_person_would_write_it(here: Path, tmp_path: Path) -> None:
    """Relative below the current folder, as it is elsewhere."""
    assert display(here / "a" / "b.toml") == "a/b.toml"
    assert display(tmp_path / "b.toml") == str(tmp_path / "b.toml")


@pytest.fixture
def traces(here: Path) -> Path:
    """Make a folder with a trace of each kind, and two things that are none."""
    folder = here / "scenarios" / "traces"
    for name in ("run/requests.jsonl", "packed_run/requests.jsonl.gz", "notes/x.txt"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("")
    for name in ("chat.csv", "chat.jsonl", "code.csv.gz", "README.md"):
        (folder / name).write_text("")
    return folder


def test_a_trace_is_named_by_its_file_or_by_the_folder_of_its_run(traces: Path) -> None:
    """Of two files with the same name the first by suffix wins."""
    assert named_traces([traces]) == {
        "chat": traces / "chat.csv",
        "code": traces / "code.csv.gz",
        "packed_run": traces / "packed_run",
        "run": traces / "run",
    }
    assert traces in trace_dirs()


def test_a_trace_is_found_by_name_and_by_path(traces: Path, here: Path) -> None:
    """A folder in the current one is found as well, after the names."""
    (here / "mine").mkdir()
    (here / "mine" / "requests.jsonl").write_text("")
    assert find_trace("code", [traces]) == traces / "code.csv.gz"
    assert find_trace("mine", [traces]) == Path("mine")
    assert find_trace(str(traces / "run"), []) == traces / "run"
    assert find_trace("mine/requests.jsonl", []) == Path("mine/requests.jsonl")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cod",
            "cod: unknown trace (expected a path or one of chat, code, packed_run, run; "
            "did you mean 'code'?)",
        ),
        ("cod.csv.gz", "cod.csv.gz: no such file"),
        (
            "scenarios/traces/chat.cvs",
            "scenarios/traces/chat.cvs: no such file (did you mean 'chat.csv'?)",
        ),
    ],
)
def test_what_means_no_trace_is_a_problem(traces: Path, name: str, message: str) -> None:
    """A bare name is misspelt, a path is missing."""
    with pytest.raises(InputError) as caught:
        find_trace(name, [traces])
    assert str(caught.value) == message
