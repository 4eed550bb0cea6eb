"""What RWKV-6 and RWKV-7 share: token shift, low-rank maps and the channel mix.

Low-rank maps stay in 16 bits, as llama.cpp keeps them (`llama-quant.cpp`: "do not quantize RWKV's
small yet 2D weights").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sim.kernel.operators import Tensor
from sim.model.component import WithoutCache
from sim.model.emitter import Emitter
from sim.model.parameters import PLAIN_BYTES, Matrix, Parameter, Vector

SCAN_CHUNK = 64
"""Chunk of flash-linear-attention's RWKV kernels."""


def low_rank(name: str, *, hidden: int, rank: int, bias: bool) -> tuple[Matrix, Matrix]:
    """Return the two matrices of a low-rank map of `hidden` values through `rank`."""
    down = Matrix(name=f"{name}.down", n_out=rank, n_in=hidden, quantised=False)
    up = Matrix(name=f"{name}.up", n_out=hidden, n_in=rank, bias=bias, quantised=False)
    return down, up


def emit_low_rank(
    emitter: Emitter, pair: tuple[Matrix, Matrix], x: Tensor, *, part: str, nonlinear: bool
) -> Tensor:
    """Append both GEMMs of a low-rank map, with tanh or sigmoid between if `nonlinear`."""
    down, up = pair
    inner = emitter.gemm(down, x, down.name, part=part)
    if nonlinear:
        values = emitter.shape.tokens * down.n_out
        emitter.elementwise(
            "activation",
            f"{down.name}.activation",
            part=part,
            reads=(inner,),
            writes=(inner,),
            flop=values,
            sfu=values,
        )
    return emitter.gemm(up, inner, up.name, part=part)


def shift_bytes(batch: int, hidden: int) -> int:
    """Return the size of the remembered last token of `batch` sequences."""
    return batch * hidden * PLAIN_BYTES


def emit_token_shift(
    emitter: Emitter, x: Tensor, mix: Vector, names: Sequence[str], *, hidden: int, part: str
) -> tuple[Tensor, ...]:
    """Append the mix of each token with the one before it, one output per name.

    `mix` holds one weight vector per output; the last token of each sequence is kept as state.
    """
    prefix = f"{part}_shift"
    state = emitter.state(prefix, shift_bytes(emitter.shape.batch, hidden))
    outputs = tuple(emitter.activation(f"{prefix}.{name}", hidden) for name in names)
    emitter.elementwise(
        "token_shift",
        prefix,
        part=part,
        reads=(x, emitter.stored(mix), state),
        writes=(*outputs, state),
        flop=emitter.shape.tokens * hidden * (1 + 2 * len(names)),
    )
    return outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelMix(WithoutCache):
    """RWKV's feed-forward network: squared ReLU, with a sigmoid gate if `receptance` (RWKV-6)."""

    hidden: int
    width: int
    receptance: bool

    def _names(self) -> tuple[str, ...]:
        return ("k", "r") if self.receptance else ("k",)

    def _mix(self) -> Vector:
        return Vector(name="channel_mix.mix", size=len(self._names()) * self.hidden)

    def _matrices(self) -> tuple[Matrix, Matrix]:
        return (
            Matrix(name="ffn.key", n_out=self.width, n_in=self.hidden),
            Matrix(name="ffn.value", n_out=self.hidden, n_in=self.width),
        )

    def _gate(self) -> tuple[Matrix, ...]:
        gate = Matrix(name="ffn.receptance", n_out=self.hidden, n_in=self.hidden)
        return (gate,) if self.receptance else ()

    def parameters(self) -> Iterator[Parameter]:
        """Yield mixing weights and matrices."""
        yield self._mix()
        yield from (*self._matrices(), *self._gate())

    def state_bytes(self, batch: int) -> int:
        """Return the size of the remembered last token."""
        return shift_bytes(batch, self.hidden)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append token shift, key, squared ReLU, value and any receptance gate."""
        key, value = self._matrices()
        mixed = emit_token_shift(
            emitter, x, self._mix(), self._names(), hidden=self.hidden, part="mlp"
        )
        hidden = emitter.gemm(key, mixed[0], "ffn_key", part="mlp")
        emitter.elementwise(
            "activation",
            "squared_relu",
            part="mlp",
            reads=(hidden,),
            writes=(hidden,),
            flop=2 * hidden.size_bytes // PLAIN_BYTES,
        )
        out = emitter.gemm(value, hidden, "ffn_out", part="mlp")
        for matrix in self._gate():
            gate = emitter.gemm(matrix, mixed[1], "ffn_receptance", part="mlp")
            values = out.size_bytes // PLAIN_BYTES
            emitter.elementwise(
                "gate",
                "receptance_gate",
                part="mlp",
                reads=(out, gate),
                writes=(out,),
                flop=values,
                sfu=values,
            )
        return out
