"""Zamba2's shared transformer block (arXiv 2411.15242) in front of a Mamba-2 mixer."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.formats import KvFormat
from sim.kernel.operators import Tensor
from sim.model.attention import AttentionMixer
from sim.model.emitter import Emitter
from sim.model.mamba2 import Mamba2Mixer
from sim.model.mlp import emit_activation
from sim.model.parameters import PLAIN_BYTES, Matrix, Norm, Parameter

PART = "shared_block"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTransformer:
    """The block that several layers use in turn: norm, attention, norm, gated MLP, no residual.

    It reads the residual stream beside the embedding of the token, so it is twice as wide at the
    entry. `number` tells the shared blocks of a model apart.
    """

    number: int
    attention: AttentionMixer
    hidden: int
    width: int

    def up(self) -> Matrix:
        """Return gate and up as the one matrix that the checkpoint stores."""
        return Matrix(name="shared.gate_up", n_out=2 * self.width, n_in=self.hidden)

    def down(self) -> Matrix:
        """Return the down-projection."""
        return Matrix(name="shared.down", n_out=self.hidden, n_in=self.width)

    def entry_norm(self) -> Norm:
        """Return the norm of stream and embedding together."""
        return Norm(width=self.attention.n_in)

    def parameters(self) -> Iterator[Parameter]:
        """Yield what all layers that use this block share."""
        yield self.entry_norm().vector("shared.norm")
        yield from self.attention.parameters()
        yield Norm(width=self.hidden).vector("shared.ffn_norm")
        yield from (self.up(), self.down())


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedBlockMixer:
    """A Mamba-2 mixer whose input first gets the projected output of a shared transformer.

    Each layer has its own low-rank adapter (`adapter_rank`) beside the shared up-projection and
    its own output projection.
    """

    block: SharedTransformer
    adapter_rank: int
    mamba: Mamba2Mixer

    def _adapter(self) -> tuple[Matrix, Matrix]:
        down = Matrix(
            name="adapter.down",
            n_out=self.adapter_rank,
            n_in=self.block.hidden,
            quantised=False,
        )
        width = 2 * self.block.width
        up = Matrix(name="adapter.up", n_out=width, n_in=self.adapter_rank, quantised=False)
        return down, up

    def _linear(self) -> Matrix:
        return Matrix(name="linear", n_out=self.block.hidden, n_in=self.block.hidden)

    def _mamba_norm(self) -> Norm:
        return Norm(width=self.block.hidden)

    def own_parameters(self) -> Iterator[Parameter]:
        """Yield what only this layer has."""
        yield from (*self._adapter(), self._linear(), self._mamba_norm().vector("mamba_norm"))
        yield from self.mamba.parameters()

    def parameters(self) -> Iterator[Parameter]:
        """Yield everything the layer reads, shared block included."""
        yield from self.block.parameters()
        yield from self.own_parameters()

    def kv_bytes(self, kv_format: KvFormat, *, batch: int, context: int) -> int:
        """Return the size of this layer's own cache; only the weights are shared."""
        return self.block.attention.kv_bytes(kv_format, batch=batch, context=context)

    def state_bytes(self, batch: int) -> int:
        """Return the size of the Mamba-2 states."""
        return self.mamba.state_bytes(batch)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append the shared transformer, its projection into the stream, norm and Mamba-2."""
        hidden = self.block.hidden
        transformed = self._emit_transformer(emitter, x)
        projected = emitter.gemm(self._linear(), transformed, "shared_out", part=PART)
        entry = emitter.activation("mamba_in", hidden)
        emitter.elementwise(
            "residual_add",
            "shared_add",
            part=PART,
            reads=(x, projected),
            writes=(entry,),
            flop=emitter.shape.tokens * hidden,
        )
        emitter.norm(self._mamba_norm(), "mamba_norm", entry, entry, part=PART)
        return self.mamba.emit(emitter, entry)

    def _emit_transformer(self, emitter: Emitter, x: Tensor) -> Tensor:
        tokens, block = emitter.shape.tokens, self.block
        wide = emitter.activation("shared_in", block.attention.n_in)
        original = emitter.activation("embedded", block.hidden)
        emitter.elementwise(
            "norm",
            "shared.norm",
            part=PART,
            reads=(x, original, emitter.stored(block.entry_norm().vector("shared.norm"))),
            writes=(wide,),
            flop=4 * wide.size_bytes // PLAIN_BYTES,
            sfu=tokens,
        )
        attended = block.attention.emit(emitter, wide)
        norm = Norm(width=block.hidden)
        emitter.norm(norm, "shared.ffn_norm", attended, attended, part=PART)
        return self._emit_mlp(emitter, attended)

    def _emit_mlp(self, emitter: Emitter, x: Tensor) -> Tensor:
        down, up = self._adapter()
        shared = emitter.gemm(self.block.up(), x, "shared_up", part=PART)
        low = emitter.gemm(down, x, "adapter_low", part=PART)
        adapted = emitter.gemm(up, low, "adapter_out", part=PART)
        emitter.elementwise(
            "residual_add",
            "adapter_add",
            part=PART,
            reads=(shared, adapted),
            writes=(shared,),
            flop=shared.size_bytes // PLAIN_BYTES,
        )
        values = emitter.shape.tokens * self.block.width
        hidden = emit_activation(emitter, (shared,), values, prefix="shared_", part=PART)
        return emitter.row_parallel(self.block.down(), hidden, "shared_mlp_out", part=PART)
