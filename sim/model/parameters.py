"""Parameters: every weight of a model, listed once, for counting, for memory and for lowering."""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.kernel.formats import BF16, WeightFormat
from sim.kernel.operators import Tensor, Traffic

PLAIN_BYTES = 2
"""Size of a value that engines never quantise (norms, biases, routers, activations): 16 bits."""


def plain_format(weight_format: WeightFormat) -> WeightFormat:
    """Return the 16-bit format that stands beside `weight_format` for unquantised matrices."""
    return weight_format if weight_format.bits == BF16.bits else BF16


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A parameter that is no GEMM weight: a norm, a convolution, a decay, an attention sink.

    `value_bytes` is 2 except for what kernels want in fp32 (the A and D of state-space models).
    """

    name: str
    size: int
    value_bytes: int = PLAIN_BYTES

    @property
    def total(self) -> int:
        """Return the number of parameters."""
        return self.size

    @property
    def active(self) -> int:
        """Return the number of parameters that one token uses."""
        return self.size

    def tensor(self, weight_format: WeightFormat) -> Tensor:  # noqa: ARG002 - one signature for all
        """Return the stored tensor; vectors are never quantised."""
        return Tensor(
            name=self.name, size_bytes=self.size * self.value_bytes, traffic=Traffic.WEIGHTS
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A linear map of `n_in` values to `n_out`, with an optional bias of `n_out`.

    `quantised` is False for what engines keep in 16 bits whatever the weight format is: routers,
    gates, low-rank adapters, absorbed MLA projections. `is_head` marks embedding table and LM
    head, which follow `WeightFormat.quantises_head`.
    """

    name: str
    n_out: int
    n_in: int
    bias: bool = False
    quantised: bool = True
    is_head: bool = False

    @property
    def total(self) -> int:
        """Return the number of parameters, bias included."""
        return self.n_out * self.n_in + (self.n_out if self.bias else 0)

    @property
    def active(self) -> int:
        """Return the number of parameters that one token uses."""
        return self.total

    def stored_format(self, weight_format: WeightFormat) -> WeightFormat:
        """Return the format this matrix is stored in when the model is in `weight_format`."""
        if not self.quantised:
            return plain_format(weight_format)
        dense = (weight_format.dense or weight_format).of_width(self.n_in)
        if not self.is_head:
            return dense
        return dense.head or (dense if dense.quantises_head else plain_format(weight_format))

    def tensor(self, weight_format: WeightFormat) -> Tensor:
        """Return the stored tensor; the bias (16 bits) lies behind the weights."""
        weights = self.stored_format(weight_format).bytes_of(self.n_out * self.n_in)
        bias = self.n_out * PLAIN_BYTES if self.bias else 0
        return Tensor(
            name=f"{self.name}.weight", size_bytes=weights + bias, traffic=Traffic.WEIGHTS
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The same matrix of all `count` experts, of which a token uses `top_k`."""

    name: str
    count: int
    top_k: int
    n_out: int
    n_in: int
    bias: bool = False

    @property
    def total(self) -> int:
        """Return the number of parameters of all experts."""
        return self.count * self._one()

    @property
    def active(self) -> int:
        """Return the number of parameters that one token uses."""
        return self.top_k * self._one()

    def _one(self) -> int:
        return self.n_out * self.n_in + (self.n_out if self.bias else 0)

    def tensor(self, weight_format: WeightFormat) -> Tensor:
        """Return the tensor of all experts together, biases (16 bits) behind the weights."""
        weights = weight_format.of_width(self.n_in).bytes_of(self.count * self.n_out * self.n_in)
        bias = self.count * self.n_out * PLAIN_BYTES if self.bias else 0
        return Tensor(
            name=f"{self.name}.weight", size_bytes=weights + bias, traffic=Traffic.EXPERTS
        )


Parameter = Vector | Matrix | Experts


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """RMSNorm (weight only) or LayerNorm (weight and bias) over vectors of `width` values."""

    width: int
    bias: bool = False

    @property
    def size(self) -> int:
        """Return the number of parameters."""
        return self.width * (2 if self.bias else 1)

    def vector(self, name: str) -> Vector:
        """Return the parameters under `name`."""
        return Vector(name=f"{name}.weight", size=self.size)


def can_merge(matrices: Sequence[Matrix]) -> bool:
    """Tell whether there are several matrices, alike in all but name and number of rows."""
    traits = {(m.n_in, m.bias, m.quantised) for m in matrices}
    return len(matrices) > 1 and len(traits) == 1


def merged(name: str, matrices: Sequence[Matrix]) -> Matrix:
    """Return matrices that share their input as one, stacked by rows (see `can_merge`)."""
    first = matrices[0]
    return Matrix(
        name=name,
        n_out=sum(matrix.n_out for matrix in matrices),
        n_in=first.n_in,
        bias=first.bias,
        quantised=first.quantised,
    )
