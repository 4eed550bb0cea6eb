"""Mixture-of-experts families with softmax attention."""

from dataclasses import replace

from sim.model.architecture import Layer, Model
from sim.model.attention import AttentionMixer, QkNorm
from sim.model.component import Component
from sim.model.config import Config
from sim.model.families.common import (
    attention,
    decoder,
    hidden_size,
    layer_count,
    mlp,
    pre_norm_layer,
    window,
    windows_by_type,
    with_notes,
)
from sim.model.families.dense import qwen_windows
from sim.model.moe import Moe
from sim.model.parameters import Norm

EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts")
MTP_NOTE = "Multi-token prediction layers are not simulated."


def moe(config: Config, *width_keys: str) -> Moe:
    """Return gated experts without extras; families change the rest with `replace`."""
    experts = config.integer(*EXPERT_KEYS)
    top_k = config.integer("num_experts_per_tok", "experts_per_token")
    if top_k > experts:
        config.wrong(
            "num_experts_per_tok", "is more than there are experts", expected=f"at most {experts}"
        )
    return Moe(
        hidden=hidden_size(config),
        width=config.integer(*width_keys),
        n_experts=experts,
        top_k=min(top_k, experts),
    )


def _uniform(config: Config, mixer: AttentionMixer, ffn: Moe, norm: Norm) -> Model:
    layer = pre_norm_layer(mixer, ffn, norm)
    return decoder(config, (layer,) * layer_count(config), norm)


def mixtral(config: Config) -> Model:
    """Return Mixtral: Mistral's attention (window null in the files) and eight experts."""
    mixer = replace(attention(config, default_kv_heads=8), window=window(config))
    norm = Norm(width=hidden_size(config))
    return _uniform(config, mixer, moe(config, "intermediate_size"), norm)


def olmoe(config: Config) -> Model:
    """Return OLMoE: Q and K are normalised over all heads together."""
    bias = config.flag("attention_bias", default=False)
    mixer = replace(attention(config), qkv_bias=bias, o_bias=bias, qk_norm=QkNorm.FULL)
    norm = Norm(width=hidden_size(config))
    return _uniform(config, mixer, moe(config, "intermediate_size"), norm)


def phimoe(config: Config) -> Model:
    """Return Phi-3.5-MoE: LayerNorm with bias, attention and head biases."""
    bias = config.flag("attention_bias", default=False)
    mixer = attention(config, default_kv_heads=8)
    mixer = replace(mixer, qkv_bias=bias, o_bias=bias, window=window(config))
    norm = Norm(width=hidden_size(config), bias=True)
    model = _uniform(config, mixer, moe(config, "intermediate_size"), norm)
    return replace(model, head_bias=config.flag("lm_head_bias", default=False))


def dbrx(config: Config) -> Model:
    """Return DBRX: sizes of attention and experts stand in `attn_config` and `ffn_config`."""
    heads, ffn = config.section("attn_config"), config.section("ffn_config")
    mixer = attention(config)
    mixer = replace(mixer, n_kv_heads=heads.integer("kv_n_heads", default=mixer.n_q_heads))
    experts = Moe(
        hidden=hidden_size(config),
        width=ffn.integer("ffn_hidden_size"),
        n_experts=ffn.integer("moe_num_experts"),
        top_k=ffn.integer("moe_top_k"),
    )
    return _uniform(config, mixer, experts, Norm(width=hidden_size(config)))


def gpt_oss(config: Config) -> Model:
    """Return gpt-oss: sinks, biases everywhere, every other layer windowed."""
    bias = config.flag("attention_bias", default=True)
    mixer = attention(config, default_kv_heads=8, default_head_dim=64)
    mixer = replace(mixer, qkv_bias=bias, o_bias=bias, sinks=True)
    experts = replace(moe(config, "intermediate_size"), expert_bias=True, router_bias=True)
    size, norm = window(config, default=128), Norm(width=hidden_size(config))
    alternating = tuple(None if i % 2 else size for i in range(layer_count(config)))
    windows = windows_by_type(config, size) or alternating
    layers = (pre_norm_layer(replace(mixer, window=each), experts, norm) for each in windows)
    return decoder(config, layers, norm)


def grok(config: Config) -> Model:
    """Return Grok-1: norms before and after mixer and experts, tied embeddings."""
    norm = Norm(width=hidden_size(config))
    experts = moe(config, "moe_intermediate_size", "intermediate_size")
    layer = pre_norm_layer(attention(config), experts, norm, post_norm=norm)
    return decoder(config, (layer,) * layer_count(config), norm, tied=True)


def minimax_m2(config: Config) -> Model:
    """Return MiniMax-M2: Q and K normalised over all heads, sigmoid router with correction."""
    mixer = attention(config, default_head_dim=128)
    if config.flag("use_qk_norm", default=True):
        mixer = replace(mixer, qk_norm=QkNorm.FULL)
    correction = config.flag("use_routing_bias", default=True)
    experts = replace(moe(config, "intermediate_size"), correction_bias=correction)
    model = _uniform(config, mixer, experts, Norm(width=hidden_size(config)))
    return with_notes(model, MTP_NOTE) if config.flag("use_mtp", default=False) else model


def is_sparse(config: Config, index: int) -> bool:
    """Tell whether a layer of Qwen-MoE holds experts (`mlp_only_layers`, `decoder_sparse_step`)."""
    if index in config.integers("mlp_only_layers"):
        return False
    return (index + 1) % config.integer("decoder_sparse_step", default=1) == 0


def qwen_ffn(config: Config) -> tuple[Component, ...]:
    """Return the feed-forward network of each layer of a Qwen-MoE."""
    shared = config.integer("shared_expert_intermediate_size", default=0, least=0)
    experts = replace(
        moe(config, "moe_intermediate_size"), shared_width=shared, shared_gate=shared > 0
    )
    sparse = tuple(is_sparse(config, index) for index in range(layer_count(config)))
    dense = experts if all(sparse) else mlp(config)
    return tuple(experts if each else dense for each in sparse)


def qwen2_moe(config: Config) -> Model:
    """Return Qwen2-MoE or Qwen1.5-MoE: biases on Q, K, V, one gated shared expert."""
    mixer = replace(attention(config), qkv_bias=config.flag("qkv_bias", default=True))
    norm = Norm(width=hidden_size(config))
    pairs = zip(qwen_windows(config), qwen_ffn(config), strict=False)
    layers = (pre_norm_layer(replace(mixer, window=w), ffn, norm) for w, ffn in pairs)
    return decoder(config, layers, norm)


def qwen3_moe(config: Config) -> Model:
    """Return Qwen3-MoE: Qwen3's attention, experts in all layers but those named dense."""
    bias = config.flag("attention_bias", default=False)
    mixer = attention(config, default_kv_heads=4)
    mixer = replace(mixer, qkv_bias=bias, o_bias=bias, qk_norm=QkNorm.HEAD)
    norm = Norm(width=hidden_size(config))
    pairs = zip(qwen_windows(config), qwen_ffn(config), strict=False)
    layers = (pre_norm_layer(replace(mixer, window=w), ffn, norm) for w, ffn in pairs)
    return decoder(config, layers, norm)


def group_limits(config: Config, experts: Moe) -> Moe:
    """Return the experts with DeepSeek's group-limited choice and shared experts."""
    shared = config.integer("n_shared_experts", default=0, least=0)
    return replace(
        experts,
        n_group=config.integer("n_group", default=1),
        topk_group=config.integer("topk_group", default=1),
        shared_width=shared * experts.width,
    )


def dense_then_sparse(config: Config, mixer: Component, experts: Moe) -> tuple[Layer, ...]:
    """Return `first_k_dense_replace` dense layers, then experts every `moe_layer_freq` layers."""
    norm = Norm(width=hidden_size(config))
    first = config.integer("first_k_dense_replace", default=0, least=0)
    period = config.integer("moe_layer_freq", default=1)
    sparse = pre_norm_layer(mixer, experts, norm)
    count = layer_count(config)
    places = tuple(index >= first and index % period == 0 for index in range(count))
    dense = sparse if all(places) else pre_norm_layer(mixer, mlp(config), norm)
    return tuple(sparse if place else dense for place in places)


def mtp_notes(config: Config) -> tuple[str, ...]:
    """Return the note about multi-token prediction if the file has such layers."""
    layers = config.integer("num_nextn_predict_layers", default=0, least=0)
    return (MTP_NOTE,) if layers else ()


def glm4_moe(config: Config) -> Model:
    """Return GLM-4.5: biases on Q, K, V only, dense first layers, one shared expert."""
    mixer = replace(attention(config), qkv_bias=config.flag("attention_bias", default=False))
    if config.flag("use_qk_norm", default=False):
        mixer = replace(mixer, qk_norm=QkNorm.HEAD)
    experts = group_limits(config, moe(config, "moe_intermediate_size"))
    layers = dense_then_sparse(config, mixer, replace(experts, correction_bias=True))
    model = decoder(config, layers, Norm(width=hidden_size(config)))
    return with_notes(model, *mtp_notes(config))
