"""Mamba-2 (state space duality, arXiv 2405.21060): heads with a matrix state and scalar decay."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.operators import Tensor
from sim.model.component import WithoutCache
from sim.model.conv import CausalConv
from sim.model.emitter import NORM_FLOP, Emitter, part_of
from sim.model.parameters import PLAIN_BYTES, Matrix, Parameter, Vector
from sim.model.recurrence import Recurrence

PART = "ssm"
STATE_FLOP = 6
"""Per state value: dt·x·B (2), decay and add (2), times C and sum (2); the decay is per head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2Mixer(WithoutCache):
    """`n_heads` heads of `head_dim` channels, `state` values a channel, B and C per group."""

    hidden: int
    n_heads: int
    head_dim: int
    state: int
    n_groups: int
    kernel: int
    chunk: int
    conv_bias: bool = True
    proj_bias: bool = False
    gated_norm: bool = True

    @property
    def inner(self) -> int:
        """Return the number of channels."""
        return self.n_heads * self.head_dim

    def _in(self) -> Matrix:
        width = 2 * self.inner + 2 * self.n_groups * self.state + self.n_heads
        return Matrix(name="in_proj", n_out=width, n_in=self.hidden, bias=self.proj_bias)

    def _out(self) -> Matrix:
        return Matrix(name="out_proj", n_out=self.hidden, n_in=self.inner, bias=self.proj_bias)

    def _conv(self) -> CausalConv:
        channels = self.inner + 2 * self.n_groups * self.state
        return CausalConv(channels=channels, kernel=self.kernel, bias=self.conv_bias)

    def _decay(self) -> Vector:
        """Return A, D and the bias of dt, which the kernels take in fp32."""
        return Vector(name="A_D_dt", size=3 * self.n_heads, value_bytes=4)

    def _norm(self) -> tuple[Vector, ...]:
        return (Vector(name="gated_norm.weight", size=self.inner),) if self.gated_norm else ()

    def _recurrence(self) -> Recurrence:
        values = self.inner * self.state
        # per token, sections 6 and 7 of the paper: C·B inside the chunk (per group), scores times
        # x, the chunk's state and the output of the state before
        scan = 2 * self.chunk * (self.n_groups * self.state + self.inner) + 4 * values
        return Recurrence(
            name="ssm",
            n_heads=self.n_heads,
            state_values=values,
            step_flop=STATE_FLOP * values + 2 * self.inner,
            sfu_ops=3 * self.n_heads,
            chunk=self.chunk,
            scan_tensor_flop=scan,
            scan_vector_flop=self.n_heads * self.chunk + 4 * self.inner,
        )

    def parameters(self) -> Iterator[Parameter]:
        """Yield projections, convolution, A, D, the bias of dt and the gated norm."""
        yield from (self._in(), self._conv().vector(), self._decay())
        yield from self._norm()
        yield self._out()

    def state_bytes(self, batch: int) -> int:
        """Return the size of convolution and recurrent states."""
        return self._conv().state_bytes(batch) + self._recurrence().state_bytes(batch)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append projection, convolution, recurrence, gate (or gated norm) and output."""
        tokens = emitter.shape.tokens
        projected = emitter.gemm(self._in(), x, "ssm_in", part=PART)
        conv = self._conv()
        conv_in = part_of(projected, tokens * conv.channels * PLAIN_BYTES)
        conv_out = conv.emit(emitter, conv_in, part=PART)
        dt = part_of(projected, tokens * self.n_heads * PLAIN_BYTES)
        out = emitter.activation("ssm_out", self.inner)
        inputs = (conv_out, dt, emitter.stored(self._decay()))
        self._recurrence().emit(emitter, inputs, out, part=PART)
        self._emit_gate(emitter, projected, out)
        return emitter.row_parallel(self._out(), out, "mixer_out", part=PART)

    def _emit_gate(self, emitter: Emitter, projected: Tensor, out: Tensor) -> None:
        values = emitter.shape.tokens * self.inner
        weights = tuple(emitter.stored(vector) for vector in self._norm())
        emitter.elementwise(
            "gate",
            "gated_norm" if self.gated_norm else "gate",
            part=PART,
            reads=(out, (projected, out.size_bytes), *weights),
            writes=(out,),
            flop=values * (3 + NORM_FLOP * self.gated_norm),
            sfu=values,
        )
