"""Parallelism: the share of a model that one GPU of several holds.

Tensor parallelism as in Megatron-LM (arXiv 1909.08053) and vLLM: a GPU has some of the heads and of
the MLP's columns, and the results of all are added (`Emitter.row_parallel`); embedding and head
have a part of the vocabulary. Heads of keys and values that are fewer than the GPUs are copied, and
so is all that is not per head: latent projections, routers, norms. Expert parallelism gives each
GPU whole experts.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from sim.model.architecture import Branch, Layer, Model, Sublayer
from sim.model.attention import AttentionMixer
from sim.model.component import Component
from sim.model.delta_net import GatedDeltaNet
from sim.model.mamba import MambaMixer
from sim.model.mamba2 import Mamba2Mixer
from sim.model.mla import MlaMixer
from sim.model.mlp import DenseMlp
from sim.model.moe import Moe
from sim.model.rg_lru import RgLruMixer
from sim.model.shared_block import SharedBlockMixer
from sim.model.short_conv import ShortConv
from sim.units import ceil_div


def shard(model: Model, *, tensor: int = 1, expert: int = 1) -> Model:
    """Return the model as each of `tensor` GPUs holds it, its experts spread over `expert` GPUs.

    With `expert` above 1 the routed experts stay whole. They are spread over all GPUs that step
    together: `expert / tensor` data-parallel groups of `tensor` each. Equal layers stay equal. A
    vocabulary that does not divide is padded. Raises ValueError with everything that cannot be
    divided.
    """
    if tensor == expert == 1:
        return model
    cut = _Cut(tensor, expert)
    layers = {layer: _layer(cut, layer) for layer in dict.fromkeys(model.layers)}
    groups = cut.divide("GPUs that share the experts", expert) if expert > 1 else 1
    if expert > 1 and model.moe is None:
        cut.problems.setdefault("it has no experts to spread")
    if cut.problems:
        raise ValueError(f"{model.name} cannot be shared by GPUs: {'; '.join(cut.problems)}")
    return replace(
        model,
        vocab=ceil_div(model.vocab, tensor),
        layers=tuple(layers[layer] for layer in model.layers),
        tensor_parallel=tensor,
        data_parallel=groups,
    )


class _Cut:
    """Divides numbers by the GPUs, and remembers what does not divide."""

    def __init__(self, tensor: int, expert: int) -> None:
        self.tensor = tensor
        self.expert = expert
        self.problems: dict[str, None] = {}
        for name, count in (("tensor", tensor), ("expert", expert)):
            if count < 1:
                raise ValueError(f"{name} (= {count}) must be at least 1")

    def divide(self, what: str, count: int, parts: int | None = None) -> int:
        """Return the share of one GPU in `count` of something."""
        parts = self.tensor if parts is None else parts
        if count % parts:
            self.problems.setdefault(f"{parts} does not divide {count} {what}")
        return max(1, count // parts)

    def divide_or_copy(self, what: str, count: int) -> int:
        """Return the share of one GPU, which is one of something that several GPUs have."""
        if count < self.tensor and self.tensor % count == 0:
            return 1
        return self.divide(what, count)


def _layer(cut: _Cut, layer: Layer) -> Layer:
    return Layer(sublayers=tuple(_sublayer(cut, sublayer) for sublayer in layer.sublayers))


def _sublayer(cut: _Cut, sublayer: Sublayer) -> Sublayer:
    return replace(sublayer, branches=tuple(_branch(cut, branch) for branch in sublayer.branches))


def _branch(cut: _Cut, branch: Branch) -> Branch:
    return replace(branch, component=_component(cut, branch.component))


def _component(cut: _Cut, component: Component) -> Component:
    kind = type(component)
    if kind in _SPLITS:
        split: Component = _SPLITS[kind](cut, component)
        return split
    if cut.tensor > 1:
        cut.problems.setdefault(f"no engine divides its {kind.__name__}")
    return component


def _attention(cut: _Cut, mixer: AttentionMixer) -> AttentionMixer:
    return replace(
        mixer,
        n_q_heads=cut.divide("query heads", mixer.n_q_heads),
        n_kv_heads=cut.divide_or_copy("KV heads", mixer.n_kv_heads),
    )


def _mla(cut: _Cut, mixer: MlaMixer) -> MlaMixer:
    return replace(mixer, n_heads=cut.divide("heads", mixer.n_heads))


def _mlp(cut: _Cut, mlp: DenseMlp) -> DenseMlp:
    return replace(mlp, width=cut.divide("columns of the MLP", mlp.width))


def _moe(cut: _Cut, moe: Moe) -> Moe:
    shared = cut.divide("columns of the shared experts", moe.shared_width)
    moe = replace(moe, shared_width=shared if moe.shared_width else 0)
    if cut.expert == 1:
        return replace(moe, width=cut.divide("columns of an expert", moe.width))
    return replace(moe, local_experts=cut.divide("experts", moe.n_experts, cut.expert))


def _mamba(cut: _Cut, mixer: MambaMixer) -> MambaMixer:
    return replace(mixer, inner=cut.divide("Mamba channels", mixer.inner))


def _mamba2(cut: _Cut, mixer: Mamba2Mixer) -> Mamba2Mixer:
    return replace(
        mixer,
        n_heads=cut.divide("Mamba heads", mixer.n_heads),
        n_groups=cut.divide_or_copy("Mamba groups", mixer.n_groups),
    )


def _delta_net(cut: _Cut, mixer: GatedDeltaNet) -> GatedDeltaNet:
    return replace(
        mixer,
        n_k_heads=cut.divide("key heads", mixer.n_k_heads),
        n_v_heads=cut.divide("value heads", mixer.n_v_heads),
    )


def _rg_lru(cut: _Cut, mixer: RgLruMixer) -> RgLruMixer:
    return replace(
        mixer,
        width=cut.divide("recurrent channels", mixer.width),
        n_heads=cut.divide("gate blocks", mixer.n_heads),
    )


def _short_conv(cut: _Cut, mixer: ShortConv) -> ShortConv:
    return replace(mixer, inner=cut.divide("convolved channels", mixer.channels))


def _shared_block(cut: _Cut, mixer: SharedBlockMixer) -> SharedBlockMixer:
    block = replace(
        mixer.block,
        attention=_attention(cut, mixer.block.attention),
        width=cut.divide("columns of the shared MLP", mixer.block.width),
    )
    return replace(mixer, block=block, mamba=_mamba2(cut, mixer.mamba))


_SPLITS: Final[Mapping[type, Callable[[_Cut, Any], Any]]] = MappingProxyType(
    {
        AttentionMixer: _attention,
        MlaMixer: _mla,
        DenseMlp: _mlp,
        Moe: _moe,
        MambaMixer: _mamba,
        Mamba2Mixer: _mamba2,
        GatedDeltaNet: _delta_net,
        RgLruMixer: _rg_lru,
        ShortConv: _short_conv,
        SharedBlockMixer: _shared_block,
    }
)
