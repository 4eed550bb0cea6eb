"""Families without a shipped configuration, against published parameter counts."""

from typing import Any

import pytest

from sim.model.config import Config
from sim.model.families.registry import BUILDERS

GPT2 = {"n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257}
GPT_NEOX = {
    "hidden_size": 6144,
    "intermediate_size": 24576,
    "num_attention_heads": 64,
    "num_hidden_layers": 44,
    "vocab_size": 50432,
    "rotary_pct": 0.25,
}
GEMMA = {
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "head_dim": 256,
    "vocab_size": 256000,
}
QWEN2_MOE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "moe_intermediate_size": 1408,
    "shared_expert_intermediate_size": 5632,
    "num_experts": 60,
    "num_experts_per_tok": 4,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "vocab_size": 151936,
}


@pytest.mark.parametrize(
    ("model_type", "fields", "published"),
    [
        ("gpt2", GPT2, 124_439_808),
        ("gpt_neox", GPT_NEOX, 20_554_567_680),
        ("gemma", GEMMA, 8_537_680_896),
        ("qwen2_moe", QWEN2_MOE, 14_315_784_192),
    ],
)
def test_parameters_are_the_published_count(
    model_type: str, fields: dict[str, Any], published: int
) -> None:
    """GPT-2 small, GPT-NeoX-20B, Gemma 7B and Qwen1.5-MoE-A2.7B, as counted on the hub."""
    config = Config(fields | {"model_type": model_type}, file="config.json")
    model = BUILDERS[model_type](config)
    config.finish()
    assert model.parameters() == published
