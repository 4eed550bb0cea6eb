"""Reading configurations: what is found, what is assumed, and what a person is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sim.errors import ModelError
from sim.model.architecture import Model
from sim.model.attention import AttentionMixer
from sim.model.importer import known_models, load_model

Load = Callable[[str], Model]

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 100,
}
MODELS = Path(__file__).parents[3] / "scenarios" / "models"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write_config(**changes: object) -> str:
        folder = tmp_path / "tiny"
        folder.mkdir(exist_ok=True)
        path = folder / "config.json"
        data = {key: value for key, value in (LLAMA | changes).items() if value != "ABSENT"}
        path.write_text(json.dumps(data), encoding="utf-8")
        return str(path)

    return write_config


def refused(path: str) -> str:
    """Return what the importer says about a file that it must refuse."""
    with pytest.raises(ModelError) as caught:
        load_model(path, search_dirs=[])
    return str(caught.value)


def test_a_name_a_folder_and_a_file_load_the_same_model() -> None:
    """The three ways to name a model agree."""
    by_name = load_model("qwen3-8b", search_dirs=[MODELS])
    assert by_name == load_model(str(MODELS / "qwen3-8b"), search_dirs=[])
    assert by_name == load_model(str(MODELS / "qwen3-8b" / "config.json"), search_dirs=[])
    assert by_name.name == "qwen3-8b"


def test_search_dirs_are_tried_in_order(write: Callable[..., str], tmp_path: Path) -> None:
    """A model of one's own is found beside the shipped ones."""
    write()
    model = load_model("tiny", search_dirs=[MODELS, tmp_path])
    assert (model.hidden, len(model.layers)) == (64, 2)
    assert known_models([tmp_path]) == ("tiny",)


def test_an_unknown_name_gets_the_nearest_match() -> None:
    """The folders searched are named too."""
    with pytest.raises(ModelError, match=r"qwen3-8: is no model .*did you mean 'qwen3-8b'\?"):
        load_model("qwen3-8", search_dirs=[MODELS])


def test_an_unknown_model_type_names_key_value_and_the_nearest(write: Callable[..., str]) -> None:
    """The supported list stands in the message."""
    path = write(model_type="lama")
    message = refused(path)
    assert message.startswith(f'{path}: model_type = "lama": is not supported (expected one of ')
    assert "bloom, cohere" in message
    assert message.endswith("did you mean 'llama'?)")


def test_a_missing_model_type_is_told(write: Callable[..., str]) -> None:
    """Without it there is no family to read the rest by."""
    assert "model_type: is missing (expected one of bloom" in refused(write(model_type="ABSENT"))


def test_all_problems_of_a_file_are_told_at_once(write: Callable[..., str]) -> None:
    """Two missing fields and a wrong one make three problems, each once."""
    path = write(hidden_size="ABSENT", vocab_size="ABSENT", num_hidden_layers="two")
    assert refused(path).splitlines() == [
        f"{path}: hidden_size: is missing (or n_embd, d_model, n_embed) "
        "(expected an integer of at least 1)",
        f'{path}: num_hidden_layers = "two": is not an integer of at least 1 '
        "(expected an integer of at least 1)",
        f"{path}: vocab_size: is missing (expected an integer of at least 1)",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3: does not divide the attention"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings = 1: is not a boolean"),
        ({"hidden_size": True}, "hidden_size = true: is not an integer of at least 1"),
        ({"vocab_size": 0}, "vocab_size = 0: is not an integer of at least 1"),
        ({"partial_rotary_factor": -1}, "partial_rotary_factor = -1: is not a number"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers = 1000000000000: is too many layers"),
        ({"model_type": 3}, "model_type = 3: is not a text"),
        ({"model_type": "dbrx", "ffn_config": 3}, "ffn_config = 3: is not an object"),
        ({"model_type": "dbrx"}, "ffn_config.moe_top_k: is missing"),
        (
            {"model_type": "gpt_oss", "layer_types": ["full"] * 2},
            'layer_types = ["full", "full"]: \'full\' is unknown',
        ),
        (
            {"model_type": "lfm2", "layer_types": ["conv"], "block_ff_dim": 8},
            'layer_types = ["conv"]: has 1 entries (expected 2, one per layer)',
        ),
        (
            {"model_type": "nemotron_h", "hybrid_override_pattern": "MX"},
            'hybrid_override_pattern = "MX": has unknown letters',
        ),
        (
            {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 4},
            "num_experts_per_tok = 4: is more than there are experts (expected at most 2)",
        ),
        ({"model_type": "lfm2", "full_attn_idxs": 3}, "full_attn_idxs = 3: is not a list of"),
        ({"model_type": "deepseek_v2"}, "q_lora_rank: is missing"),
        ({"model_type": "opt", "word_embed_proj_dim": 32}, "projected embeddings are not"),
        (
            {"model_type": "zamba2", "use_shared_attention_adapter": True},
            "use_shared_attention_adapter = true: is not supported",
        ),
    ],
)
def test_a_wrong_field_names_file_key_value_and_expectation(
    write: Callable[..., str], changes: dict[str, object], message: str
) -> None:
    """Each kind of wrong value has its sentence."""
    path = write(**changes)
    assert f"{path}: {message}" in refused(path) or message in refused(path)


def test_broken_json_has_line_and_column(tmp_path: Path) -> None:
    """A person sees where the file stops being JSON, not a traceback."""
    path = tmp_path / "config.json"
    path.write_text('{\n  "model_type": llama\n}', encoding="utf-8")
    assert refused(str(path)) == f"{path}:2:17: is not JSON: Expecting value"


@pytest.mark.parametrize("text", ["[1, 2]", "3", "null"])
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    """Valid JSON of another type is told apart from broken JSON."""
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    assert refused(str(path)).startswith(f"{path}: is not a JSON object")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Binary content gives a message as well."""
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert refused(str(path)).startswith(f"{path}: cannot be read: ")


def test_a_bare_infinity_is_read(tmp_path: Path) -> None:
    """Nemotron-H's file on the hub holds one and is not strict JSON."""
    path = tmp_path / "config.json"
    text = json.dumps(LLAMA)[:-1] + ', "time_step_limit": [0.0, Infinity]}'
    path.write_text(text, encoding="utf-8")
    assert load_model(str(path), search_dirs=[]).hidden == 64


def test_a_nested_text_config_is_read_and_the_vision_tower_noted(tmp_path: Path) -> None:
    """Gemma 3 files leave out class defaults inside text_config."""
    path = tmp_path / "config.json"
    text = {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    }
    whole = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 1152}}
    path.write_text(json.dumps(whole), encoding="utf-8")
    model = load_model(str(path), search_dirs=[])
    assert model.parameters() == load_model("gemma-3-4b", search_dirs=[MODELS]).parameters()
    assert model.notes == ("The vision tower of this multimodal model is not simulated.",)


def _windows(model: Model) -> list[int | None]:
    return [c.window for c in model.components() if isinstance(c, AttentionMixer)]


def test_windows_follow_each_family_s_rule(load: Load) -> None:
    """Alternating, five to one, all layers, and none because it is switched off."""
    assert _windows(load("gemma-2-2b"))[:4] == [4096, None, 4096, None]
    assert _windows(load("gemma-3-1b"))[4:7] == [512, None, 512]
    assert set(_windows(load("mistral-7b-v0.1"))) == {4096}
    assert set(_windows(load("qwen2.5-7b"))) == {None}


def test_falcon_7b_has_one_kv_head_whatever_the_file_says(load: Load) -> None:
    """multi_query with the old decoder ignores num_kv_heads = 71."""
    mixers = [c for c in load("falcon-7b").components() if isinstance(c, AttentionMixer)]
    assert {mixer.n_kv_heads for mixer in mixers} == {1}
