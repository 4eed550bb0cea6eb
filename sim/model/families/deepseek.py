"""DeepSeek-V2, V3, V3.2, Kimi K2, GLM-4.7-Flash: latent attention and fine-grained experts."""

from dataclasses import replace

from sim.model.architecture import Model
from sim.model.config import Config
from sim.model.families.common import HEAD_KEYS, decoder, hidden_size, with_notes
from sim.model.families.experts import dense_then_sparse, group_limits, moe, mtp_notes
from sim.model.mla import Indexer, MlaMixer
from sim.model.parameters import Norm

INDEXER_NOTE = (
    "The sparse-attention indexer's projections run, but its scores and its choice of "
    "{top} tokens are not simulated: attention reads the whole context."
)


def _mla(config: Config) -> MlaMixer:
    """Return the latent attention; a null `q_lora_rank` means one full query projection.

    An absent one is refused: the class default 1536 is wrong for the models that leave it out.
    """
    full_query = config.is_null("q_lora_rank")
    return MlaMixer(
        hidden=hidden_size(config),
        n_heads=config.integer(*HEAD_KEYS),
        q_lora=None if full_query else config.integer("q_lora_rank"),
        kv_lora=config.integer("kv_lora_rank"),
        nope_dim=config.integer("qk_nope_head_dim"),
        rope_dim=config.integer("qk_rope_head_dim"),
        v_dim=config.integer("v_head_dim"),
        bias=config.flag("attention_bias", default=False),
    )


def _build(config: Config, mixer: MlaMixer) -> Model:
    experts = group_limits(config, moe(config, "moe_intermediate_size"))
    correction = config.word("topk_method", default="noaux_tc") == "noaux_tc"
    layers = dense_then_sparse(config, mixer, replace(experts, correction_bias=correction))
    model = decoder(config, layers, Norm(width=hidden_size(config)))
    return with_notes(model, *mtp_notes(config))


def deepseek_v2(config: Config) -> Model:
    """Return DeepSeek-V2: softmax router without correction unless the file says otherwise."""
    return _build(config.with_defaults(topk_method="greedy"), _mla(config))


def deepseek_v3(config: Config) -> Model:
    """Return DeepSeek-V3, R1 or Kimi K2: sigmoid router with a correction bias."""
    return _build(config, _mla(config))


def glm4_moe_lite(config: Config) -> Model:
    """Return GLM-4.7-Flash: DeepSeek-V3's layers with heads of 256, the first layer dense."""
    return _build(config.with_defaults(first_k_dense_replace=1), _mla(config))


def deepseek_v32(config: Config) -> Model:
    """Return DeepSeek-V3.2: V3 with the projections of the sparse-attention indexer."""
    indexer = Indexer(
        n_heads=config.integer("index_n_heads"), head_dim=config.integer("index_head_dim")
    )
    top = config.integer("index_topk")
    model = _build(config, replace(_mla(config), indexer=indexer))
    return with_notes(model, INDEXER_NOTE.format(top=top))
