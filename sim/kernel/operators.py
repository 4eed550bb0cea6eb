"""Operators: what a layer asks for, before anyone decides how a GPU does it.

An operator knows shapes, tensors and arithmetic. It holds no tile, no CTA and no time; lowering
(`sim.kernel.lower`) turns it into kernels for one chip and one engine profile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from sim.kernel.collective import Collective
from sim.kernel.formats import KvFormat, WeightFormat
from sim.units import ceil_div


class Traffic(StrEnum):
    """The class that every byte is charged to."""

    WEIGHTS = "weights"
    EXPERTS = "experts"
    KV = "kv"
    STATE = "state"
    ACTIVATIONS = "activations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A piece of memory that operators read or write.

    Names of weights, experts, KV and state are local to a layer (each layer has its own memory);
    activation names are global to the step, as engines reuse the same buffers in every layer.
    """

    name: str
    size_bytes: int
    traffic: Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What all operators have: a name unique in its layer, and the part it is reported under."""

    name: str
    part: str

    def reads(self) -> Iterator[Tensor]:
        """Yield the tensors that must exist before this operator runs."""
        raise NotImplementedError

    def writes(self) -> Iterator[Tensor]:
        """Yield the tensors that this operator makes."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm(Operator):
    """out[m, n] = a[m, k] @ weight[n, k]^T, weights stored in `weight_format`."""

    m: int
    n: int
    k: int
    a: Tensor
    weight: Tensor
    out: Tensor
    weight_format: WeightFormat

    def reads(self) -> Iterator[Tensor]:
        """Yield the activations and the weight."""
        yield from (self.a, self.weight)

    def writes(self) -> Iterator[Tensor]:
        """Yield the product."""
        yield self.out


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedGemm(Operator):
    """One GEMM per expert: rows `tokens_per_expert[e]` of `a` times expert e's weight[n, k].

    `experts` is the tensor of all experts together; an expert with no token is not read. Each token
    of the step went to `top_k` experts, of which only some may be on this GPU.
    """

    tokens_per_expert: tuple[int, ...]
    n: int
    k: int
    a: Tensor
    experts: Tensor
    out: Tensor
    weight_format: WeightFormat
    top_k: int = 1

    @property
    def tokens(self) -> int:
        """Return the tokens of the step, or as many as would choose that many experts."""
        return ceil_div(sum(self.tokens_per_expert), self.top_k)

    def reads(self) -> Iterator[Tensor]:
        """Yield the permuted tokens and the expert weights."""
        yield from (self.a, self.experts)

    def writes(self) -> Iterator[Tensor]:
        """Yield the products, still in permuted order."""
        yield self.out


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Operator):
    """Softmax attention of `q_len` new tokens per sequence over `context` cached tokens.

    `context` includes the new tokens. Each token sees at most `window` tokens (None: all). Decode
    is `q_len == 1`; prefill is causal. `kv` is the whole cache of the layer, of which only the
    visible part is read; `kv_read_bytes` is that part. `sinks` is one learnt logit per query head
    (gpt-oss), or None.
    """

    batch: int
    q_len: int
    context: int
    n_q_heads: int
    n_kv_heads: int
    qk_dim: int
    v_dim: int
    window: int | None
    q: Tensor
    kv: Tensor
    out: Tensor
    kv_format: KvFormat
    kv_read_bytes: int
    sinks: Tensor | None = None

    def reads(self) -> Iterator[Tensor]:
        """Yield queries, cache and any sinks."""
        yield from (self.q, self.kv)
        if self.sinks is not None:
            yield self.sinks

    def writes(self) -> Iterator[Tensor]:
        """Yield the attention output."""
        yield self.out


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedAttention(Operator):
    """Attention of several batches in one call, as an engine makes it for a mixed batch.

    `attentions` are batches of equal sequences of one layer: a chunk of prefill, decodes.
    """

    attentions: tuple[Attention, ...]

    def reads(self) -> Iterator[Tensor]:
        """Yield what all batches read."""
        for attention in self.attentions:
            yield from attention.reads()

    def writes(self) -> Iterator[Tensor]:
        """Yield what all batches write."""
        for attention in self.attentions:
            yield from attention.writes()


@dataclass(frozen=True, slots=True, kw_only=True)
class MlaAttention(Operator):
    """Multi-head latent attention over a cache of `kv_lora + rope_dim` values a token.

    In decode (`q_len == 1`) all heads share one latent vector per token: an MQA with `n_heads`
    query heads, keys of width `kv_lora + rope_dim` and values of width `kv_lora` (DeepSeek-V2,
    arXiv 2405.04434, section 2.1).
    """

    batch: int
    q_len: int
    context: int
    n_heads: int
    kv_lora: int
    rope_dim: int
    q: Tensor
    kv: Tensor
    out: Tensor
    kv_format: KvFormat
    kv_read_bytes: int

    def reads(self) -> Iterator[Tensor]:
        """Yield queries and latent cache."""
        yield from (self.q, self.kv)

    def writes(self) -> Iterator[Tensor]:
        """Yield the latent attention output."""
        yield self.out


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise(Operator):
    """A memory-bound pass over tensors: norm, rope, activation, residual, routing, sampling.

    `kind` is one of ELEMENTWISE_KINDS; engines fuse neighbouring kinds. `read_bytes` and
    `written_bytes` are the bytes touched (a gather reads less than its whole input); inputs and
    outputs are in the order of these tuples. `rows` is the number of tokens, for engines whose
    kernels give each token a CTA of its own (0: not known).
    """

    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    read_bytes: tuple[int, ...]
    written_bytes: tuple[int, ...]
    vector_flop: int
    sfu_ops: int = 0
    rows: int = 0

    def reads(self) -> Iterator[Tensor]:
        """Yield the inputs."""
        yield from self.inputs

    def writes(self) -> Iterator[Tensor]:
        """Yield the outputs."""
        yield from self.outputs


ELEMENTWISE_KINDS = (
    "embedding", "norm", "residual_add", "qk_norm", "rope", "kv_append", "activation", "gate",
    "router_topk", "permute", "combine", "quantise", "softcap", "scale", "sample",
    "conv", "token_shift",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StateUpdate(Operator):
    """One recurrent decode step: read the whole state, update it, write it back.

    The grid is `batch` x `n_heads`: each head of each sequence owns its slice of `state`.
    The new state goes to `new_state` (None: in place). A CTA of `warps` warps owns `tile_bytes` of
    a slice; `extra_steps` are chains of what a fused kernel does beside the update, `turn_steps`
    those for which a CTA holds the load/store unit (None: by the size of its tile).
    """

    batch: int
    n_heads: int
    state: Tensor
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    vector_flop: int
    sfu_ops: int = 0
    new_state: Tensor | None = None
    tile_bytes: int = 16 * 1024
    warps: int = 1
    extra_steps: int = 0
    turn_steps: int | None = None

    def reads(self) -> Iterator[Tensor]:
        """Yield the inputs and the old state."""
        yield from (*self.inputs, self.state)

    def writes(self) -> Iterator[Tensor]:
        """Yield the outputs and the new state."""
        yield from (*self.outputs, self.new_state or self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedScan(Operator):
    """A recurrence over `q_len` tokens in chunks (prefill of SSM and linear attention).

    The grid is `batch` x `n_heads`; each walks its chunks in order, reading inputs once and
    writing outputs once and the final state once. `key_dim` is the width of the keys of a delta
    rule, whose chunks are triangular systems (None: another recurrence); its first input holds
    queries, keys and values. `channel_gates` tells that the second holds a gate per channel of
    the keys (Kimi delta attention), not per head; `norms` that kernels of a chunked delta rule
    normalise queries and keys (else who made them did).
    """

    batch: int
    n_heads: int
    q_len: int
    chunk: int
    state: Tensor
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tensor_flop: int
    vector_flop: int
    sfu_ops: int = 0
    key_dim: int | None = None
    channel_gates: bool = False
    norms: bool = True

    def reads(self) -> Iterator[Tensor]:
        """Yield the inputs and the initial state."""
        yield from (*self.inputs, self.state)

    def writes(self) -> Iterator[Tensor]:
        """Yield the outputs and the final state."""
        yield from (*self.outputs, self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange(Operator):
    """A collective between the GPUs that share a step: all-reduce, all-gather, reduce-scatter.

    `what` says which, over how many ranks, and how many bytes (see `Collective`). It moves the
    `inputs` of every rank and makes the `outputs`; it is run by the engine's collective library,
    not lowered to a kernel.
    """

    what: Collective
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def reads(self) -> Iterator[Tensor]:
        """Yield what this rank sends."""
        yield from self.inputs

    def writes(self) -> Iterator[Tensor]:
        """Yield what this rank has afterwards."""
        yield from self.outputs
