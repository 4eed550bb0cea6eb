"""The gated short convolution of LFM2 (Liquid AI, 2025): a mixer with no other memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.operators import Tensor
from sim.model.component import WithoutCache
from sim.model.conv import CausalConv
from sim.model.emitter import Emitter, part_of
from sim.model.parameters import PLAIN_BYTES, Matrix, Parameter

PART = "short_conv"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConv(WithoutCache):
    """Project to B, C and x; convolve B·x over `kernel` tokens; multiply by C; project back.

    `inner` is the number of channels between the projections (None: as many as `hidden`).
    """

    hidden: int
    kernel: int
    bias: bool = False
    inner: int | None = None

    @property
    def channels(self) -> int:
        """Return the number of channels that are convolved."""
        return self.hidden if self.inner is None else self.inner

    def _in(self) -> Matrix:
        return Matrix(name="in_proj", n_out=3 * self.channels, n_in=self.hidden, bias=self.bias)

    def _out(self) -> Matrix:
        return Matrix(name="out_proj", n_out=self.hidden, n_in=self.channels, bias=self.bias)

    def _conv(self) -> CausalConv:
        return CausalConv(channels=self.channels, kernel=self.kernel, bias=self.bias, silu=False)

    def parameters(self) -> Iterator[Parameter]:
        """Yield both projections and the convolution."""
        yield from (self._in(), self._conv().vector(), self._out())

    def state_bytes(self, batch: int) -> int:
        """Return the size of the convolution states."""
        return self._conv().state_bytes(batch)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append projection, input gate, convolution, output gate and projection."""
        projected = emitter.gemm(self._in(), x, "conv_in", part=PART)
        third = part_of(projected, emitter.shape.tokens * self.channels * PLAIN_BYTES)
        values = emitter.shape.tokens * self.channels
        gated = emitter.activation("conv_gated", self.channels)
        emitter.elementwise(
            "gate",
            "input_gate",
            part=PART,
            reads=((projected, 2 * third.size_bytes),),
            writes=(gated,),
            flop=values,
        )
        out = self._conv().emit(emitter, gated, part=PART)
        emitter.elementwise(
            "gate", "output_gate", part=PART, reads=(out, third), writes=(out,), flop=values
        )
        return emitter.row_parallel(self._out(), out, "mixer_out", part=PART)
