"""The roofline, for contrast: every byte once at peak bandwidth, or every FLOP at peak rate."""

from sim.hardware.spec import ChipSpec
from sim.kernel.operators import (
    Attention,
    ChunkedScan,
    Elementwise,
    Exchange,
    Gemm,
    GroupedGemm,
    MixedAttention,
    MlaAttention,
    Operator,
    StateUpdate,
)
from sim.kernel.work import experts_read_bytes, operator_flop
from sim.units import PS_PER_S, PS_PER_US


def roofline_us(op: Operator, chip: ChipSpec) -> float:
    """Return the roofline time of one operator in us."""
    flop_per_s = _flop_per_s(op, chip)
    seconds = max(bytes_of(op) / chip.hbm_bytes_per_s, operator_flop(op) / flop_per_s)
    return seconds * (PS_PER_S / PS_PER_US)


def bytes_of(op: Operator) -> int:
    """Return the bytes that an operator must read and write."""
    match op:
        case Elementwise():
            return sum(op.read_bytes) + sum(op.written_bytes)
        case Attention() | MlaAttention():
            return op.q.size_bytes + op.kv_read_bytes + op.out.size_bytes
        case MixedAttention():
            return sum(bytes_of(part) for part in op.attentions)
        case GroupedGemm():
            return op.a.size_bytes + experts_read_bytes(op) + op.out.size_bytes
        case _:
            tensors = (*op.reads(), *op.writes())
            return sum(tensor.size_bytes for tensor in tensors)


def _flop_per_s(op: Operator, chip: ChipSpec) -> int:
    rates = chip.tensor_flop_per_s
    match op:
        case Gemm() | GroupedGemm():
            return rates.get(op.weight_format.compute, rates["bf16"])
        case Attention() | MixedAttention() | MlaAttention() | ChunkedScan():
            return rates["bf16"]
        case StateUpdate() | Elementwise() | Exchange():
            return chip.vector_flop_per_s
    raise TypeError(f"no roofline for {type(op).__name__}")
