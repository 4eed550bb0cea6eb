"""Gemma 4: two shapes of attention, and in the 26B experts beside a dense MLP.

The E2B and E4B models, whose layers share KV and read embeddings of their own, are refused.
"""

from dataclasses import replace

from sim.model.architecture import Branch, Layer, Model, Sublayer
from sim.model.attention import AttentionMixer, QkNorm
from sim.model.config import Config
from sim.model.families.common import (
    attention,
    decoder,
    hidden_size,
    layer_count,
    mlp,
    sublayer,
    window,
    windows_by_type,
    with_notes,
)
from sim.model.families.experts import EXPERT_KEYS
from sim.model.moe import Moe
from sim.model.parameters import Norm

VALUE_NORM_NOTE = "The weightless norm of the values is not simulated."
_PERIOD = 6


def gemma4(config: Config) -> Model:
    """Return Gemma 4: five windowed layers for each full one, norms before and after.

    Full layers have heads of `global_head_dim`, fewer KV heads, and with `attention_k_eq_v` no
    projection for values (transformers `Gemma4TextAttention`).
    """
    for key in ("hidden_size_per_layer_input", "num_kv_shared_layers"):
        if config.integer(key, default=0, least=0):
            config.wrong(key, "is not supported", expected="0")
    local, whole = _mixers(config)
    size = window(config, default=512)
    every = tuple(None if (i + 1) % _PERIOD == 0 else size for i in range(layer_count(config)))
    windows = windows_by_type(config, size) or every
    norm, ffn = Norm(width=hidden_size(config)), _ffn(config)
    layers = (
        Layer(sublayers=(sublayer("mixer", whole if each is None else local, norm, norm), ffn))
        for each in windows
    )
    model = decoder(config, layers, norm, tied=True)
    model = replace(model, softcap="final_logit_softcapping" in config)
    return with_notes(model, VALUE_NORM_NOTE)


def _mixers(config: Config) -> tuple[AttentionMixer, AttentionMixer]:
    """Return the attention of windowed and of full layers."""
    local = attention(config, default_kv_heads=4, default_head_dim=256)
    bias = config.flag("attention_bias", default=False)
    local = replace(local, qkv_bias=bias, o_bias=bias, qk_norm=QkNorm.HEAD)
    shared = config.flag("attention_k_eq_v", default=False)
    head_dim = config.integer("global_head_dim", default=512)
    kv_heads = local.n_kv_heads
    if shared:
        kv_heads = config.integer("num_global_key_value_heads", default=kv_heads)
    whole = replace(
        local,
        n_kv_heads=kv_heads,
        head_dim=head_dim,
        rotary_dim=head_dim // 4,
        keys_as_values=shared,
    )
    return replace(local, window=window(config, default=512)), whole


def _ffn(config: Config) -> Sublayer:
    """Return the MLP, beside it the experts if there are any, each between norms of its own."""
    norm, dense = Norm(width=hidden_size(config)), mlp(config)
    if not config.flag("enable_moe_block", default=False):
        return sublayer("ffn", dense, norm, norm)
    experts = Moe(
        hidden=hidden_size(config),
        width=config.integer("moe_intermediate_size"),
        n_experts=config.integer(*EXPERT_KEYS),
        top_k=config.integer("top_k_experts", "num_experts_per_tok"),
        router_scale=True,
    )
    dense = replace(dense, out="dense_out")
    branches = (
        Branch(component=dense, norm=norm, post_norm=norm),
        Branch(component=experts, norm=norm, post_norm=norm),
    )
    return Sublayer(name="ffn", branches=branches, post_norm=norm)
