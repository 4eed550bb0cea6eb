"""A step: one forward pass of one batch as a graph of operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.kernel.formats import KvFormat, WeightFormat
from sim.kernel.operators import Operator, Tensor, Traffic
from sim.model.architecture import Layer, Model
from sim.model.assembly import (
    NextNorms,
    embedding_block,
    head_block,
    layer_block,
    next_norms,
    quantise_behind_norm,
)
from sim.model.emitter import StepShape
from sim.model.moe import Moe

if TYPE_CHECKING:
    import networkx as nx

Draws = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Operators in execution order; `index` is the layer, -1 the embedding, n the head.

    Layers that lower alike share one `operators` object, so identity tells kinds apart.
    """

    index: int
    operators: tuple[Operator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepGraph:
    """All blocks of a step in execution order, and the shape they were built for."""

    shape: StepShape
    blocks: tuple[Block, ...]

    def operators(self) -> Iterator[tuple[int, Operator]]:
        """Yield every operator of the step with its block's index, in execution order."""
        for block in self.blocks:
            for operator in block.operators:
                yield block.index, operator

    def to_networkx(self) -> nx.DiGraph[str]:
        """Return the DAG of operators: an edge from whoever wrote a tensor last to its reader.

        Nodes are `BLOCK/NAME` with the attribute `operator`, edges carry the name `tensor`.
        Activation buffers are reused, so an edge means "the value read", not "the memory".
        """
        import networkx  # noqa: PLC0415 - slow to import, needed by few

        graph: nx.DiGraph[str] = networkx.DiGraph()
        writers: dict[tuple[int | None, str], str] = {}
        for index, operator in self.operators():
            node = f"{index}/{operator.name}"
            graph.add_node(node, operator=operator)
            for tensor in operator.reads():
                writer = writers.get(_memory(index, tensor))
                if writer is not None:
                    graph.add_edge(writer, node, tensor=tensor.name)
            for tensor in operator.writes():
                writers[_memory(index, tensor)] = node
        return graph


def _memory(index: int, tensor: Tensor) -> tuple[int | None, str]:
    """Return what tells buffers apart: activations are global, all else is a layer's own."""
    return (None if tensor.traffic is Traffic.ACTIVATIONS else index), tensor.name


def build_step(  # noqa: PLR0913 - a step has that many facts
    model: Model,
    *,
    batch: int,
    q_len: int,
    context: int,
    weight_format: WeightFormat,
    kv_format: KvFormat,
    merge_projections: bool,
    routing_draws: Draws = (),
    window_slack: int = 0,
) -> StepGraph:
    """Return one forward pass of `batch` sequences with `q_len` new tokens each.

    `context` counts the tokens visible to the last new token, itself included: decode is
    `q_len == 1`, prefill `q_len > 1` after a prefix of `context - q_len` tokens. Layer i takes
    `routing_draws[i % len(routing_draws)]` as tokens per expert if it routes.

    Of a share of a model (`sim.model.parallel.shard`) it is the step of that GPU, its collectives
    included. Then a draw holds the tokens of all `data_parallel` groups of GPUs that share the
    experts, `batch * q_len` of each. Raises ValueError for a shape without tokens, a missing draw
    or one that does not fit.
    """
    shape = StepShape(
        batch=batch,
        q_len=q_len,
        context=context,
        weight_format=weight_format,
        kv_format=kv_format,
        merge_projections=merge_projections,
        window_slack=window_slack,
        tensor_parallel=model.tensor_parallel,
        data_parallel=model.data_parallel,
    )
    layers = _layer_blocks(model, shape, routing_draws)
    blocks = (embedding_block(model, shape), *layers, head_block(model, shape))
    return StepGraph(
        shape=shape,
        blocks=tuple(
            Block(index=index, operators=operators)
            for index, operators in enumerate(quantise_behind_norm(blocks), start=-1)
        ),
    )


def _layer_blocks(model: Model, shape: StepShape, draws: Draws) -> Iterator[tuple[Operator, ...]]:
    kinds: dict[tuple[Layer, NextNorms, tuple[int, ...]], tuple[Operator, ...]] = {}
    # Layers that are one object need not be compared.
    seen: dict[tuple[int, int, int], tuple[Operator, ...]] = {}
    layers = model.layers
    for index, layer in enumerate(layers):
        behind = id(layers[index + 1]) if index + 1 < len(layers) else 0
        place = (id(layer), behind, index % max(1, len(draws)))
        if place not in seen:
            draw = _draw_of(layer, index, draws)
            following = next_norms(model, index + 1)
            kind = (layer, following, draw)
            if kind not in kinds:
                kinds[kind] = layer_block(layer, following, shape, hidden=model.hidden, draw=draw)
            seen[place] = kinds[kind]
        yield seen[place]


def _draw_of(layer: Layer, index: int, draws: Draws) -> tuple[int, ...]:
    if not any(isinstance(component, Moe) for component in layer.components()):
        return ()
    if not draws:
        raise ValueError("routing_draws is empty, but the model routes tokens to experts")
    return draws[index % len(draws)]
