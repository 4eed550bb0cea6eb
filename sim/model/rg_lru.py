"""Griffin's recurrent block (arXiv 2402.19427): a convolution, a gated linear recurrence."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.operators import Tensor
from sim.model.component import WithoutCache
from sim.model.conv import CausalConv, channel_blocks
from sim.model.emitter import Emitter
from sim.model.parameters import Matrix, Parameter, Vector
from sim.model.recurrence import Recurrence

PART = "recurrent"
CHANNEL_FLOP = 10
"""Per channel: log decay (2), decay and its complement (3), input gate (2), state update (3)."""

SCAN_CHUNK = 256
"""Tokens a CTA walks at a time in a linear scan kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RgLruMixer(WithoutCache):
    """`width` channels with one state value each; gates are block-diagonal over `n_heads`."""

    hidden: int
    width: int
    n_heads: int
    kernel: int

    def _in(self) -> tuple[Matrix, Matrix]:
        y, x = (
            Matrix(name=name, n_out=self.width, n_in=self.hidden, bias=True)
            for name in ("linear_y", "linear_x")
        )
        return y, x

    def _gates(self) -> tuple[Matrix, Matrix]:
        """Return both gates; `n_in` is one block, so bytes and FLOP are those of the blocks."""
        block = self.width // self.n_heads
        input_gate, recurrence_gate = (
            Matrix(name=name, n_out=self.width, n_in=block, bias=True, quantised=False)
            for name in ("input_gate", "recurrence_gate")
        )
        return input_gate, recurrence_gate

    def _out(self) -> Matrix:
        return Matrix(name="linear_out", n_out=self.hidden, n_in=self.width, bias=True)

    def _conv(self) -> CausalConv:
        return CausalConv(channels=self.width, kernel=self.kernel, bias=True, silu=False)

    def _decay(self) -> Vector:
        return Vector(name="recurrent_param", size=self.width, value_bytes=4)

    def _recurrence(self) -> Recurrence:
        flop = CHANNEL_FLOP * self.width
        return Recurrence(
            name="rg_lru",
            n_heads=channel_blocks(self.width),
            state_values=self.width,
            step_flop=flop,
            sfu_ops=5 * self.width,
            chunk=SCAN_CHUNK,
            scan_tensor_flop=0,
            scan_vector_flop=flop,
        )

    def parameters(self) -> Iterator[Parameter]:
        """Yield both input projections, convolution, gates, decay and output projection."""
        yield from (*self._in(), self._conv().vector(), *self._gates(), self._decay())
        yield self._out()

    def state_bytes(self, batch: int) -> int:
        """Return the size of convolution and recurrent states."""
        return self._conv().state_bytes(batch) + self._recurrence().state_bytes(batch)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append projections, convolution, gates, recurrence, the GELU branch and output."""
        y, branch = emitter.projections("linear_yx", self._in(), x, part=PART)
        conv_out = self._conv().emit(emitter, branch, part=PART)
        gates = emitter.projections("lru_gates", self._gates(), conv_out, part=PART)
        out = emitter.activation("lru_out", self.width)
        inputs = (conv_out, *gates, emitter.stored(self._decay()))
        self._recurrence().emit(emitter, inputs, out, part=PART)
        values = emitter.shape.tokens * self.width
        emitter.elementwise(
            "gate",
            "lru_gate",
            part=PART,
            reads=(out, y),
            writes=(out,),
            flop=5 * values,
            sfu=values,
        )
        return emitter.row_parallel(self._out(), out, "mixer_out", part=PART)
