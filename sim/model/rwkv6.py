"""The time mix of RWKV-6 "Finch" (arXiv 2404.05892): a matrix state with data-dependent decay."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.operators import Tensor
from sim.model.component import WithoutCache
from sim.model.emitter import Emitter
from sim.model.parameters import PLAIN_BYTES, Matrix, Norm, Parameter, Vector
from sim.model.recurrence import Recurrence
from sim.model.rwkv import SCAN_CHUNK, emit_low_rank, emit_token_shift, low_rank, shift_bytes

PART = "linear_attention"
MIXED = ("w", "k", "v", "r", "g")
STATE_FLOP = 7
"""Per state value: k·v, times the bonus, plus the state, times r and sum (5), decay and add (2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rwkv6Mixer(WithoutCache):
    """`attention_width / head_dim` heads, each with a state of `head_dim` squared."""

    hidden: int
    attention_width: int
    head_dim: int
    mix_rank: int
    decay_rank: int

    def _projections(self) -> dict[str, Matrix]:
        names = {"r": "receptance", "k": "key", "v": "value", "g": "gate"}
        return {
            key: Matrix(name=name, n_out=self.attention_width, n_in=self.hidden)
            for key, name in names.items()
        }

    def _out(self) -> Matrix:
        return Matrix(name="output", n_out=self.hidden, n_in=self.attention_width)

    def _mix_maps(self) -> tuple[Matrix, Matrix]:
        """Return the low-rank map that makes all five mixes; its second half is five blocks."""
        n = len(MIXED)
        return (
            Matrix(name="mix.down", n_out=n * self.mix_rank, n_in=self.hidden, quantised=False),
            Matrix(name="mix.up", n_out=n * self.hidden, n_in=self.mix_rank, quantised=False),
        )

    def _decay_maps(self) -> tuple[Matrix, Matrix]:
        down, _ = low_rank("decay", hidden=self.hidden, rank=self.decay_rank, bias=False)
        width = self.attention_width
        up = Matrix(name="decay.up", n_out=width, n_in=self.decay_rank, quantised=False)
        return down, up

    def _base_mix(self) -> Vector:
        return Vector(name="mix.base", size=self.hidden)

    def _mixes(self) -> Vector:
        return Vector(name="mix.each", size=len(MIXED) * self.hidden)

    def _decay(self) -> Vector:
        """Return the base decay and the bonus of the current token, in fp32."""
        return Vector(name="decay_bonus", size=2 * self.attention_width, value_bytes=4)

    def _norm(self) -> Norm:
        return Norm(width=self.attention_width, bias=True)

    def _recurrence(self) -> Recurrence:
        heads, dim = self.attention_width // self.head_dim, self.head_dim
        values = heads * dim * dim
        # chunked as gated linear attention (arXiv 2312.06635): scores, scores times v, the
        # chunk's state and the output of the state before
        scan = heads * (4 * SCAN_CHUNK * dim + 4 * dim * dim)
        return Recurrence(
            name="wkv",
            n_heads=heads,
            state_values=values,
            step_flop=STATE_FLOP * values,
            sfu_ops=2 * self.attention_width,
            chunk=SCAN_CHUNK,
            scan_tensor_flop=scan,
            scan_vector_flop=8 * self.attention_width,
        )

    def parameters(self) -> Iterator[Parameter]:
        """Yield mixes, low-rank maps, projections, decay, group norm and output."""
        yield from (self._base_mix(), self._mixes(), *self._mix_maps(), *self._decay_maps())
        yield from self._projections().values()
        yield from (self._decay(), self._norm().vector("group_norm"), self._out())

    def state_bytes(self, batch: int) -> int:
        """Return the size of the last token and of the matrix states."""
        return shift_bytes(batch, self.hidden) + self._recurrence().state_bytes(batch)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append the data-dependent token shift, projections, recurrence, norm and gate."""
        mixed = self._emit_mixes(emitter, x)
        heads = {
            key: emitter.gemm(matrix, mixed[key], matrix.name, part=PART)
            for key, matrix in self._projections().items()
        }
        decay = emit_low_rank(emitter, self._decay_maps(), mixed["w"], part=PART, nonlinear=True)
        out = emitter.activation("wkv_out", self.attention_width)
        inputs = (heads["r"], heads["k"], heads["v"], decay, emitter.stored(self._decay()))
        self._recurrence().emit(emitter, inputs, out, part=PART)
        self._emit_gate(emitter, out, heads["g"])
        return emitter.gemm(self._out(), out, "mixer_out", part=PART)

    def _emit_mixes(self, emitter: Emitter, x: Tensor) -> dict[str, Tensor]:
        (base,) = emit_token_shift(
            emitter, x, self._base_mix(), ("base",), hidden=self.hidden, part=PART
        )
        amounts = emit_low_rank(emitter, self._mix_maps(), base, part=PART, nonlinear=True)
        outputs = {name: emitter.activation(f"mixed.{name}", self.hidden) for name in MIXED}
        emitter.elementwise(
            "scale",
            "mix_each",
            part=PART,
            reads=(x, base, amounts, emitter.stored(self._mixes())),
            writes=tuple(outputs.values()),
            flop=3 * amounts.size_bytes // PLAIN_BYTES,
        )
        return outputs

    def _emit_gate(self, emitter: Emitter, out: Tensor, gate: Tensor) -> None:
        values = out.size_bytes // PLAIN_BYTES
        emitter.norm(self._norm(), "group_norm", out, out, part=PART)
        emitter.elementwise(
            "gate",
            "output_gate",
            part=PART,
            reads=(out, gate),
            writes=(out,),
            flop=2 * values,
            sfu=values,
        )
