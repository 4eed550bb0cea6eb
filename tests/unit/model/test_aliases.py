"""`sim.model.aliases`: ids of the hub, spelt anyhow, and nothing guessed."""

from pathlib import Path

import pytest

from sim.errors import ModelError
from sim.model.aliases import model_ids, model_named
from sim.model.importer import load_model
from sim.resources import model_dirs, named_models


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Qwen/Qwen3-32B", "qwen3-32b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
        ("qwen3-30b-a3b-instruct-2507", "qwen3-30b-a3b"),
        ("meta-llama/Llama-3.1-8B", "llama-3.1-8b"),
        ("LLAMA-7B", "llama-7b"),
    ],
)
def test_an_id_stands_for_a_shipped_model(written: str, name: str) -> None:
    """With or without the organisation, in any case."""
    assert load_model(written, search_dirs=model_dirs()).name == name


@pytest.mark.parametrize("written", ["Qwen/Qwen3-32B-Instruct", "someone/Qwen3-32B", "Qwen3-33B"])
def test_nothing_is_dropped_by_guessing(written: str) -> None:
    """Another suffix or organisation may be another model."""
    assert model_named(written, model_dirs()) == written


def test_an_unknown_id_gets_the_nearest() -> None:
    """Ids are among the suggestions."""
    with pytest.raises(ModelError, match=r"did you mean 'Qwen/Qwen3-32B'\?"):
        load_model("Qwen/Qwen3-31B", search_dirs=model_dirs())


def test_every_id_stands_for_a_model_that_is_there() -> None:
    """A slip in the list would be found by a user otherwise."""
    assert set(model_ids(model_dirs()).values()) <= set(named_models(model_dirs()))


def test_a_list_of_one_s_own_comes_first(tmp_path: Path) -> None:
    """The folder that is searched first wins, and a file in it that changes is read again."""
    path = tmp_path / "aliases.toml"
    path.write_text('mine = ["Qwen/Qwen3-32B"]\n')
    assert model_named("Qwen3-32B", [tmp_path, *model_dirs()]) == "qwen3-32b"
    assert model_ids([tmp_path, *model_dirs()])["Qwen/Qwen3-32B"] == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a = "b"\nc = [1]\nd = []\n', "a: is no list of ids (expected texts)"),
        ("a = [", "aliases.toml:1"),
    ],
)
def test_a_broken_list_is_told(tmp_path: Path, text: str, message: str) -> None:
    """With the key, as other files."""
    (tmp_path / "aliases.toml").write_text(text)
    with pytest.raises(ModelError) as caught:
        model_named("x", [tmp_path])
    assert message in str(caught.value)
