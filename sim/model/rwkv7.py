"""The time mix of RWKV-7 "Goose" (arXiv 2503.14456): a generalised delta rule."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.operators import Tensor
from sim.model.component import WithoutCache
from sim.model.delta_net import delta_scan_flop
from sim.model.emitter import Emitter
from sim.model.parameters import PLAIN_BYTES, Matrix, Norm, Parameter, Vector
from sim.model.recurrence import Recurrence
from sim.model.rwkv import SCAN_CHUNK, emit_low_rank, emit_token_shift, low_rank, shift_bytes

PART = "linear_attention"
STATE_FLOP = 9
"""Per state value: decay, S·a (2), times b and add (2), k·v and add (2), times r and sum (2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rwkv7Mixer(WithoutCache):
    """Heads of `head_dim`; low-rank maps make decay, in-context rate, value mix and gate.

    `is_first` is the first layer, whose values every later layer mixes with: it has no value mix.
    """

    hidden: int
    head_dim: int
    decay_rank: int
    rate_rank: int
    value_rank: int
    gate_rank: int
    is_first: bool

    def _projections(self) -> dict[str, Matrix]:
        names = {"r": "receptance", "k": "key", "v": "value"}
        return {
            key: Matrix(name=name, n_out=self.hidden, n_in=self.hidden)
            for key, name in names.items()
        }

    def _out(self) -> Matrix:
        return Matrix(name="output", n_out=self.hidden, n_in=self.hidden)

    def _maps(self) -> dict[str, tuple[Matrix, Matrix]]:
        """Return the low-rank maps by the mixed input that they read."""
        ranks = {"w": ("decay", self.decay_rank), "a": ("rate", self.rate_rank)}
        if not self.is_first:
            ranks["v"] = ("value_mix", self.value_rank)
        maps = {
            key: low_rank(name, hidden=self.hidden, rank=rank, bias=True)
            for key, (name, rank) in ranks.items()
        }
        gate = low_rank("gate", hidden=self.hidden, rank=self.gate_rank, bias=False)
        return maps | {"g": gate}

    def _mix(self) -> Vector:
        return Vector(name="mix", size=6 * self.hidden)

    def _key_scales(self) -> Vector:
        return Vector(name="k_k_a", size=2 * self.hidden)

    def _bonus(self) -> Vector:
        return Vector(name="r_k", size=self.hidden)

    def _norm(self) -> Norm:
        return Norm(width=self.hidden, bias=True)

    def _recurrence(self) -> Recurrence:
        heads, dim = self.hidden // self.head_dim, self.head_dim
        values = heads * dim * dim
        return Recurrence(
            name="wkv",
            n_heads=heads,
            state_values=values,
            step_flop=STATE_FLOP * values,
            sfu_ops=2 * self.hidden,
            chunk=SCAN_CHUNK,
            scan_tensor_flop=delta_scan_flop(heads=heads, key=dim, value=dim, chunk=SCAN_CHUNK),
            scan_vector_flop=12 * self.hidden,
        )

    def parameters(self) -> Iterator[Parameter]:
        """Yield mixes, projections, low-rank maps, key scales, bonus, group norm and output."""
        yield self._mix()
        yield from self._projections().values()
        for pair in self._maps().values():
            yield from pair
        yield from (self._key_scales(), self._bonus(), self._norm().vector("group_norm"))
        yield self._out()

    def state_bytes(self, batch: int) -> int:
        """Return the size of the last token and of the matrix states."""
        return shift_bytes(batch, self.hidden) + self._recurrence().state_bytes(batch)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append token shift, projections, low-rank maps, delta rule, norm, bonus and gate."""
        names = ("r", "w", "k", "v", "a", "g")
        shifted = emit_token_shift(emitter, x, self._mix(), names, hidden=self.hidden, part=PART)
        mixed = dict(zip(names, shifted, strict=True))
        heads = {
            key: emitter.gemm(matrix, mixed[key], matrix.name, part=PART)
            for key, matrix in self._projections().items()
        }
        maps = {
            key: emit_low_rank(emitter, pair, mixed[key], part=PART, nonlinear=key in "wg")
            for key, pair in self._maps().items()
        }
        self._emit_keys(emitter, heads, maps)
        out = emitter.activation("wkv_out", self.hidden)
        inputs = (heads["r"], heads["k"], heads["v"], maps["w"], maps["a"])
        self._recurrence().emit(emitter, inputs, out, part=PART)
        self._emit_gate(emitter, out, heads, maps["g"])
        return emitter.gemm(self._out(), out, "mixer_out", part=PART)

    def _emit_keys(
        self, emitter: Emitter, heads: dict[str, Tensor], maps: dict[str, Tensor]
    ) -> None:
        """Append the normalised key, the rate applied to it and the value mix, in place."""
        values = emitter.shape.tokens * self.hidden
        first = emitter.activation("first_values", self.hidden)
        mix = () if self.is_first else (maps["v"], first)
        saved = (first,) if self.is_first else ()
        emitter.elementwise(
            "scale",
            "key_scale",
            part=PART,
            reads=(heads["k"], heads["v"], maps["a"], *mix, emitter.stored(self._key_scales())),
            writes=(heads["k"], heads["v"], *saved),
            flop=12 * values,
            sfu=2 * values,
        )

    def _emit_gate(
        self, emitter: Emitter, out: Tensor, heads: dict[str, Tensor], gate: Tensor
    ) -> None:
        values = out.size_bytes // PLAIN_BYTES
        emitter.norm(self._norm(), "group_norm", out, out, part=PART)
        emitter.elementwise(
            "gate",
            "bonus_and_gate",
            part=PART,
            reads=(out, gate, *heads.values(), emitter.stored(self._bonus())),
            writes=(out,),
            flop=6 * values,
        )
