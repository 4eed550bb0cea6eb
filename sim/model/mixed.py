"""The step of a batch of unlike sequences: chunks of prompts beside decodes of many lengths.

Engines run one forward pass over all tokens of a batch: projections, norms and experts see one
matrix of tokens, padded to a size for which a CUDA graph was captured; attention, recurrences and
what expands a latent cache see sequences. So the graph is spliced: what works token by token comes
from a step of as many tokens, what works sequence by sequence from the step of each group of equal
sequences, at the same place. Attention of all groups is one call (`MixedAttention`), as in vLLM's
backends; a latent cache has a call for decodes and one for prompts, recurrent layers likewise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby

from sim.kernel.formats import KvFormat, WeightFormat
from sim.kernel.operators import (
    Attention,
    ChunkedScan,
    Elementwise,
    Gemm,
    MixedAttention,
    MlaAttention,
    Operator,
    StateUpdate,
    Tensor,
    Traffic,
)
from sim.model.architecture import Model
from sim.model.step import Block, Draws, StepGraph, build_step
from sim.units import ceil_div

Operators = tuple[Operator, ...]
_OWN_MEMORY = (Traffic.KV, Traffic.STATE)
_BY_SEQUENCE = (Attention, MixedAttention, MlaAttention, StateUpdate, ChunkedScan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """`count` sequences with `q_len` new tokens each; `context` includes the new tokens."""

    count: int
    q_len: int
    context: int

    @property
    def tokens(self) -> int:
        """Return the new tokens of all sequences."""
        return self.count * self.q_len


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFormats:
    """What all steps of one engine share."""

    weight_format: WeightFormat
    kv_format: KvFormat
    merge_projections: bool


def build_mixed_step(
    model: Model,
    groups: Sequence[Group],
    formats: StepFormats,
    *,
    padded_tokens: int | None = None,
    draws: Draws = (),
) -> StepGraph:
    """Return one forward pass over all `groups`; every sequence ends in one row of logits.

    `padded_tokens` are the rows that token-wise operators compute (default: the tokens of the
    groups); `draws` route that many tokens. Groups of equal new tokens are decodes of several
    lengths, or chunks. Raises ValueError without groups, or for fewer padded tokens than tokens.
    """
    tokens = sum(group.tokens for group in groups)
    rows = tokens if padded_tokens is None else padded_tokens
    if not groups or rows < tokens:
        raise ValueError(f"padded_tokens (= {rows}) must be at least the {tokens} of the groups")
    if len(groups) == 1 and rows == tokens:
        return _uniform(model, groups[0], formats, draws)
    decodes = [group for group in groups if group.q_len == 1]
    chunks = [group for group in groups if group.q_len > 1]
    apart = [_graph(model, group, formats) for group in (*_as_one(decodes), *chunks)]
    if len(decodes) > 1:
        lengths = [_graph(model, group, formats) for group in decodes]
        apart[0] = _with_attention_of(apart[0], lengths)
    shape = Group(count=rows, q_len=1, context=1)
    whole = shape if decodes else Group(count=1, q_len=rows, context=rows)
    together = _uniform(model, whole, formats, draws)
    logits = Group(count=sum(group.count for group in groups), q_len=1, context=1)
    head = _graph(model, logits, formats).blocks[-1]
    return replace(together, blocks=(*_spliced(together, apart), head))


def token_wise_names(model: Model, groups: Sequence[Group], formats: StepFormats) -> frozenset[str]:
    """Return the names of operators that see the tokens of a batch of `groups`, not its sequences.

    Which they are depends on what meets in a batch: beside prompts, whose latent cache is expanded
    for all their context, the absorbed projections of decodes are theirs alone.
    """
    kinds = {group.q_len == 1: group for group in groups}
    graphs = [_graph(model, group, formats) for group in kinds.values()]
    names: frozenset[str] = frozenset()
    seen: set[tuple[int, ...]] = set()
    for blocks in zip(*(graph.blocks for graph in graphs), strict=True):
        key = tuple(id(block.operators) for block in blocks)
        if key not in seen:
            seen.add(key)
            names |= _token_wise([block.operators for block in blocks])
    return names


def _uniform(model: Model, group: Group, formats: StepFormats, draws: Draws) -> StepGraph:
    return build_step(
        model,
        batch=group.count,
        q_len=group.q_len,
        context=group.context,
        weight_format=formats.weight_format,
        kv_format=formats.kv_format,
        merge_projections=formats.merge_projections,
        routing_draws=draws,
    )


def _graph(model: Model, group: Group, formats: StepFormats) -> StepGraph:
    return _uniform(model, group, formats, _any_draw(model, group.tokens))


def _as_one(decodes: Sequence[Group]) -> tuple[Group, ...]:
    """Return all decodes as one group of their mean length, for what needs no attention lengths.

    The latent kernels' schedulers cut sequences into equal parts, so the mean is what counts.
    """
    count = sum(group.count for group in decodes)
    if not count:
        return ()
    total = sum(group.count * group.context for group in decodes)
    return (Group(count=count, q_len=1, context=ceil_div(total, count)),)


def _with_attention_of(graph: StepGraph, lengths: Sequence[StepGraph]) -> StepGraph:
    """Return `graph` with each attention replaced by those of sequences of several lengths."""
    blocks = []
    known: dict[int, Operators] = {}
    for block, *others in zip(graph.blocks, *(g.blocks for g in lengths), strict=True):
        key = id(block.operators)
        if key not in known:
            columns = zip(block.operators, *(other.operators for other in others), strict=True)
            known[key] = tuple(op for column in columns for op in _lengthwise(*column))
        blocks.append(replace(block, operators=known[key]))
    return replace(graph, blocks=tuple(blocks))


def _lengthwise(op: Operator, *of_lengths: Operator) -> Iterator[Operator]:
    if not isinstance(op, Attention):
        yield op
        return
    for number, other in enumerate(of_lengths):
        yield _own(other, f".{number}")


def _any_draw(model: Model, tokens: int) -> Draws:
    """Return a valid routing of `tokens` tokens, of whose experts nothing is used."""
    moe = model.moe
    if moe is None:
        return ()
    routed = tokens * model.data_parallel
    return ((routed,) * moe.top_k + (0,) * (moe.n_experts - moe.top_k),)


def _spliced(together: StepGraph, apart: Sequence[StepGraph]) -> Iterator[Block]:
    """Yield all blocks but the head; blocks that share operators go on sharing them."""
    known: dict[tuple[int, ...], Operators] = {}
    for blocks in zip(together.blocks[:-1], *(graph.blocks[:-1] for graph in apart), strict=True):
        key = tuple(id(block.operators) for block in blocks)
        if key not in known:
            known[key] = _splice(blocks[0].operators, [b.operators for b in blocks[1:]])
        yield Block(index=blocks[0].index, operators=known[key])


def _splice(whole: Operators, groups: Sequence[Operators]) -> Operators:
    """Return one block: token-wise operators of `whole`, the others of each group in between."""
    shared = _token_wise([whole, *groups])
    many = len(groups) > 1
    parts = [
        _stretches(
            [_own(op, f" {n}") if many and op.name not in shared else op for op in ops], shared
        )
        for n, ops in enumerate(groups)
    ]
    result: list[Operator] = []
    anchors = [op for op in whole if op.name in shared]
    for place in range(len(anchors) + 1):
        between = [op for stretches in parts for op in stretches[place]]
        result += _joined(between)
        if place < len(anchors):
            result.append(_appends(anchors[place], groups))
    return tuple(result)


def _token_wise(forms: Sequence[Operators]) -> frozenset[str]:
    """Return the names of operators that every form has and that see tokens, not sequences."""
    names = [{op.name for op in form if _sees_tokens(op)} for form in forms]
    others = {op.name for form in forms for op in form if not _sees_tokens(op)}
    return frozenset(set.intersection(*names) - others)


def _sees_tokens(op: Operator) -> bool:
    if isinstance(op, _BY_SEQUENCE):
        return False
    if isinstance(op, Elementwise) and op.kind == "kv_append":
        return True
    if isinstance(op, Elementwise | Gemm):
        tensors = (*op.reads(), *op.writes())
        return not any(tensor.traffic in _OWN_MEMORY for tensor in tensors)
    return True


def _stretches(ops: Sequence[Operator], shared: frozenset[str]) -> list[list[Operator]]:
    """Return the operators before, between and behind the shared ones."""
    stretches: list[list[Operator]] = [[]]
    for op in ops:
        if op.name in shared:
            stretches.append([])
        else:
            stretches[-1].append(op)
    return stretches


def _joined(ops: list[Operator]) -> Iterator[Operator]:
    """Yield the operators of one place, with attention of all groups as one call."""
    for is_attention, same in groupby(ops, key=lambda op: isinstance(op, Attention)):
        members = list(same)
        if is_attention and len(members) > 1:
            yield MixedAttention(
                name=members[0].name.partition(" ")[0].partition(".")[0],
                part=members[0].part,
                attentions=tuple(op for op in members if isinstance(op, Attention)),
            )
        else:
            yield from members


def _own(op: Operator, suffix: str) -> Operator:
    """Return `op` under a name of its own, with caches and states of its own."""
    changes: dict[str, object] = {"name": f"{op.name}{suffix}"}
    for field in fields(op):
        value = getattr(op, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = _own_tensor(value, suffix)
        elif isinstance(value, tuple) and any(isinstance(item, Tensor) for item in value):
            changes[field.name] = tuple(_own_tensor(item, suffix) for item in value)
    return replace(op, **changes)  # type: ignore[arg-type]


def _own_tensor(tensor: Tensor, suffix: str) -> Tensor:
    if tensor.traffic not in _OWN_MEMORY:
        return tensor
    return replace(tensor, name=f"{tensor.name}{suffix}")


def _appends(op: Operator, groups: Sequence[Operators]) -> Operator:
    """Return the cache write of all tokens, to where the first attention behind it will read."""
    if not (isinstance(op, Elementwise) and op.kind == "kv_append"):
        return op
    (target,) = next(mine for mine in groups[0] if mine.name == op.name).writes()
    suffix = " 0" if len(groups) > 1 else ""
    size = max(op.written_bytes[0], target.size_bytes)
    return replace(op, outputs=(replace(_own_tensor(target, suffix), size_bytes=size),))
