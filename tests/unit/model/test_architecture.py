"""What a model is made of, and how its parameters are counted."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from sim.model.architecture import Model
from sim.model.parameters import Vector

Load = Callable[[str], Model]

MODELS = Path(__file__).parents[3] / "scenarios" / "models"
with (MODELS / "PARAMS.tsv").open(encoding="utf-8") as _table:
    ROWS = tuple(csv.DictReader(_table, delimiter="\t"))
# transformers has no class of its own for Grok-1 and RWKV
COUNTED = tuple(row for row in ROWS if row["hf_meta_total"])


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_parameter_counts_equal_the_golden_table(load: Load, row: dict[str, str]) -> None:
    """Total and both active counts are the table's, to the last parameter."""
    model = load(row["name"])
    assert model.model_type == row["model_type"]
    assert model.parameters() == int(row["total"])
    assert model.active_parameters() == int(row["active_incl_all_embeddings"])
    without = model.active_parameters(input_embedding=False)
    assert without == int(row["active_excl_input_embedding"])


@pytest.mark.parametrize("row", COUNTED, ids=[row["name"] for row in COUNTED])
def test_only_router_correction_buffers_separate_the_total_from_transformers(
    load: Load, row: dict[str, str]
) -> None:
    """transformers counts no buffers, so its total lacks exactly the per-expert corrections."""
    corrections = sum(
        parameter.total
        for parameter in load(row["name"]).stored_parameters()
        if isinstance(parameter, Vector) and parameter.name == "router.correction"
    )
    assert int(row["total"]) - int(row["hf_meta_total"]) == corrections


def test_the_golden_table_covers_every_model_and_nothing_else() -> None:
    """A configuration without a row would be an untested one."""
    folders = {path.parent.name for path in MODELS.glob("*/config.json")}
    assert folders == {row["name"] for row in ROWS}


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("llama-3.1-8b", "dense"),
        ("mixtral-8x7b-v0.1", "MoE"),
        ("mistral-7b-v0.1", "sliding window"),
        ("phi-3.5-moe", "MoE"),
        ("qwen2.5-7b", "dense"),
        ("gpt-oss-20b", "MoE + sliding window"),
        ("mamba2-2.7b", "SSM"),
        ("rwkv7-g1-7.2b", "linear attention"),
        ("zamba2-7b", "hybrid"),
        ("recurrentgemma-9b", "hybrid"),
        ("deepseek-v3", "MoE + MLA"),
        ("qwen3-next-80b-a3b", "hybrid MoE"),
    ],
)
def test_the_family_word_names_what_dominates_memory(load: Load, name: str, family: str) -> None:
    """Windows that never bind (Phi-3.5-MoE, Qwen2.5) do not make a sliding-window model."""
    assert load(name).family == family


def test_a_shared_block_is_stored_once_and_active_at_every_use(load: Load) -> None:
    """Zamba2-7B runs 2 stored blocks 13 times, so more parameters are active than stored."""
    model = load("zamba2-7b")
    assert model.parameters() < model.active_parameters()


@pytest.mark.parametrize(
    ("name", "words"),
    [("deepseek-v3.2", "2048 tokens"), ("deepseek-v3", "Multi-token"), ("minimax-m2", "Multi")],
)
def test_notes_name_what_is_not_simulated(load: Load, name: str, words: str) -> None:
    """A model with a mechanism that is left out says so."""
    assert any(words in note for note in load(name).notes)


def test_equal_layers_are_equal_objects_for_lowering(load: Load) -> None:
    """Gemma 3 has two kinds of layer: windowed and full."""
    assert len(set(load("gemma-3-12b").layers)) == 2
