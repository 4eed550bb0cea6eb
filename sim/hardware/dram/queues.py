"""Lists of waiting requests, one for reads and one for writes a bank, in order of arrival."""

from sim.hardware.dram.compiled import jitable
from sim.hardware.dram.state import (
    BANK_ROW,
    BANK_STACK,
    HIT_AT,
    HIT_LIST,
    HIT_N,
    LIST_COUNT,
    LIST_HEAD,
    LIST_HIT,
    LIST_HITS,
    LIST_TAIL,
    MAX_BANKS,
    MAX_STACKS,
    Q_FIELDS,
    Q_NEXT,
    Q_PREV,
    Q_ROW,
    S_PER_STACK,
    WORK_AT,
    WORK_LIST,
    WORK_N,
    Ints,
)


@jitable
def _insert(m: Ints, items: int, at: int, counts: int, kind: int, bank: int) -> None:
    """Add a bank to the unordered set of its stack id."""
    stack = m[BANK_STACK + bank]
    base, count = kind * MAX_BANKS, counts + kind * MAX_STACKS + stack
    if m[at + base + bank] < 0:
        place = stack * m[S_PER_STACK] + m[count]
        m[at + base + bank] = place
        m[items + base + place] = bank
        m[count] += 1


@jitable
def _discard(m: Ints, items: int, at: int, counts: int, kind: int, bank: int) -> None:
    """Take a bank out of the unordered set of its stack id."""
    stack = m[BANK_STACK + bank]
    base, count = kind * MAX_BANKS, counts + kind * MAX_STACKS + stack
    place = m[at + base + bank]
    if place >= 0:
        m[count] -= 1
        last = m[items + base + stack * m[S_PER_STACK] + m[count]]
        m[items + base + place] = last
        m[at + base + last] = place
        m[at + base + bank] = -1


@jitable
def append(m: Ints, q: Ints, kind: int, bank: int, burst: int) -> None:
    """Put a burst at the end of its bank's list."""
    at = kind * MAX_BANKS + bank
    tail = m[LIST_TAIL + at]
    q[burst * Q_FIELDS + Q_NEXT] = -1
    q[burst * Q_FIELDS + Q_PREV] = tail
    if tail >= 0:
        q[tail * Q_FIELDS + Q_NEXT] = burst
    else:
        m[LIST_HEAD + at] = burst
        _insert(m, WORK_LIST, WORK_AT, WORK_N, kind, bank)
    m[LIST_TAIL + at] = burst
    m[LIST_COUNT + at] += 1
    if m[BANK_ROW + bank] == q[burst * Q_FIELDS + Q_ROW]:
        _hit_found(m, kind, bank, burst)


@jitable
def _hit_found(m: Ints, kind: int, bank: int, burst: int) -> None:
    at = kind * MAX_BANKS + bank
    m[LIST_HITS + at] += 1
    if m[LIST_HIT + at] < 0:
        m[LIST_HIT + at] = burst
        _insert(m, HIT_LIST, HIT_AT, HIT_N, kind, bank)


@jitable
def remove(m: Ints, q: Ints, kind: int, bank: int, burst: int) -> None:
    """Take a burst out of its bank's list."""
    at = kind * MAX_BANKS + bank
    nxt = q[burst * Q_FIELDS + Q_NEXT]
    prev = q[burst * Q_FIELDS + Q_PREV]
    if prev >= 0:
        q[prev * Q_FIELDS + Q_NEXT] = nxt
    else:
        m[LIST_HEAD + at] = nxt
    if nxt >= 0:
        q[nxt * Q_FIELDS + Q_PREV] = prev
    else:
        m[LIST_TAIL + at] = prev
    m[LIST_COUNT + at] -= 1
    if m[LIST_COUNT + at] == 0:
        _discard(m, WORK_LIST, WORK_AT, WORK_N, kind, bank)
    row = m[BANK_ROW + bank]
    if q[burst * Q_FIELDS + Q_ROW] == row:
        m[LIST_HITS + at] -= 1
        if m[LIST_HITS + at] == 0:
            m[LIST_HIT + at] = -1
            _discard(m, HIT_LIST, HIT_AT, HIT_N, kind, bank)
        elif m[LIST_HIT + at] == burst:
            while q[nxt * Q_FIELDS + Q_ROW] != row:
                nxt = q[nxt * Q_FIELDS + Q_NEXT]
            m[LIST_HIT + at] = nxt


@jitable
def row_opened(m: Ints, q: Ints, kind: int, bank: int) -> None:
    """Find the hits of a bank whose row was just opened."""
    row = m[BANK_ROW + bank]
    burst = m[LIST_HEAD + kind * MAX_BANKS + bank]
    while burst >= 0:
        if q[burst * Q_FIELDS + Q_ROW] == row:
            _hit_found(m, kind, bank, burst)
        burst = q[burst * Q_FIELDS + Q_NEXT]


@jitable
def row_closed(m: Ints, bank: int) -> None:
    """Forget the hits of a bank."""
    for kind in range(2):
        base = kind * MAX_BANKS
        m[LIST_HIT + base + bank] = -1
        m[LIST_HITS + base + bank] = 0
        _discard(m, HIT_LIST, HIT_AT, HIT_N, kind, bank)
