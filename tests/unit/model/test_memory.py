"""What models, caches and states occupy."""

from collections.abc import Callable

import pytest

from sim.kernel.formats import BF16, KV_FORMATS, WEIGHT_FORMATS
from sim.model.architecture import Model
from sim.model.memory import activation_bytes, kv_bytes, state_bytes, weights_bytes
from sim.model.parameters import Vector
from sim.model.step import StepGraph

Load = Callable[[str], Model]
BuildStep = Callable[..., StepGraph]

BF16_KV = KV_FORMATS["bf16"]


@pytest.mark.parametrize(
    ("name", "per_token"),
    [
        ("llama-3.1-70b", 80 * 2 * 8 * 128 * 2),
        ("llama-2-7b", 32 * 2 * 32 * 128 * 2),
        ("deepseek-v3", 61 * (512 + 64) * 2),
        ("qwen3-next-80b-a3b", 12 * 2 * 2 * 256 * 2),
        ("mamba-2.8b", 0),
    ],
)
def test_kv_bytes_per_token(load: Load, name: str, per_token: int) -> None:
    """By hand; DeepSeek-V3 has the 70 kB a token that its report names (arXiv 2505.09343)."""
    model = load(name)
    assert kv_bytes(model, BF16_KV, batch=3, context=1000) == 3 * 1000 * per_token


def test_windowed_layers_keep_their_window_only(load: Load) -> None:
    """Beyond 1,024 tokens only the 8 full layers of Gemma 3 12B grow."""
    model = load("gemma-3-12b")
    sizes = [kv_bytes(model, BF16_KV, batch=1, context=c) for c in (1024, 2048, 3072)]
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] == 1024 * 8 * 2 * 8 * 256 * 2


def test_int8_kv_carries_a_scale_per_vector(load: Load) -> None:
    """128 values and a 16-bit scale for each head vector."""
    size = kv_bytes(load("llama-3.1-8b"), KV_FORMATS["int8"], batch=1, context=1)
    assert size == 32 * 2 * 8 * (128 + 2)


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("mamba-2.8b", 64 * 5120 * (16 * 4 + 3 * 2)),
        ("mamba2-2.7b", 64 * (5120 * 128 * 4 + 5376 * 3 * 2)),
        ("rwkv7-g1-7.2b", 32 * (64 * 64 * 64 * 4 + 2 * 4096 * 2)),
        ("recurrentgemma-2b", 18 * 2560 * (4 + 3 * 2)),
        ("lfm2-1.2b", 10 * 2048 * 2 * 2),
        ("qwen3-next-80b-a3b", 36 * (32 * 128 * 128 * 4 + 8192 * 3 * 2)),
        ("llama-2-7b", 0),
    ],
)
def test_state_bytes(load: Load, name: str, one: int) -> None:
    """Recurrent states in fp32, convolution states and shifted tokens in 16 bits."""
    assert state_bytes(load(name), batch=1) == one
    assert state_bytes(load(name), batch=5) == 5 * one


def test_mxfp4_shrinks_gpt_oss_to_its_published_size(load: Load) -> None:
    """The checkpoint of gpt-oss-120b is 60.8 GiB (model card, arXiv 2508.10925, table 1)."""
    size = weights_bytes(load("gpt-oss-120b"), WEIGHT_FORMATS["mxfp4"])
    assert size / 2**30 == pytest.approx(60.8, rel=0.005)


def test_16_bit_weights_are_two_bytes_a_parameter_but_for_fp32_vectors(model: Model) -> None:
    """Decays and the like are twice as wide, and nothing else is."""
    wide = sum(
        parameter.size * (parameter.value_bytes - 2)
        for parameter in model.stored_parameters()
        if isinstance(parameter, Vector)
    )
    assert weights_bytes(model, BF16) == 2 * model.parameters() + wide


def test_activations_grow_with_the_tokens(load: Load, step: BuildStep) -> None:
    """Prefill of 512 tokens needs far more than a decode of one, and never less than logits."""
    model = load("llama-3.1-8b")
    small, large = (activation_bytes(step(model, q_len=n, context=n)) for n in (2, 512))
    assert model.vocab * 2 < small < large
