"""What the families share: reading heads, widths, windows, and stacking layers."""

from collections.abc import Iterable
from dataclasses import replace

from sim.model.architecture import Branch, Layer, Model, Sublayer
from sim.model.attention import AttentionMixer
from sim.model.component import Component
from sim.model.config import Config
from sim.model.mlp import DenseMlp
from sim.model.parameters import Norm

HIDDEN_KEYS = ("hidden_size", "n_embd", "d_model", "n_embed")
HEAD_KEYS = ("num_attention_heads", "n_head", "n_heads")
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers")
MOST_LAYERS = 10_000
"""More layers than any model has; a slip of the pen should not fill the memory."""


def hidden_size(config: Config) -> int:
    """Return the width of the residual stream."""
    return config.integer(*HIDDEN_KEYS)


def layer_count(config: Config) -> int:
    """Return the number of decoder layers; an absurd one is a problem."""
    count = config.integer(*LAYER_KEYS)
    if count > MOST_LAYERS:
        key = next(key for key in LAYER_KEYS if key in config)
        config.wrong(key, "is too many layers", expected=f"at most {MOST_LAYERS}")
    return min(count, MOST_LAYERS)


def key_value_heads(config: Config, heads: int, *, default: int | None = None) -> int:
    """Return the number of KV heads; a number that does not divide the heads is a problem."""
    key = "num_key_value_heads"
    kv_heads = config.integer(key, default=heads if default is None else default)
    if heads % kv_heads:
        config.wrong(key, "does not divide the attention heads", expected=f"a divisor of {heads}")
    return kv_heads


def attention(
    config: Config, *, default_kv_heads: int | None = None, default_head_dim: int | None = None
) -> AttentionMixer:
    """Return plain attention with rotary embedding; families change the rest with `replace`."""
    hidden, heads = hidden_size(config), config.integer(*HEAD_KEYS)
    own = max(1, hidden // heads) if default_head_dim is None else default_head_dim
    head_dim = config.integer("head_dim", "attention_head_dim", default=own)
    fraction = config.fraction("partial_rotary_factor", default=1.0)
    return AttentionMixer(
        n_in=hidden,
        n_out=hidden,
        n_q_heads=heads,
        n_kv_heads=key_value_heads(config, heads, default=default_kv_heads),
        head_dim=head_dim,
        rotary_dim=config.integer("rotary_dim", default=int(head_dim * fraction)),
    )


def window(config: Config, *, default: int | None = None) -> int | None:
    """Return `sliding_window`; null means none, and so does one that never binds.

    `default` is what the transformers class takes if the key is absent.
    """
    if "sliding_window" not in config:
        return None if config.is_null("sliding_window") else default
    size = config.integer("sliding_window")
    positions = config.integer("max_position_embeddings", default=size + 1)
    return None if size >= positions else size


def windows_by_type(config: Config, size: int | None) -> tuple[int | None, ...] | None:
    """Return the window of each layer if the file has `layer_types`, else None."""
    types = config.words("layer_types", known=("full_attention", "sliding_attention"))
    if types is None:
        return None
    expect_length(config, "layer_types", len(types))
    return tuple(size if word == "sliding_attention" else None for word in types)


def expect_length(config: Config, key: str, length: int) -> None:
    """Note a problem if a list with one entry per layer has another length."""
    layers = layer_count(config)
    if length != layers:
        config.wrong(key, f"has {length} entries", expected=f"{layers}, one per layer")


def mlp(config: Config, *, gated: bool = True, bias: bool = False) -> DenseMlp:
    """Return the dense feed-forward network of `intermediate_size`."""
    return DenseMlp(
        hidden=hidden_size(config),
        width=config.integer("intermediate_size", "ffn_dim"),
        gated=gated,
        bias=bias,
    )


def sublayer(
    name: str, component: Component, norm: Norm | None, post_norm: Norm | None = None
) -> Sublayer:
    """Return a sublayer with one branch."""
    branch = Branch(component=component)
    return Sublayer(name=name, branches=(branch,), norm=norm, post_norm=post_norm)


def pre_norm_layer(
    mixer: Component, ffn: Component, norm: Norm | None, post_norm: Norm | None = None
) -> Layer:
    """Return the usual layer: mixer, then feed-forward network, each with its norms."""
    return Layer(
        sublayers=(
            sublayer("mixer", mixer, norm, post_norm),
            sublayer("ffn", ffn, norm, post_norm),
        )
    )


def parallel_layer(mixer: Component, ffn: Component, norm: Norm) -> Layer:
    """Return a layer whose mixer and feed-forward network read the same normed stream."""
    branches = (Branch(component=mixer), Branch(component=ffn))
    return Layer(sublayers=(Sublayer(name="parallel", branches=branches, norm=norm),))


def decoder(
    config: Config, layers: Iterable[Layer], norm: Norm | None, *, tied: bool = False
) -> Model:
    """Return the model around the layers; `tied` is the family's default for tied embeddings."""
    return Model(
        name=config.name,
        model_type=config.word("model_type", default=""),
        hidden=hidden_size(config),
        vocab=config.integer("vocab_size"),
        tied_embeddings=config.flag("tie_word_embeddings", default=tied),
        layers=tuple(layers),
        final_norm=norm,
    )


def with_notes(model: Model, *notes: str) -> Model:
    """Return the model with further notes."""
    return replace(model, notes=(*model.notes, *notes))
