"""Lowering: one operator becomes the kernel sequences that an engine could run on a chip."""

from collections.abc import Iterator
from dataclasses import replace

from sim.errors import InvariantError
from sim.kernel.engine import Engine
from sim.kernel.kernel import Kernel
from sim.kernel.lower.attention import lower_attention
from sim.kernel.lower.gather import lower_gather
from sim.kernel.lower.gemm import gemm_candidates
from sim.kernel.lower.grouped_gemm import grouped_candidates
from sim.kernel.lower.layouts import with_kv_layout
from sim.kernel.lower.matvec import lower_matvec, takes_vector
from sim.kernel.lower.mixed import lower_mixed
from sim.kernel.lower.mla import lower_mla
from sim.kernel.lower.recurrent import lower_state_update
from sim.kernel.lower.row_kernels import lower_rows
from sim.kernel.lower.scan import lower_scan
from sim.kernel.lower.streaming import lower_elementwise
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
from sim.kernel.target import Target


def lower(op: Operator, target: Target, engine: Engine) -> Iterator[tuple[Kernel, ...]]:
    """Yield the alternative kernel sequences for `op`; a tuner takes the fastest.

    Each alternative moves the same tensors and does the same useful FLOP. An operator without work
    (a grouped GEMM without tokens) yields nothing, nor does an exchange: a library runs it.
    """
    match op:
        case Gemm() | GroupedGemm():
            yield from _multiplications(op, target, engine)
        case Attention() | MixedAttention() | MlaAttention():
            yield from _attention(op, target, engine)
        case Elementwise():
            yield (*_helpers(op, target, engine), _elementwise(op, target, engine))
        case StateUpdate():
            yield lower_state_update(op, target, copied=engine.copies_state)
        case ChunkedScan():
            yield lower_scan(op, target, engine.scan)
        case Exchange():
            return
        case _:
            raise InvariantError(f"no lowering for operator {op!r}")


def _attention(
    op: Attention | MixedAttention | MlaAttention, target: Target, engine: Engine
) -> Iterator[tuple[Kernel, ...]]:
    match op:
        case Attention():
            for kernels in lower_attention(op, target, engine):
                yield with_kv_layout(kernels, op, engine.kv_block_tokens)
        case MixedAttention():
            yield lower_mixed(op, target, engine)
        case MlaAttention():
            for kernels in lower_mla(op, target, engine.latent):
                yield with_kv_layout(kernels, op, engine.kv_block_tokens)


def _multiplications(
    op: Gemm | GroupedGemm, target: Target, engine: Engine
) -> Iterator[tuple[Kernel, ...]]:
    if engine.vector is not None and takes_vector(op, engine.vector):
        yield lower_matvec(op, target, engine.vector)
    elif isinstance(op, Gemm):
        yield from gemm_candidates(op, target, engine.fixed_tiles, engine.tile_set)
    else:
        found = grouped_candidates(op, target, engine.grouped_tile, engine.grouped)
        yield from ((kernel,) for kernel in found)


def _helpers(op: Elementwise, target: Target, engine: Engine) -> Iterator[Kernel]:
    """Yield the small kernels that choosing experts takes beside the choice itself."""
    if op.kind == "router_topk":
        whole = lower_elementwise(op, target)
        for number in range(engine.router_helpers):
            yield replace(whole, name=f"router_helper{number}", flop=0)


def _elementwise(op: Elementwise, target: Target, engine: Engine) -> Kernel:
    if op.rows and op.kind == "embedding" and engine.gather:
        return lower_gather(op, target, engine.gather)
    if op.rows and engine.row_kernels:
        return lower_rows(op, target, engine.row_kernels)
    return lower_elementwise(op, target)
