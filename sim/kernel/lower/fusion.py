"""Fusion: neighbouring element-wise operators become one kernel, as the engine profile says.

A fused kernel reads what comes from outside and writes what is used outside; tensors that live
only inside it never reach memory.
"""

from collections.abc import Iterable, Sequence

from sim.kernel.operators import Elementwise, Operator, Tensor


def live_in(operators: Iterable[Operator]) -> frozenset[str]:
    """Return the names read before they are written: what a block needs from earlier blocks."""
    written: set[str] = set()
    needed: set[str] = set()
    for op in operators:
        needed.update(t.name for t in op.reads() if t.name not in written)
        written.update(t.name for t in op.writes())
    return frozenset(needed)


def fuse(
    operators: Sequence[Operator], fusions: Sequence[tuple[str, ...]], live_out: frozenset[str]
) -> tuple[Operator, ...]:
    """Return the operators with every chain that matches a fusion merged, longest first.

    `live_out` names tensors that later blocks read; they are always written.
    """
    patterns = sorted(fusions, key=len, reverse=True)
    fused: list[Operator] = []
    i = 0
    while i < len(operators):
        length = next((len(p) for p in patterns if _matches(operators[i:], p)), 1)
        chain = operators[i : i + length]
        i += length
        if length == 1:
            fused.append(chain[0])
            continue
        needed = live_in(operators[i:]) | (live_out - _overwritten(operators[i:]))
        fused.append(_merge([op for op in chain if isinstance(op, Elementwise)], needed))
    return tuple(fused)


def _overwritten(operators: Iterable[Operator]) -> frozenset[str]:
    return frozenset(t.name for op in operators for t in op.writes())


def _matches(operators: Sequence[Operator], pattern: tuple[str, ...]) -> bool:
    return len(operators) >= len(pattern) and all(
        isinstance(op, Elementwise) and op.kind == kind
        for op, kind in zip(operators, pattern, strict=False)
    )


def _merge(chain: Sequence[Elementwise], needed: frozenset[str]) -> Elementwise:
    reads: dict[str, tuple[Tensor, int]] = {}
    writes: dict[str, tuple[Tensor, int]] = {}
    for op in chain:
        for tensor, size in zip(op.inputs, op.read_bytes, strict=True):
            if tensor.name not in writes:
                known = reads.get(tensor.name, (tensor, 0))[1]
                reads[tensor.name] = (tensor, max(size, known))
        for tensor, size in zip(op.outputs, op.written_bytes, strict=True):
            writes[tensor.name] = (tensor, size)
    last = {t.name for t in chain[-1].outputs}
    kept = [pair for name, pair in writes.items() if name in needed or name in last]
    return Elementwise(
        name="+".join(op.name for op in chain),
        part=chain[0].part,
        kind="+".join(op.kind for op in chain),
        inputs=tuple(t for t, _ in reads.values()),
        outputs=tuple(t for t, _ in kept),
        read_bytes=tuple(size for _, size in reads.values()),
        written_bytes=tuple(size for _, size in kept),
        vector_flop=sum(op.vector_flop for op in chain),
        sfu_ops=sum(op.sfu_ops for op in chain),
    )
