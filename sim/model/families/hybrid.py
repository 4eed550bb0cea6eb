"""Families that mix attention with a recurrence or a convolution, layer by layer."""

from dataclasses import replace
from itertools import cycle, islice

from sim.model.architecture import Layer, Model
from sim.model.attention import AttentionMixer, QkNorm
from sim.model.component import Component
from sim.model.config import Config
from sim.model.delta_net import GatedDeltaNet
from sim.model.families.common import (
    attention,
    decoder,
    expect_length,
    hidden_size,
    layer_count,
    mlp,
    pre_norm_layer,
    sublayer,
    with_notes,
)
from sim.model.families.experts import group_limits, moe, mtp_notes, qwen_ffn
from sim.model.mamba import MambaMixer
from sim.model.mamba2 import Mamba2Mixer
from sim.model.mlp import DenseMlp
from sim.model.parameters import Norm
from sim.model.rg_lru import RgLruMixer
from sim.model.shared_block import SharedBlockMixer, SharedTransformer
from sim.model.short_conv import ShortConv

Mixers = dict[str, Component]
"""The component behind each word of a layer list."""


def _periodic(config: Config, what: str) -> tuple[bool, ...]:
    period = config.integer(f"{what}_layer_period", default={"attn": 8, "expert": 2}[what])
    offset = config.integer(f"{what}_layer_offset", default={"attn": 4, "expert": 1}[what], least=0)
    return tuple(index % period == offset for index in range(layer_count(config)))


def jamba(config: Config) -> Model:
    """Return Jamba: Mamba-1 with inner norms, attention and experts at regular distances."""
    hidden = hidden_size(config)
    mamba = MambaMixer(
        hidden=hidden,
        inner=config.integer("mamba_expand", default=2) * hidden,
        state=config.integer("mamba_d_state", default=16),
        dt_rank=config.integer_or_auto("mamba_dt_rank", default=-(-hidden // 16)),
        kernel=config.integer("mamba_d_conv", default=4),
        conv_bias=config.flag("mamba_conv_bias", default=True),
        proj_bias=config.flag("mamba_proj_bias", default=False),
        inner_norms=True,
        norm_weights=True,
    )
    attend = replace(attention(config, default_kv_heads=8), rotary_dim=0)
    experts, dense, norm = moe(config, "intermediate_size"), mlp(config), Norm(width=hidden)
    places = zip(_periodic(config, "attn"), _periodic(config, "expert"), strict=True)
    layers = (
        pre_norm_layer(attend if is_attn else mamba, experts if is_moe else dense, norm)
        for is_attn, is_moe in places
    )
    return decoder(config, layers, norm)


def _nemotron_components(config: Config) -> Mixers:
    """Return the component behind each letter of `hybrid_override_pattern`.

    Mamba's inner width is heads times head size, not `expand` times the width.
    """
    hidden = hidden_size(config)
    mamba = Mamba2Mixer(
        hidden=hidden,
        n_heads=config.integer("mamba_num_heads", default=128),
        head_dim=config.integer("mamba_head_dim", default=64),
        state=config.integer("ssm_state_size", default=128),
        n_groups=config.integer("n_groups", default=8),
        kernel=config.integer("conv_kernel", default=4),
        chunk=config.integer("chunk_size", default=128),
        conv_bias=config.flag("use_conv_bias", default=True),
        proj_bias=config.flag("mamba_proj_bias", default=False),
    )
    bias = config.flag("attention_bias", default=False)
    attend = replace(attention(config), rotary_dim=0, qkv_bias=bias, o_bias=bias)
    dense = mlp(config, gated=False, bias=config.flag("mlp_bias", default=False))
    components: Mixers = {"M": mamba, "*": attend, "-": dense}
    if "E" in config.word("hybrid_override_pattern", default=""):
        width = config.integer("moe_shared_expert_intermediate_size", default=0, least=0)
        experts = group_limits(config, moe(config, "moe_intermediate_size"))
        experts = replace(experts, gated=False, shared_width=width, correction_bias=True)
        latent = config.integer("moe_latent_size", default=0, least=0) or None
        components["E"] = replace(experts, latent=latent)
    return components


def nemotron_h(config: Config) -> Model:
    """Return Nemotron-H or Nemotron 3: one sublayer per layer, as the pattern says."""
    key = "hybrid_override_pattern"
    pattern = config.word(key, default="")
    components = _nemotron_components(config)
    expect_length(config, key, len(pattern))
    if set(pattern) - set("M*-E"):
        config.wrong(key, "has unknown letters", expected="letters out of M, *, - and E")
    norm = Norm(width=hidden_size(config))
    layers = (
        Layer(sublayers=(sublayer("mixer", components[letter], norm),))
        for letter in pattern
        if letter in components
    )
    return with_notes(decoder(config, layers, norm), *mtp_notes(config))


def granite_hybrid(config: Config) -> Model:
    """Return Granite 4.0 H: Mamba-2 or attention, then routed and shared experts."""
    hidden = hidden_size(config)
    heads = config.integer("mamba_n_heads", default=128)
    inner = config.integer("mamba_expand", default=2) * hidden
    mamba = Mamba2Mixer(
        hidden=hidden,
        n_heads=heads,
        head_dim=config.integer_or_auto("mamba_d_head", default=max(1, inner // heads)),
        state=config.integer("mamba_d_state", default=256),
        n_groups=config.integer("mamba_n_groups", default=1),
        kernel=config.integer("mamba_d_conv", default=4),
        chunk=config.integer("mamba_chunk_size", default=256),
        conv_bias=config.flag("mamba_conv_bias", default=True),
        proj_bias=config.flag("mamba_proj_bias", default=False),
    )
    mixers: Mixers = {"mamba": mamba, "attention": _granite_attention(config)}
    ffn = _granite_ffn(config)
    types = config.words("layer_types", "layers_block_type", known=tuple(mixers)) or ()
    expect_length(config, "layer_types", len(types))
    norm = Norm(width=hidden)
    layers = (pre_norm_layer(mixers[word], ffn, norm) for word in types)
    return decoder(config, layers, norm)


def _granite_attention(config: Config) -> AttentionMixer:
    bias = config.flag("attention_bias", default=False)
    mixer = replace(attention(config), qkv_bias=bias, o_bias=bias)
    rotary = config.word("position_embedding_type", default="rope") == "rope"
    return mixer if rotary else replace(mixer, rotary_dim=0)


def _granite_ffn(config: Config) -> Component:
    """Return the experts, or (no experts: the 1B and micro files) the shared MLP alone."""
    shared = config.integer("shared_intermediate_size", default=1024)
    if not config.integer("num_local_experts", default=0, least=0):
        return DenseMlp(hidden=hidden_size(config), width=shared)
    return replace(moe(config, "intermediate_size"), shared_width=shared)


def qwen3_next(config: Config) -> Model:
    """Return Qwen3-Next: three Gated DeltaNet layers for each gated attention layer."""
    linear = GatedDeltaNet(
        hidden=hidden_size(config),
        n_k_heads=config.integer("linear_num_key_heads", default=16),
        n_v_heads=config.integer("linear_num_value_heads", default=32),
        k_dim=config.integer("linear_key_head_dim", default=128),
        v_dim=config.integer("linear_value_head_dim", default=128),
        kernel=config.integer("linear_conv_kernel_dim", default=4),
    )
    config = config.with_defaults(partial_rotary_factor=0.25)
    attend = attention(config, default_kv_heads=2, default_head_dim=256)
    attend = replace(attend, qk_norm=QkNorm.HEAD, output_gate=True)
    period = config.integer("full_attention_interval", default=4)
    every = tuple(
        "linear_attention" if (i + 1) % period else "full_attention"
        for i in range(layer_count(config))
    )
    mixers: Mixers = {"linear_attention": linear, "full_attention": attend}
    types = config.words("layer_types", known=tuple(mixers)) or every
    expect_length(config, "layer_types", len(types))
    norm = Norm(width=hidden_size(config))
    pairs = zip(types, qwen_ffn(config), strict=False)
    layers = (pre_norm_layer(mixers[word], ffn, norm) for word, ffn in pairs)
    return decoder(config, layers, norm)


def recurrent_gemma(config: Config) -> Model:
    """Return RecurrentGemma (Griffin): the MLP has half of `intermediate_size`, one KV head."""
    hidden = hidden_size(config)
    recurrent = RgLruMixer(
        hidden=hidden,
        width=config.integer("lru_width", default=hidden),
        n_heads=config.integer("num_attention_heads"),
        kernel=config.integer("conv1d_width", default=4),
    )
    config = config.with_defaults(partial_rotary_factor=0.5)
    attend = replace(
        attention(config, default_kv_heads=1),
        window=config.integer("attention_window_size", default=2048),
        qkv_bias=config.flag("attention_bias", default=False),
        o_bias=True,
    )
    mixers: Mixers = {"recurrent": recurrent, "attention": attend}
    pattern = config.words("block_types", "_block_types", known=tuple(mixers))
    kinds = islice(cycle(pattern or ("recurrent", "recurrent", "attention")), layer_count(config))
    ffn = DenseMlp(hidden=hidden, width=config.integer("intermediate_size") // 2, bias=True)
    norm = Norm(width=hidden)
    layers = (pre_norm_layer(mixers[kind], ffn, norm) for kind in kinds)
    model = decoder(config, layers, norm, tied=True)
    return replace(model, softcap="logits_soft_cap" in config)


def _lfm2_width(config: Config) -> int:
    """Return the MLP width: two thirds of the file's number, rounded up, if auto-adjusted."""
    width = config.integer("block_ff_dim", "intermediate_size")
    if not config.flag("block_auto_adjust_ff_dim", default=True):
        return width
    multiplier = config.fraction("block_ffn_dim_multiplier", default=1.0)
    multiple = config.integer("block_multiple_of", default=256)
    return -(-int(multiplier * (2 * width // 3)) // multiple) * multiple


def lfm2(config: Config) -> Model:
    """Return LFM2: gated short convolutions, attention in the layers of `full_attn_idxs`."""
    hidden, count = hidden_size(config), layer_count(config)
    conv = ShortConv(
        hidden=hidden,
        kernel=config.integer("conv_L_cache", default=3),
        bias=config.flag("conv_bias", default=False),
    )
    attend = replace(attention(config, default_kv_heads=8), qk_norm=QkNorm.HEAD)
    mixers: Mixers = {"conv": conv, "full_attention": attend}
    full = config.integers("full_attn_idxs", default=range(count))
    listed = tuple("full_attention" if index in full else "conv" for index in range(count))
    types = config.words("layer_types", known=tuple(mixers)) or listed
    expect_length(config, "layer_types", len(types))
    ffn, norm = DenseMlp(hidden=hidden, width=_lfm2_width(config)), Norm(width=hidden)
    layers = (pre_norm_layer(mixers[word], ffn, norm) for word in types)
    return decoder(config, layers, norm, tied=True)


def _zamba_block(config: Config, number: int) -> SharedTransformer:
    hidden = hidden_size(config)
    heads = config.integer("num_attention_heads")
    wide = config.integer("attention_hidden_size", default=2 * hidden)
    head_dim = config.integer("attention_head_dim", default=max(1, wide // heads))
    rotary = config.flag("use_mem_rope", default=False)
    attend = AttentionMixer(
        n_in=wide,
        n_out=hidden,
        n_q_heads=heads,
        n_kv_heads=config.integer("num_key_value_heads", default=heads),
        head_dim=head_dim,
        rotary_dim=head_dim if rotary else 0,
    )
    width = config.integer("intermediate_size", default=4 * hidden)
    return SharedTransformer(number=number, attention=attend, hidden=hidden, width=width)


def zamba2(config: Config) -> Model:
    """Return Zamba2: Mamba-2 layers, some with one of a few shared transformer blocks before."""
    hidden = hidden_size(config)
    mamba = Mamba2Mixer(
        hidden=hidden,
        n_heads=config.integer("n_mamba_heads", default=8),
        head_dim=config.integer("mamba_headdim", default=64),
        state=config.integer("mamba_d_state", default=64),
        n_groups=config.integer("mamba_ngroups", default=1),
        kernel=config.integer("mamba_d_conv", default=4),
        chunk=config.integer("chunk_size", default=256),
        conv_bias=config.flag("use_conv_bias", default=True),
        proj_bias=config.flag("add_bias_linear", default=False),
    )
    key = "use_shared_attention_adapter"
    if config.flag(key, default=False):
        config.wrong(key, "is not supported", expected="false")
    norm = Norm(width=hidden)
    plain = Layer(sublayers=(sublayer("mixer", mamba, norm),))
    shared = _zamba_shared_layers(config, mamba)
    types = config.words("layers_block_type", known=("mamba", "hybrid")) or ()
    expect_length(config, "layers_block_type", len(types))
    layers, used = [], 0
    for word in types:
        layers.append(plain if word == "mamba" else shared[used % len(shared)])
        used += word == "hybrid"
    return decoder(config, layers, norm, tied=True)


def _zamba_shared_layers(config: Config, mamba: Mamba2Mixer) -> tuple[Layer, ...]:
    rank = config.integer("adapter_rank", default=128)
    blocks = config.integer("num_mem_blocks", default=1)
    mixers = (
        SharedBlockMixer(block=_zamba_block(config, number), adapter_rank=rank, mamba=mamba)
        for number in range(min(blocks, layer_count(config)))
    )
    return tuple(Layer(sublayers=(sublayer("mixer", mixer, None),)) for mixer in mixers)
