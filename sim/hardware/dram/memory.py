"""Lay out the scheduler's memory for a run, and read results out of it."""

import numpy as np
from numpy.typing import NDArray

from sim.hardware.dram.address import DramMap
from sim.hardware.dram.controller import Options
from sim.hardware.dram.patterns import Stream
from sim.hardware.dram.state import (
    BANK_ACTIVE,
    BANK_GROUP,
    BANK_OPEN,
    BANK_OPENED,
    BANK_PC,
    BANK_ROW,
    BANK_STACK,
    CAUSES,
    EDGES,
    FAR,
    FRONT_HEAD,
    FRONT_TAIL,
    HIT_AT,
    IDLE,
    LIST_HEAD,
    LIST_HIT,
    LIST_TAIL,
    MAX_BANKS,
    MAX_GROUPS,
    MAX_PCS,
    MAX_STACKS,
    OPTIONS,
    PC_CAUSE,
    PC_DUE,
    PC_LAST,
    PC_TARGET,
    Q_ACCEPT,
    Q_ARRIVE,
    Q_BANK,
    Q_FIELDS,
    Q_ISSUE,
    Q_ROW,
    Q_WRITE,
    S_BANKS,
    S_BURSTS,
    S_DUE,
    S_LOG_SIZE,
    S_OLDEST,
    S_PCS,
    S_PER_STACK,
    S_REFRESH_NEXT,
    S_STACKS,
    S_STACKS_PER_PC,
    SIZE,
    WORK_AT,
)
from sim.hardware.dram.timing import DramSpec

Array = NDArray[np.int64]
_BLOCK = 4096  # bursts at a time, so that temporary arrays stay in the cache


def fresh_memory(spec: DramSpec, options: Options, bursts: int, log_size: int) -> Array:
    """Return the memory of a channel at time 0: all banks closed, nothing waiting."""
    o, e = spec.organisation, spec.edges()
    groups = o.pseudo_channels * o.stack_ids * o.bank_groups
    if (
        o.banks > MAX_BANKS
        or groups > MAX_GROUPS
        or o.pseudo_channels > MAX_PCS
        or o.pseudo_channels * o.stack_ids > MAX_STACKS
    ):
        raise ValueError(f"{spec.name}: more banks than the scheduler has room for")
    m = np.zeros(SIZE, dtype=np.int64)
    m[EDGES : EDGES + len(e)] = e
    m[OPTIONS : OPTIONS + len(options)] = options
    bank = np.arange(o.banks)
    m[BANK_GROUP : BANK_GROUP + o.banks] = bank // o.banks_per_group
    m[BANK_STACK : BANK_STACK + o.banks] = bank // (o.banks_per_group * o.bank_groups)
    m[BANK_PC : BANK_PC + o.banks] = bank // o.banks_per_pseudo_channel
    for nothing in (BANK_ROW, BANK_ACTIVE):
        m[nothing : nothing + MAX_BANKS] = -1
    for nothing in (LIST_HEAD, LIST_TAIL, LIST_HIT, HIT_AT, WORK_AT):
        m[nothing : nothing + 2 * MAX_BANKS] = -1
    m[FRONT_HEAD : FRONT_HEAD + 2] = m[FRONT_TAIL : FRONT_TAIL + 2] = -1
    m[PC_TARGET : PC_TARGET + MAX_PCS] = -1
    m[PC_LAST : PC_LAST + MAX_PCS] = -e.burst
    m[PC_DUE : PC_DUE + MAX_PCS] = (FAR, e.refi, e.refi_pb, e.refi_pb)[options.refresh]
    m[S_DUE] = m[PC_DUE]
    m[S_BANKS], m[S_PCS] = o.banks, o.pseudo_channels
    m[S_STACKS_PER_PC] = o.stack_ids
    m[S_STACKS] = o.pseudo_channels * o.stack_ids
    m[S_PER_STACK] = o.bank_groups * o.banks_per_group
    m[S_OLDEST], m[S_REFRESH_NEXT] = -1, FAR
    m[S_BURSTS], m[S_LOG_SIZE] = bursts, log_size
    return m


def request_table(spec: DramSpec, address_map: DramMap, stream: Stream) -> Array:
    """Return the table of bursts of a stream, `Q_FIELDS` numbers each."""
    o = spec.organisation
    per = max(1, stream.chunk_bytes // o.access_bytes)
    offsets = np.arange(per)
    first, arrive = stream.address // o.access_bytes, arrival_edges(spec, stream)
    q = np.empty((len(first), per, Q_FIELDS), dtype=np.int64)
    q[:, :, Q_ACCEPT] = q[:, :, Q_ISSUE] = -1
    step = max(1, _BLOCK // per)
    for at in range(0, len(first), step):
        block = slice(at, at + step)
        part = q[block]
        places = address_map.places((first[block, None] + offsets), o)
        part[:, :, Q_BANK], part[:, :, Q_ROW] = places.bank, places.row
        part[:, :, Q_WRITE] = stream.write[block, None]
        part[:, :, Q_ARRIVE] = arrive[block, None]
    return q.ravel()


def arrival_edges(spec: DramSpec, stream: Stream) -> Array:
    """Return the first edge not before each granule's arrival."""
    clock, per = spec.organisation.clock_ps, spec.bus.edges_per_clock
    return -(-stream.arrive_ps * per // clock)


def causes_of(m: Array, spec: DramSpec) -> tuple[dict[str, int], int]:
    """Return the time of all data buses by cause in edges, and the length of the run.

    What a bus does not do after its last data is `idle`.
    """
    o, e = spec.organisation, spec.edges()
    ends = m[PC_LAST : PC_LAST + o.pseudo_channels] + e.burst
    span = int(ends.max())
    table = m[PC_CAUSE : PC_CAUSE + 8 * o.pseudo_channels].reshape(-1, 8).sum(axis=0)
    table[IDLE] += int((span - ends).sum())
    return {cause: int(edges) for cause, edges in zip(CAUSES, table, strict=True)}, span


def bank_utilisation(m: Array, spec: DramSpec, span: int) -> float:
    """Return the share of time that banks have a row open, over all banks."""
    banks = spec.organisation.banks
    still = m[BANK_ROW : BANK_ROW + banks] >= 0
    open_edges = m[BANK_OPEN : BANK_OPEN + banks] + np.where(
        still, np.maximum(0, span - m[BANK_OPENED : BANK_OPENED + banks]), 0
    )
    return float(open_edges.sum() / (banks * span))
