"""Families without attention: Mamba, Mamba-2, Falcon Mamba, RWKV-6 and RWKV-7."""

from dataclasses import replace

from sim.model.architecture import Layer, Model
from sim.model.component import Component
from sim.model.config import Config
from sim.model.families.common import (
    decoder,
    hidden_size,
    layer_count,
    pre_norm_layer,
    sublayer,
)
from sim.model.mamba import MambaMixer
from sim.model.mamba2 import Mamba2Mixer
from sim.model.parameters import Norm
from sim.model.rwkv import ChannelMix
from sim.model.rwkv6 import Rwkv6Mixer
from sim.model.rwkv7 import Rwkv7Mixer


def _mixers_only(config: Config, mixer: Component, *, tied: bool) -> Model:
    norm = Norm(width=hidden_size(config))
    layer = Layer(sublayers=(sublayer("mixer", mixer, norm),))
    return decoder(config, (layer,) * layer_count(config), norm, tied=tied)


def _mamba_mixer(config: Config) -> MambaMixer:
    """Return the mixer; `intermediate_size` rules over `expand` (Falcon Mamba writes 16)."""
    hidden = hidden_size(config)
    expanded = config.integer("expand", default=2) * hidden
    return MambaMixer(
        hidden=hidden,
        inner=config.integer("intermediate_size", default=expanded),
        state=config.integer("state_size", default=16),
        dt_rank=config.integer_or_auto("time_step_rank", default=-(-hidden // 16)),
        kernel=config.integer("conv_kernel", default=4),
        conv_bias=config.flag("use_conv_bias", default=True),
        proj_bias=config.flag("use_bias", default=False),
    )


def mamba(config: Config) -> Model:
    """Return Mamba-1."""
    return _mixers_only(config, _mamba_mixer(config), tied=True)


def falcon_mamba(config: Config) -> Model:
    """Return Falcon Mamba: Mamba-1 with norms without weights on dt, B and C."""
    return _mixers_only(config, replace(_mamba_mixer(config), inner_norms=True), tied=True)


def mamba2(config: Config) -> Model:
    """Return Mamba-2."""
    mixer = Mamba2Mixer(
        hidden=hidden_size(config),
        n_heads=config.integer("num_heads", default=128),
        head_dim=config.integer("head_dim", default=64),
        state=config.integer("state_size", default=128),
        n_groups=config.integer("n_groups", default=8),
        kernel=config.integer("conv_kernel", default=4),
        chunk=config.integer("chunk_size", default=256),
        conv_bias=config.flag("use_conv_bias", default=True),
        proj_bias=config.flag("use_bias", default=False),
        gated_norm=config.flag("rms_norm", default=True),
    )
    return _mixers_only(config, mixer, tied=False)


def rwkv6(config: Config) -> Model:
    """Return RWKV-6: a null `intermediate_size` means 3.5 times the width, in steps of 32."""
    hidden = hidden_size(config)
    mixer = Rwkv6Mixer(
        hidden=hidden,
        attention_width=config.integer("attention_hidden_size", default=hidden),
        head_dim=config.integer("head_size", default=64),
        mix_rank=config.integer("time_mix_extra_dim", default=32),
        decay_rank=config.integer("time_decay_extra_dim", default=64),
    )
    width = config.integer("intermediate_size", default=max(1, hidden * 7 // 2 // 32) * 32)
    norm = Norm(width=hidden, bias=True)
    layer = pre_norm_layer(mixer, ChannelMix(hidden=hidden, width=width, receptance=True), norm)
    model = decoder(config, (layer,) * layer_count(config), norm)
    return replace(model, embedding_norm=norm)


def rwkv7(config: Config) -> Model:
    """Return RWKV-7; only the first layer has no value mix."""
    hidden = hidden_size(config)
    later = Rwkv7Mixer(
        hidden=hidden,
        head_dim=config.integer("head_dim", default=64),
        decay_rank=config.integer("decay_low_rank_dim", default=64),
        rate_rank=config.integer("a_low_rank_dim", default=64),
        value_rank=config.integer("v_low_rank_dim", default=16),
        gate_rank=config.integer("gate_low_rank_dim", default=128),
        is_first=False,
    )
    width = config.integer("intermediate_size", default=4 * hidden)
    ffn = ChannelMix(hidden=hidden, width=width, receptance=False)
    norm = Norm(width=hidden, bias=config.flag("norm_bias", default=True))
    first = pre_norm_layer(replace(later, is_first=True), ffn, norm)
    layers = (first, *(pre_norm_layer(later, ffn, norm),) * (layer_count(config) - 1))
    return replace(decoder(config, layers, norm), embedding_norm=norm)
