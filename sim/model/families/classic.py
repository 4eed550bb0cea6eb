"""Families from before Llama: LayerNorm, plain MLP of four times the width, biases."""

from dataclasses import replace

from sim.model.architecture import Branch, Layer, Model, Sublayer
from sim.model.attention import AttentionMixer
from sim.model.config import Config
from sim.model.families.common import (
    attention,
    decoder,
    hidden_size,
    layer_count,
    mlp,
    parallel_layer,
    pre_norm_layer,
)
from sim.model.mlp import DenseMlp
from sim.model.parameters import Norm

OPT_POSITION_OFFSET = 2
"""OPT's table starts two positions before the first token (`OPTLearnedPositionalEmbedding`)."""


def _biased(config: Config, *, rotary: bool) -> AttentionMixer:
    mixer = replace(attention(config), qkv_bias=True, o_bias=True)
    return mixer if rotary else replace(mixer, rotary_dim=0)


def _four_times(config: Config, *, bias: bool) -> DenseMlp:
    hidden = hidden_size(config)
    width = config.integer("n_inner", "ffn_hidden_size", default=4 * hidden)
    return DenseMlp(hidden=hidden, width=width, gated=False, bias=bias)


def opt(config: Config) -> Model:
    """Return OPT: learnt positions; embeddings tied unless the file says otherwise."""
    norm = Norm(width=hidden_size(config), bias=True)
    if config.integer("word_embed_proj_dim", default=norm.width) != norm.width:
        config.wrong(
            "word_embed_proj_dim", "projected embeddings are not supported", expected="hidden_size"
        )
    layer = pre_norm_layer(_biased(config, rotary=False), mlp(config, gated=False, bias=True), norm)
    model = decoder(config, (layer,) * layer_count(config), norm, tied=True)
    positions = config.integer("max_position_embeddings", default=2048)
    return replace(model, positions=positions + OPT_POSITION_OFFSET)


def bloom(config: Config) -> Model:
    """Return BLOOM: ALiBi instead of positions, a norm right after the embedding."""
    norm = Norm(width=hidden_size(config), bias=True)
    layer = pre_norm_layer(_biased(config, rotary=False), _four_times(config, bias=True), norm)
    model = decoder(config, (layer,) * layer_count(config), norm, tied=True)
    return replace(model, embedding_norm=norm)


def gpt2(config: Config) -> Model:
    """Return GPT-2: learnt positions, tied embeddings, biases everywhere."""
    norm = Norm(width=hidden_size(config), bias=True)
    layer = pre_norm_layer(_biased(config, rotary=False), _four_times(config, bias=True), norm)
    model = decoder(config, (layer,) * layer_count(config), norm, tied=True)
    positions = config.integer("n_positions", "max_position_embeddings", default=1024)
    return replace(model, positions=positions)


def gpt_neox(config: Config) -> Model:
    """Return GPT-NeoX or Pythia: two norms over the same stream if `use_parallel_residual`."""
    bias = config.flag("attention_bias", default=True)
    partly = config.with_defaults(partial_rotary_factor=config.fraction("rotary_pct", default=0.25))
    mixer = replace(attention(partly), qkv_bias=bias, o_bias=bias)
    ffn, norm = mlp(config, gated=False, bias=True), Norm(width=hidden_size(config), bias=True)
    parallel = config.flag("use_parallel_residual", default=True)
    layer = _two_norms(mixer, ffn, norm) if parallel else pre_norm_layer(mixer, ffn, norm)
    return decoder(config, (layer,) * layer_count(config), norm)


def gptj(config: Config) -> Model:
    """Return GPT-J: a parallel layer, no attention biases, an LM head with bias."""
    norm = Norm(width=hidden_size(config), bias=True)
    layer = parallel_layer(attention(config), _four_times(config, bias=True), norm)
    model = decoder(config, (layer,) * layer_count(config), norm)
    return replace(model, head_bias=True)


def phi(config: Config) -> Model:
    """Return Phi-1.5 or Phi-2: a parallel layer with biases everywhere, head included."""
    norm = Norm(width=hidden_size(config), bias=True)
    ffn = mlp(config, gated=False, bias=True)
    config = config.with_defaults(partial_rotary_factor=0.5)
    layer = parallel_layer(_biased(config, rotary=True), ffn, norm)
    model = decoder(config, (layer,) * layer_count(config), norm)
    if config.flag("qk_layernorm", default=False):
        config.wrong("qk_layernorm", "is not supported", expected="false")
    return replace(model, head_bias=True)


def falcon(config: Config) -> Model:
    """Return Falcon: a parallel layer, under one norm (7B) or two (new decoder: 40B, 180B).

    `num_kv_heads` counts in the new decoder only; the old one has a single KV head if
    `multi_query`, whatever the file says.
    """
    new = config.flag("new_decoder_architecture", default=False)
    mixer = attention(config)
    if new:
        mixer = replace(mixer, n_kv_heads=config.integer("num_kv_heads", default=mixer.n_q_heads))
    elif config.flag("multi_query", default=True):
        mixer = replace(mixer, n_kv_heads=1)
    bias = config.flag("bias", default=False)
    mixer = replace(mixer, qkv_bias=bias, o_bias=bias)
    if config.flag("alibi", default=False):
        mixer = replace(mixer, rotary_dim=0)
    ffn = _four_times(config, bias=bias)
    norm = Norm(width=hidden_size(config), bias=True)
    layer = _falcon_layer(config, mixer, ffn, norm, two_norms=new)
    return decoder(config, (layer,) * layer_count(config), norm, tied=True)


def _falcon_layer(
    config: Config, mixer: AttentionMixer, ffn: DenseMlp, norm: Norm, *, two_norms: bool
) -> Layer:
    if not (two_norms or config.flag("parallel_attn", default=True)):
        return pre_norm_layer(mixer, ffn, norm)
    # Falcon2-11B has the new decoder with one norm (`num_ln_in_parallel_attn`)
    if not two_norms or config.integer("num_ln_in_parallel_attn", default=2) == 1:
        return parallel_layer(mixer, ffn, norm)
    return _two_norms(mixer, ffn, norm)


def _two_norms(mixer: AttentionMixer, ffn: DenseMlp, norm: Norm) -> Layer:
    """Return a parallel layer whose branches norm the stream each for itself."""
    branches = (Branch(component=mixer, norm=norm), Branch(component=ffn, norm=norm))
    return Layer(sublayers=(Sublayer(name="parallel", branches=branches),))
