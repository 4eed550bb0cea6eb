"""The emitter: collects the operators of one block and keeps their tensors consistent."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sim.errors import InvariantError
from sim.kernel.collective import Collective, Op
from sim.kernel.formats import KvFormat, WeightFormat
from sim.kernel.operators import (
    Elementwise,
    Exchange,
    Gemm,
    GroupedGemm,
    Operator,
    Tensor,
    Traffic,
)
from sim.model.parameters import PLAIN_BYTES, Experts, Matrix, Norm, Vector, can_merge, merged

Touch = Tensor | tuple[Tensor, int]
"""A tensor that is read or written whole, or a tensor and the bytes of it that are touched."""

NORM_FLOP = 4
"""Square, accumulate, multiply by the inverse root, multiply by the weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """What one forward pass looks like: who is in it and in which formats.

    `context` counts the tokens visible to the last new token, itself included. `window_slack` are
    the tokens that the cache of a windowed layer holds beyond its window and attention reads and
    masks. The step is that of one of `tensor_parallel` GPUs that hold shares of the model
    (`sim.model.parallel.shard`); `data_parallel` groups of them step together, each with as many
    tokens, and share the experts. Raises ValueError if there is no token or rank, or the context is
    shorter than the new tokens.
    """

    batch: int
    q_len: int
    context: int
    weight_format: WeightFormat
    kv_format: KvFormat
    merge_projections: bool
    window_slack: int = 0
    tensor_parallel: int = 1
    data_parallel: int = 1

    def __post_init__(self) -> None:
        """Check that the numbers describe a step."""
        for name in ("batch", "q_len", "tensor_parallel", "data_parallel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} (= {getattr(self, name)}) must be at least 1")
        if self.context < self.q_len:
            raise ValueError(
                f"context (= {self.context}) must be at least q_len (= {self.q_len}): "
                "it counts the new tokens too"
            )

    @property
    def tokens(self) -> int:
        """Return the number of new tokens of the step."""
        return self.batch * self.q_len

    @property
    def is_decode(self) -> bool:
        """Tell whether each sequence brings one token."""
        return self.q_len == 1


def part_of(tensor: Tensor, size_bytes: int) -> Tensor:
    """Return a view of `size_bytes` of a buffer: same name, same memory, fewer bytes touched."""
    return Tensor(name=tensor.name, size_bytes=size_bytes, traffic=tensor.traffic)


def in_place(*views: Tensor) -> tuple[Touch, ...]:
    """Return disjoint views as touches; views of one buffer become one of their sum."""
    sizes: dict[str, int] = {}
    for view in views:
        sizes[view.name] = sizes.get(view.name, 0) + view.size_bytes
    return tuple(part_of(view, sizes.pop(view.name)) for view in views if view.name in sizes)


class Emitter:
    """Collects operators in execution order; methods return the tensor that was made.

    Activations are 16 bits unless said otherwise. An operator name must not appear twice.
    """

    def __init__(self, shape: StepShape, routing_draw: tuple[int, ...] = ()) -> None:
        self.shape = shape
        self.routing_draw = routing_draw
        self._operators: list[Operator] = []
        self._quantised: dict[str, tuple[Tensor, Tensor]] = {}

    def operators(self) -> tuple[Operator, ...]:
        """Return what was collected; raises InvariantError if two operators share a name."""
        names = [operator.name for operator in self._operators]
        if len(set(names)) != len(names):
            raise InvariantError(f"operator names of a block must differ: {names}")
        return tuple(self._operators)

    def add(self, operator: Operator) -> None:
        """Append any operator; a quantised copy of what it overwrites is forgotten."""
        self._operators.append(operator)
        for tensor in operator.writes():
            self._quantised.pop(tensor.name, None)

    def activation(
        self, name: str, width: int, *, rows: int | None = None, value_bytes: int = PLAIN_BYTES
    ) -> Tensor:
        """Return the activation of `rows` (default: the tokens of the step) times `width`."""
        count = self.shape.tokens if rows is None else rows
        return Tensor(
            name=name, size_bytes=count * width * value_bytes, traffic=Traffic.ACTIVATIONS
        )

    def state(self, name: str, size_bytes: int) -> Tensor:
        """Return a recurrent state of the layer."""
        return Tensor(name=name, size_bytes=size_bytes, traffic=Traffic.STATE)

    def stored(self, vector: Vector) -> Tensor:
        """Return the tensor of a vector parameter."""
        return vector.tensor(self.shape.weight_format)

    def elementwise(  # noqa: PLR0913 - an operator has that many facts
        self,
        kind: str,
        name: str,
        *,
        part: str,
        reads: Iterable[Touch],
        writes: Iterable[Touch],
        flop: int = 0,
        sfu: int = 0,
    ) -> None:
        """Append an element-wise operator; `flop` and `sfu` are totals of the operator."""
        sources, targets = [_touched(t) for t in reads], [_touched(t) for t in writes]
        self.add(
            Elementwise(
                name=name,
                part=part,
                kind=kind,
                inputs=tuple(tensor for tensor, _ in sources),
                outputs=tuple(tensor for tensor, _ in targets),
                read_bytes=tuple(size for _, size in sources),
                written_bytes=tuple(size for _, size in targets),
                vector_flop=flop,
                sfu_ops=sfu,
            )
        )

    def norm(self, norm: Norm, name: str, source: Tensor, target: Tensor, *, part: str) -> Tensor:
        """Append a normalisation of all vectors of `norm.width` values in `source`."""
        values = source.size_bytes // PLAIN_BYTES
        self.elementwise(
            "norm",
            name,
            part=part,
            reads=(source, self.stored(norm.vector(name))),
            writes=(target,),
            flop=NORM_FLOP * values,
            sfu=max(1, values // norm.width),
        )
        return target

    def gemm(
        self, matrix: Matrix, a: Tensor, out: str, *, part: str, rows: int | None = None
    ) -> Tensor:
        """Append `a` times `matrix`, the activations quantised first where the format asks so."""
        m = self.shape.tokens if rows is None else rows
        stored_format = matrix.stored_format(self.shape.weight_format)
        target = self.activation(out, matrix.n_out, rows=m)
        self.add(
            Gemm(
                name=matrix.name,
                part=part,
                m=m,
                n=matrix.n_out,
                k=matrix.n_in,
                a=self._ready(a, stored_format, rows=m, part=part),
                weight=matrix.tensor(self.shape.weight_format),
                out=target,
                weight_format=stored_format,
            )
        )
        return target

    def row_parallel(self, matrix: Matrix, a: Tensor, out: str, *, part: str) -> Tensor:
        """Append `a` times `matrix`, of whose inputs each GPU has its share, and the sum of all."""
        partial = self.gemm(matrix, a, out, part=part)
        self.all_reduce(partial, f"{matrix.name}.all_reduce", part=part)
        return partial

    def all_reduce(
        self, partial: Tensor, name: str, *, part: str, copies: tuple[Tensor, ...] = ()
    ) -> None:
        """Append the sum, in place, over the GPUs that share the model; nothing on one GPU.

        The sum is also left in `copies`.
        """
        ranks = self.shape.tensor_parallel
        self.exchange(Op.ALL_REDUCE, ranks, (partial,), (partial, *copies), name=name, part=part)

    def exchange(
        self,
        op: Op,
        ranks: int,
        inputs: tuple[Tensor, ...],
        outputs: tuple[Tensor, ...],
        *,
        name: str,
        part: str,
    ) -> None:
        """Append a collective over `ranks` GPUs of one node; nothing if there is but one.

        Its size is that of the inputs, of an all-gather that of all ranks' inputs.
        """
        if ranks == 1:
            return
        size_bytes = sum(tensor.size_bytes for tensor in inputs)
        whole = size_bytes * (ranks if op is Op.ALL_GATHER else 1)
        what = Collective(op=op, ranks=ranks, per_node=ranks, size_bytes=whole)
        self.add(Exchange(name=name, part=part, what=what, inputs=inputs, outputs=outputs))

    def projections(
        self, name: str, matrices: Sequence[Matrix], a: Tensor, *, part: str
    ) -> tuple[Tensor, ...]:
        """Append the GEMMs that read the same `a`: one if the engine merges them, or each.

        Matrices that cannot be stacked (one has a bias, one not) stay apart. Returns one view per
        matrix; views of a merged product share the name `name`.
        """
        if not (self.shape.merge_projections and can_merge(matrices)):
            return tuple(self.gemm(m, a, m.name, part=part) for m in matrices)
        whole = self.gemm(merged(name, matrices), a, name, part=part)
        return tuple(
            part_of(whole, self.shape.tokens * matrix.n_out * PLAIN_BYTES) for matrix in matrices
        )

    def grouped_gemm(
        self, experts: Experts, a: Tensor, out: str, *, part: str, counts: tuple[int, ...]
    ) -> Tensor:
        """Append one GEMM per expert over the permuted tokens, `counts` of them for each."""
        weight_format = self.shape.weight_format.of_width(experts.n_in)
        rows = sum(counts)
        target = self.activation(out, experts.n_out, rows=rows)
        self.add(
            GroupedGemm(
                name=experts.name,
                part=part,
                tokens_per_expert=counts,
                n=experts.n_out,
                k=experts.n_in,
                a=self._ready(a, weight_format, rows=rows, part=part),
                experts=experts.tensor(self.shape.weight_format),
                out=target,
                weight_format=weight_format,
                top_k=experts.top_k,
            )
        )
        return target

    def _ready(self, a: Tensor, weight_format: WeightFormat, *, rows: int, part: str) -> Tensor:
        if not weight_format.quantises_activations:
            return a
        source, copy = self._quantised.get(a.name, (None, a))
        if source == a:
            return copy
        values = a.size_bytes // PLAIN_BYTES
        size_bytes = weight_format.activation_bytes_of(rows, values // rows)
        target = Tensor(
            name=f"{a.name}.quantised", size_bytes=size_bytes, traffic=Traffic.ACTIVATIONS
        )
        count = sum(operator.name.startswith("quantise ") for operator in self._operators)
        self.elementwise(
            "quantise",
            f"quantise {count}: {a.name}",
            part=part,
            reads=(a,),
            writes=(target,),
            flop=3 * values,
        )
        self._quantised[a.name] = (a, target)
        return target


def _touched(touch: Touch) -> tuple[Tensor, int]:
    return touch if isinstance(touch, tuple) else (touch, touch.size_bytes)
