"""A model: an embedding, layers of sublayers, a final norm and a head.

The pieces that do the work (attention, MoE, Mamba, ...) have a module each and follow
`sim.model.component.Component`. This module knows how they are put together, and counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.model.attention import AttentionMixer
from sim.model.component import Component
from sim.model.delta_net import GatedDeltaNet
from sim.model.mla import MlaMixer
from sim.model.moe import Moe
from sim.model.parameters import Matrix, Norm, Parameter, Vector
from sim.model.rwkv6 import Rwkv6Mixer
from sim.model.rwkv7 import Rwkv7Mixer
from sim.model.shared_block import SharedBlockMixer, SharedTransformer

LINEAR_ATTENTION = (GatedDeltaNet, Rwkv6Mixer, Rwkv7Mixer)
ATTENTION = (AttentionMixer, MlaMixer, SharedBlockMixer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A component in a sublayer, with norms of its own before (Falcon's new decoder) and after."""

    component: Component
    norm: Norm | None = None
    post_norm: Norm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sublayer:
    """Branches that read the same stream and whose results are added to it together.

    One branch is the usual case; two make a parallel residual (GPT-J, Falcon, Phi-2, Command R).
    `norm` comes before all of them, `post_norm` after their sum, just before the addition.
    """

    name: str
    branches: tuple[Branch, ...]
    norm: Norm | None = None
    post_norm: Norm | None = None

    def norms(self) -> Iterator[tuple[str, Norm]]:
        """Yield every norm with its name in the layer."""
        yield from self.entry_norms()
        for number, branch in enumerate(self.branches):
            if branch.post_norm is not None:
                yield f"{self.name}_post_norm_{number}", branch.post_norm
        if self.post_norm is not None:
            yield f"{self.name}_post_norm", self.post_norm

    def entry_norms(self) -> Iterator[tuple[str, Norm]]:
        """Yield the norms that turn the residual stream into the branches' inputs."""
        if self.norm is not None:
            yield f"{self.name}_norm", self.norm
        for number, branch in enumerate(self.branches):
            if branch.norm is not None:
                yield f"{self.name}_norm_{number}", branch.norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer; equal layers lower to the same operators."""

    sublayers: tuple[Sublayer, ...]

    def components(self) -> Iterator[Component]:
        """Yield the components in execution order."""
        for sublayer in self.sublayers:
            for branch in sublayer.branches:
                yield branch.component

    def parameters(self) -> Iterator[Parameter]:
        """Yield every parameter that the layer reads, shared ones included."""
        for sublayer in self.sublayers:
            for name, norm in sublayer.norms():
                yield norm.vector(name)
        for component in self.components():
            yield from component.parameters()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a configuration describes.

    `positions` is the number of learnt position vectors (OPT), 0 for none; `softcap` tells that
    logits pass through tanh; `notes` are sentences about mechanisms that are not simulated.

    It may be the share of one GPU (`sim.model.parallel.shard`): of `tensor_parallel` that divide it
    and step together, in `data_parallel` groups whose experts see each other's tokens.
    """

    name: str
    model_type: str
    hidden: int
    vocab: int
    tied_embeddings: bool
    layers: tuple[Layer, ...]
    final_norm: Norm | None
    embedding_norm: Norm | None = None
    positions: int = 0
    head_bias: bool = False
    softcap: bool = False
    notes: tuple[str, ...] = ()
    tensor_parallel: int = 1
    data_parallel: int = 1

    def embedding(self) -> Matrix:
        """Return the token table [vocab, hidden]."""
        return Matrix(name="embedding", n_out=self.vocab, n_in=self.hidden, is_head=True)

    def position_table(self) -> tuple[Vector, ...]:
        """Return the learnt position vectors, if any."""
        size = self.positions * self.hidden
        return (Vector(name="positions.weight", size=size),) if size else ()

    def head(self) -> Matrix:
        """Return the LM head [vocab, hidden]; stored once with the token table if tied."""
        return Matrix(
            name="lm_head", n_out=self.vocab, n_in=self.hidden, bias=self.head_bias, is_head=True
        )

    def outer_parameters(self) -> Iterator[Parameter]:
        """Yield what lies outside the layers, a tied table once (as the head)."""
        if not self.tied_embeddings:
            yield self.embedding()
        yield from self.position_table()
        if self.embedding_norm is not None:
            yield self.embedding_norm.vector("embedding_norm")
        if self.final_norm is not None:
            yield self.final_norm.vector("final_norm")
        yield self.head()

    def executed_parameters(self) -> Iterator[Parameter]:
        """Yield the parameters as a token meets them: a shared block once per use."""
        yield from self.outer_parameters()
        for layer in self.layers:
            yield from layer.parameters()

    def stored_parameters(self) -> Iterator[Parameter]:
        """Yield the parameters as they lie in memory: a shared block once."""
        yield from self.outer_parameters()
        seen: set[SharedTransformer] = set()
        for layer in self.layers:
            shared = list(_shared_blocks(layer))
            repeated = {p for block in shared if block in seen for p in block.parameters()}
            seen.update(shared)
            yield from (p for p in layer.parameters() if p not in repeated)

    def parameters(self) -> int:
        """Return the number of parameters, each counted once."""
        return sum(parameter.total for parameter in self.stored_parameters())

    def active_parameters(self, *, input_embedding: bool = True) -> int:
        """Return the number of parameters that one token uses.

        Every expert that is not chosen is left out; a shared block counts at each use. Without
        `input_embedding`, a token table that is not also the head and learnt positions are left
        out too, as they are looked up and not multiplied.
        """
        total = sum(parameter.active for parameter in self.executed_parameters())
        if input_embedding:
            return total
        table = 0 if self.tied_embeddings else self.embedding().total
        return total - table - sum(vector.total for vector in self.position_table())

    def components(self) -> Iterator[Component]:
        """Yield all components in execution order."""
        for layer in self.layers:
            yield from layer.components()

    @property
    def moe(self) -> Moe | None:
        """Return the first MoE of the model, or None; all MoE layers of a model are alike."""
        return next((c for c in self.components() if isinstance(c, Moe)), None)

    @property
    def family(self) -> str:
        """Return the word for what dominates the memory traffic of this architecture.

        One of: dense, sliding window, MLA, SSM, linear attention, hybrid; with MoE in front or
        behind where experts are routed.
        """
        mixer = self._mixer_word()
        if self.moe is None:
            return mixer
        return {"dense": "MoE", "hybrid": "hybrid MoE"}.get(mixer, f"MoE + {mixer}")

    def _mixer_word(self) -> str:
        components = tuple(self.components())
        attends = any(isinstance(c, ATTENTION) for c in components)
        recurs = any(c.state_bytes(1) for c in components)
        if recurs:
            linear = any(isinstance(c, LINEAR_ATTENTION) for c in components)
            return "hybrid" if attends else "linear attention" if linear else "SSM"
        if any(isinstance(c, MlaMixer) for c in components):
            return "MLA"
        windowed = any(isinstance(c, AttentionMixer) and c.window for c in components)
        return "sliding window" if windowed else "dense"


def _shared_blocks(layer: Layer) -> Iterator[SharedTransformer]:
    for component in layer.components():
        if isinstance(component, SharedBlockMixer):
            yield component.block
