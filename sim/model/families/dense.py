"""Llama and its descendants: rotary grouped-query attention, gated MLP, RMSNorm."""

from dataclasses import replace

from sim.model.architecture import Model
from sim.model.attention import AttentionMixer, QkNorm
from sim.model.config import Config
from sim.model.families.common import (
    attention,
    decoder,
    hidden_size,
    layer_count,
    mlp,
    parallel_layer,
    pre_norm_layer,
    window,
    windows_by_type,
)
from sim.model.parameters import Norm


def _uniform(config: Config, mixer: AttentionMixer, *, mlp_bias: bool = False) -> Model:
    norm = Norm(width=hidden_size(config))
    layer = pre_norm_layer(mixer, mlp(config, bias=mlp_bias), norm)
    return decoder(config, (layer,) * layer_count(config), norm)


def llama(config: Config) -> Model:
    """Return a Llama-style model; `attention_bias` and `mlp_bias` add biases everywhere."""
    bias = config.flag("attention_bias", default=False)
    mixer = replace(attention(config), qkv_bias=bias, o_bias=bias)
    return _uniform(config, mixer, mlp_bias=config.flag("mlp_bias", default=False))


def internlm(config: Config) -> Model:
    """Return InternLM-1: Llama with one `bias` for all four attention projections."""
    bias = config.flag("bias", default=True)
    return _uniform(config, replace(attention(config), qkv_bias=bias, o_bias=bias))


def mistral(config: Config) -> Model:
    """Return Mistral: Llama with a window in every layer (class default 4096, null for none)."""
    mixer = attention(config, default_kv_heads=8)
    return _uniform(config, replace(mixer, window=window(config, default=4096)))


def phi3(config: Config) -> Model:
    """Return Phi-3: Llama shapes with a window (fused projections hold the same weights)."""
    return _uniform(config, replace(attention(config), window=window(config)))


def qwen_windows(config: Config) -> tuple[int | None, ...]:
    """Return the window per layer: none unless `use_sliding_window`, as a set one is not used.

    Layers below `max_window_layers` keep full attention (transformers `Qwen2Config`).
    """
    layers = layer_count(config)
    if not config.flag("use_sliding_window", default=False):
        return (None,) * layers
    size = window(config, default=4096)
    full = config.integer("max_window_layers", default=28, least=0)
    listed = windows_by_type(config, size)
    return listed or tuple(size if index >= full else None for index in range(layers))


def qwen2(config: Config) -> Model:
    """Return Qwen2 or Qwen2.5: Llama with biases on Q, K and V only."""
    mixer = replace(attention(config), qkv_bias=True)
    return _windowed(config, mixer)


def qwen3(config: Config) -> Model:
    """Return Qwen3: queries and keys are normalised per head."""
    bias = config.flag("attention_bias", default=False)
    mixer = attention(config, default_head_dim=128)
    return _windowed(config, replace(mixer, qkv_bias=bias, o_bias=bias, qk_norm=QkNorm.HEAD))


def _windowed(config: Config, mixer: AttentionMixer) -> Model:
    norm, ffn = Norm(width=hidden_size(config)), mlp(config)
    layers = (
        pre_norm_layer(replace(mixer, window=size), ffn, norm) for size in qwen_windows(config)
    )
    return decoder(config, layers, norm)


def olmo2(config: Config) -> Model:
    """Return OLMo 2: norms after mixer and MLP instead of before, Q and K normed as a whole."""
    bias = config.flag("attention_bias", default=False)
    mixer = replace(attention(config), qkv_bias=bias, o_bias=bias, qk_norm=QkNorm.FULL)
    norm = Norm(width=hidden_size(config))
    layer = pre_norm_layer(mixer, mlp(config), None, post_norm=norm)
    return decoder(config, (layer,) * layer_count(config), norm)


def starcoder2(config: Config) -> Model:
    """Return StarCoder2: LayerNorm, plain MLP, biases everywhere, a window in every layer."""
    bias = config.flag("use_bias", default=True)
    mixer = replace(
        attention(config, default_kv_heads=2), qkv_bias=bias, o_bias=bias, window=window(config)
    )
    norm = Norm(width=hidden_size(config), bias=True)
    layer = pre_norm_layer(mixer, mlp(config, gated=False, bias=bias), norm)
    return decoder(config, (layer,) * layer_count(config), norm, tied=True)


def cohere(config: Config) -> Model:
    """Return Command R: a parallel layer under one norm without bias."""
    bias = config.flag("attention_bias", default=False)
    mixer = replace(attention(config), qkv_bias=bias, o_bias=bias)
    if config.flag("use_qk_norm", default=False):
        mixer = replace(mixer, qk_norm=QkNorm.FULL)
    norm = Norm(width=hidden_size(config))
    layer = parallel_layer(mixer, mlp(config), norm)
    return decoder(config, (layer,) * layer_count(config), norm, tied=True)


def gemma(config: Config) -> Model:
    """Return Gemma 1: Llama with heads of 256 and tied embeddings."""
    config = config.with_defaults(tie_word_embeddings=True)
    bias = config.flag("attention_bias", default=False)
    mixer = attention(config, default_head_dim=256)
    return _uniform(config, replace(mixer, qkv_bias=bias, o_bias=bias))


def _gemma(config: Config, mixer: AttentionMixer, windows: tuple[int | None, ...]) -> Model:
    norm, ffn = Norm(width=hidden_size(config)), mlp(config)
    layers = (
        pre_norm_layer(replace(mixer, window=size), ffn, norm, post_norm=norm) for size in windows
    )
    model = decoder(config, layers, norm, tied=True)
    return replace(model, softcap="final_logit_softcapping" in config)


def _every(config: Config, size: int | None, period: int) -> tuple[int | None, ...]:
    """Return full attention in every `period`-th layer and the window in all others."""
    return tuple(None if (i + 1) % period == 0 else size for i in range(layer_count(config)))


def gemma2(config: Config) -> Model:
    """Return Gemma 2: every other layer windowed, norms before and after, capped logits."""
    bias = config.flag("attention_bias", default=False)
    mixer = attention(config, default_kv_heads=4, default_head_dim=256)
    size = window(config, default=4096)
    windows = windows_by_type(config, size) or _every(config, size, 2)
    return _gemma(config, replace(mixer, qkv_bias=bias, o_bias=bias), windows)


def gemma3(config: Config) -> Model:
    """Return Gemma 3: five windowed layers for each full one, Q and K normalised per head.

    The text part of a multimodal file leaves out what equals the class defaults: 8 heads, 4 KV
    heads, head_dim 256, vocabulary 262208 (transformers `Gemma3TextConfig`).
    """
    config = config.with_defaults(num_attention_heads=8, vocab_size=262208)
    bias = config.flag("attention_bias", default=False)
    mixer = attention(config, default_kv_heads=4, default_head_dim=256)
    size = window(config, default=4096)
    period = config.integer("sliding_window_pattern", "_sliding_window_pattern", default=6)
    windows = windows_by_type(config, size) or _every(config, size, period)
    mixer = replace(mixer, qkv_bias=bias, o_bias=bias, qk_norm=QkNorm.HEAD)
    return _gemma(config, mixer, windows)
