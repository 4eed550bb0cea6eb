"""Gated DeltaNet (arXiv 2412.06464), the linear attention of Qwen3-Next."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.operators import Tensor
from sim.model.component import WithoutCache
from sim.model.conv import CausalConv
from sim.model.emitter import NORM_FLOP, Emitter, part_of
from sim.model.parameters import PLAIN_BYTES, Matrix, Parameter, Vector
from sim.model.recurrence import Recurrence

PART = "linear_attention"
STATE_FLOP = 7
"""Per state value: decay, prediction S·k (2), rank-one correction (2), output S·q (2)."""

SCAN_CHUNK = 64
"""Chunk of flash-linear-attention's `chunk_gated_delta_rule`."""


def delta_scan_flop(*, heads: int, key: int, value: int, chunk: int) -> int:
    """Return the tensor FLOP per token of a chunked delta rule (arXiv 2412.06464, section 3.3).

    Per head: K·K^T and Q·K^T inside the chunk, the two triangular products that make W and U,
    scores times U, and three products with the state (W·S, Q·S, K^T·U).
    """
    inside = 2 * chunk * (2 * key + key + value + value)
    return heads * (inside + 6 * key * value)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDeltaNet(WithoutCache):
    """`n_k_heads` of `k_dim` for queries and keys, `n_v_heads` of `v_dim` with one state each."""

    hidden: int
    n_k_heads: int
    n_v_heads: int
    k_dim: int
    v_dim: int
    kernel: int

    @property
    def _keys(self) -> int:
        return self.n_k_heads * self.k_dim

    @property
    def _values(self) -> int:
        return self.n_v_heads * self.v_dim

    def _in(self) -> Matrix:
        width = 2 * self._keys + 2 * self._values
        return Matrix(name="in_proj_qkvz", n_out=width, n_in=self.hidden)

    def _beta_alpha(self) -> Matrix:
        """Return the projection of write strength and decay, two numbers a head.

        It is too narrow to be quantised in blocks.
        """
        width = 2 * self.n_v_heads
        return Matrix(name="in_proj_ba", n_out=width, n_in=self.hidden, quantised=False)

    def _out(self) -> Matrix:
        return Matrix(name="out_proj", n_out=self.hidden, n_in=self._values)

    def _conv(self) -> CausalConv:
        return CausalConv(channels=2 * self._keys + self._values, kernel=self.kernel, bias=False)

    def _decay(self) -> Vector:
        return Vector(name="A_dt", size=2 * self.n_v_heads, value_bytes=4)

    def _norm(self) -> Vector:
        return Vector(name="gated_norm.weight", size=self.v_dim)

    def recurrence(self) -> Recurrence:
        """Return the arithmetic of the delta rule."""
        state = self.n_v_heads * self.k_dim * self.v_dim
        l2_norms = 6 * self.n_v_heads * self.k_dim
        return Recurrence(
            name="delta_rule",
            n_heads=self.n_v_heads,
            state_values=state,
            step_flop=STATE_FLOP * state + l2_norms,
            sfu_ops=6 * self.n_v_heads,
            chunk=SCAN_CHUNK,
            scan_tensor_flop=delta_scan_flop(
                heads=self.n_v_heads, key=self.k_dim, value=self.v_dim, chunk=SCAN_CHUNK
            ),
            scan_vector_flop=l2_norms + 4 * SCAN_CHUNK * self.n_v_heads,
            key_dim=self.k_dim,
        )

    def parameters(self) -> Iterator[Parameter]:
        """Yield projections, convolution, decay and the gated norm."""
        yield from (self._in(), self._beta_alpha(), self._conv().vector(), self._decay())
        yield from (self._norm(), self._out())

    def state_bytes(self, batch: int) -> int:
        """Return the size of convolution and recurrent states."""
        return self._conv().state_bytes(batch) + self.recurrence().state_bytes(batch)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append projections, convolution, delta rule, gated norm and output projection."""
        projected = emitter.gemm(self._in(), x, "delta_in", part=PART)
        beta_alpha = emitter.gemm(self._beta_alpha(), x, "delta_ba", part=PART)
        conv = self._conv()
        conv_in = part_of(projected, emitter.shape.tokens * conv.channels * PLAIN_BYTES)
        conv_out = conv.emit(emitter, conv_in, part=PART)
        out = emitter.activation("delta_out", self._values)
        inputs = (conv_out, beta_alpha, emitter.stored(self._decay()))
        self.recurrence().emit(emitter, inputs, out, part=PART)
        values = emitter.shape.tokens * self._values
        emitter.elementwise(
            "gate",
            "gated_norm",
            part=PART,
            reads=(out, (projected, out.size_bytes), emitter.stored(self._norm())),
            writes=(out,),
            flop=values * (3 + NORM_FLOP),
            sfu=values,
        )
        return emitter.row_parallel(self._out(), out, "mixer_out", part=PART)
