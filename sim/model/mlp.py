"""The dense feed-forward network: gated (gate, up, down) or plain (up, down)."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.operators import Tensor
from sim.model.component import Stateless
from sim.model.emitter import Emitter, in_place
from sim.model.parameters import Matrix, Parameter

GATED_FLOP = 4
"""SiLU or GELU (two FLOP beside the exponential), multiply by the gate, round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseMlp(Stateless):
    """Two or three matrices of `width`; also the shared experts of a MoE.

    `prefix` keeps names apart where a layer has several of them, `part` is what it is reported
    under, `out` names the activation it makes.
    """

    hidden: int
    width: int
    gated: bool = True
    bias: bool = False
    prefix: str = ""
    part: str = "mlp"
    out: str = "ffn_out"

    def _ups(self) -> tuple[Matrix, ...]:
        names = ("gate", "up") if self.gated else ("up",)
        return tuple(
            Matrix(name=self.prefix + name, n_out=self.width, n_in=self.hidden, bias=self.bias)
            for name in names
        )

    def _down(self) -> Matrix:
        return Matrix(name=f"{self.prefix}down", n_out=self.hidden, n_in=self.width, bias=self.bias)

    def parameters(self) -> Iterator[Parameter]:
        """Yield the up-projections and the down-projection."""
        yield from (*self._ups(), self._down())

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append up-projections, activation and down-projection."""
        return emitter.row_parallel(
            self._down(), self._emit_up(emitter, x), self.out, part=self.part
        )

    def emit_partial(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append the same without the sum over GPUs, which the caller makes with more."""
        return emitter.gemm(self._down(), self._emit_up(emitter, x), self.out, part=self.part)

    def _emit_up(self, emitter: Emitter, x: Tensor) -> Tensor:
        ups = emitter.projections(f"{self.prefix}gate_up", self._ups(), x, part=self.part)
        values = emitter.shape.tokens * self.width
        return emit_activation(emitter, ups, values, prefix=self.prefix, part=self.part)


def emit_activation(
    emitter: Emitter, ups: tuple[Tensor, ...], values: int, *, prefix: str, part: str
) -> Tensor:
    """Append the activation function; `ups` are what it reads, `values` how many it makes."""
    out = emitter.activation(f"{prefix}act", values, rows=1)
    emitter.elementwise(
        "activation",
        f"{prefix}activation",
        part=part,
        reads=in_place(*ups),
        writes=(out,),
        flop=GATED_FLOP * values,
        sfu=values,
    )
    return out
