"""Mamba-1 (arXiv 2312.00752): a diagonal state-space model with a state per channel."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.operators import Tensor
from sim.model.component import WithoutCache
from sim.model.conv import CausalConv, channel_blocks
from sim.model.emitter import Emitter, part_of
from sim.model.parameters import PLAIN_BYTES, Matrix, Parameter, Vector
from sim.model.recurrence import Recurrence

PART = "ssm"
STATE_FLOP = 7
"""Per state value: dt·A, dt·B·x (2), decay and add (2), times C and sum (2); one exponential."""

SCAN_CHUNK = 2048
"""Tokens that a CTA of `selective_scan_fwd` walks at a time (mamba_ssm)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MambaMixer(WithoutCache):
    """Mamba-1 with `inner` channels of `state` values each.

    `inner_norms` normalises dt, B and C (Jamba with learnt weights, FalconMamba without:
    `norm_weights`).
    """

    hidden: int
    inner: int
    state: int
    dt_rank: int
    kernel: int
    conv_bias: bool = True
    proj_bias: bool = False
    inner_norms: bool = False
    norm_weights: bool = False

    def _in(self) -> Matrix:
        return Matrix(name="in_proj", n_out=2 * self.inner, n_in=self.hidden, bias=self.proj_bias)

    def _x(self) -> Matrix:
        return Matrix(name="x_proj", n_out=self.dt_rank + 2 * self.state, n_in=self.inner)

    def _dt(self) -> Matrix:
        return Matrix(name="dt_proj", n_out=self.inner, n_in=self.dt_rank, bias=True)

    def _out(self) -> Matrix:
        return Matrix(name="out_proj", n_out=self.hidden, n_in=self.inner, bias=self.proj_bias)

    def _conv(self) -> CausalConv:
        return CausalConv(channels=self.inner, kernel=self.kernel, bias=self.conv_bias)

    def _decay(self) -> Vector:
        """Return A and D, which the kernels take in fp32."""
        return Vector(name="A_D", size=self.inner * (self.state + 1), value_bytes=4)

    def _inner_norm(self) -> tuple[Vector, ...]:
        norm = Vector(name="inner_norm.weight", size=self.dt_rank + 2 * self.state)
        return (norm,) if self.inner_norms and self.norm_weights else ()

    def _recurrence(self) -> Recurrence:
        values = self.inner * self.state
        # beside the state: softplus of dt, D·x and the gate, per channel
        flop = STATE_FLOP * values + 8 * self.inner
        return Recurrence(
            name="ssm",
            n_heads=channel_blocks(self.inner),
            state_values=values,
            step_flop=flop,
            sfu_ops=values + 3 * self.inner,
            chunk=SCAN_CHUNK,
            scan_tensor_flop=0,
            scan_vector_flop=flop,
        )

    def parameters(self) -> Iterator[Parameter]:
        """Yield projections, convolution, A and D and any inner norms."""
        yield from (self._in(), self._conv().vector(), self._x(), self._dt(), self._decay())
        yield from self._inner_norm()
        yield self._out()

    def state_bytes(self, batch: int) -> int:
        """Return the size of convolution and recurrent states."""
        return self._conv().state_bytes(batch) + self._recurrence().state_bytes(batch)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append projection, convolution, the small projections, recurrence and output."""
        projected = emitter.gemm(self._in(), x, "ssm_in", part=PART)
        half = part_of(projected, emitter.shape.tokens * self.inner * PLAIN_BYTES)
        conv_out = self._conv().emit(emitter, half, part=PART)
        params = emitter.row_parallel(self._x(), conv_out, "ssm_params", part=PART)
        self._emit_inner_norm(emitter, params)
        low_rank = part_of(params, emitter.shape.tokens * self.dt_rank * PLAIN_BYTES)
        dt = emitter.gemm(self._dt(), low_rank, "ssm_dt", part=PART)
        b_and_c = part_of(params, params.size_bytes - low_rank.size_bytes)
        # the kernel applies the gate (the other half of the projection) as it writes
        inputs = (conv_out, dt, b_and_c, half, emitter.stored(self._decay()))
        out = emitter.activation("ssm_out", self.inner)
        self._recurrence().emit(emitter, inputs, out, part=PART)
        return emitter.row_parallel(self._out(), out, "mixer_out", part=PART)

    def _emit_inner_norm(self, emitter: Emitter, params: Tensor) -> None:
        if not self.inner_norms:
            return
        weights = tuple(emitter.stored(vector) for vector in self._inner_norm())
        emitter.elementwise(
            "norm",
            "inner_norm",
            part=PART,
            reads=(params, *weights),
            writes=(params,),
            flop=4 * params.size_bytes // PLAIN_BYTES,
            sfu=3 * emitter.shape.tokens,
        )
