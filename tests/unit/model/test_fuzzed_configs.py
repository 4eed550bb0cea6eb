"""Configurations with random damage: a Model or a ModelError, never anything else."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import ModelError
from sim.model.families.registry import BUILDERS
from sim.model.importer import load_model

MODELS = Path(__file__).parents[3] / "scenarios" / "models"


def _one_per_family() -> Iterator[tuple[str, dict[str, Any]]]:
    seen = set()
    for path in sorted(MODELS.glob("*/config.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["model_type"] not in seen:
            seen.add(data["model_type"])
            yield data["model_type"], data


FAMILIES = dict(_one_per_family())
WRONG = st.sampled_from(
    [None, 0, -1, 1, 3, 7, 2.5, float("inf"), "auto", "", "x", True, [], [1], ["x"], {}, {"a": 1}]
)


@given(data=st.data())
def test_a_damaged_file_gives_a_model_or_its_problems(data: st.DataObject) -> None:
    """A person never sees a traceback, whatever is missing or of the wrong type."""
    config = dict(FAMILIES[data.draw(st.sampled_from(sorted(FAMILIES)))])
    keys = data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=4))
    for key in keys:
        if data.draw(st.booleans()):
            config.pop(key, None)
        else:
            config[key] = data.draw(WRONG)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        try:
            outcome: int | ModelError = load_model(str(path), search_dirs=[]).parameters()
        except ModelError as error:
            outcome = error
    if isinstance(outcome, ModelError):
        assert {problem.file for problem in outcome.problems} == {str(path)}
    else:
        assert outcome > 0


@pytest.mark.parametrize("model_type", BUILDERS)
def test_an_almost_empty_file_of_any_family_is_refused(tmp_path: Path, model_type: str) -> None:
    """Every family says at least that the number of layers is missing."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    with pytest.raises(ModelError, match="num_hidden_layers: is missing"):
        load_model(str(path), search_dirs=[])
