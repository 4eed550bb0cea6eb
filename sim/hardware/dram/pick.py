"""FR-FCFS: of what may start now, the oldest; accesses before row commands."""

from sim.hardware.dram.commands import access_from, pc_activate_from, up
from sim.hardware.dram.compiled import inlined, jitable
from sim.hardware.dram.state import (
    ACTIVE_LIST,
    BANK_ACT,
    BANK_ACTIVE,
    BANK_BLOCK,
    BANK_GROUP,
    BANK_HITS,
    BANK_LAST,
    BANK_PC,
    BANK_PRE,
    BANK_ROW,
    FAR,
    GROUP_ACT,
    HIT_LIST,
    HIT_N,
    LIST_HEAD,
    LIST_HIT,
    LIST_HITS,
    MAX_BANKS,
    MAX_STACKS,
    O_BANK_QUEUE,
    O_HIT_LIMIT,
    O_HOLD_HITS,
    O_ROW_TIMEOUT,
    PC_BLOCK,
    Q_ACCEPT,
    Q_BANK,
    Q_FIELDS,
    Q_NEXT,
    Q_ROW,
    Q_WRITE,
    S_ACTIVES,
    S_BANKS,
    S_BLOCKED,
    S_COLUMN_NEXT,
    S_MODE,
    S_OLDEST,
    S_PER_STACK,
    S_ROW_NEXT,
    S_STACKS,
    S_STACKS_PER_PC,
    STACK_RD,
    STACK_WR,
    WORK_LIST,
    WORK_N,
    Ints,
)


@inlined
def held(m: Ints, bank: int) -> bool:
    """Return whether a refresh keeps a bank from new work."""
    return bool(m[PC_BLOCK + m[BANK_PC + bank]] or m[BANK_BLOCK + bank])


@jitable
def pick_access(m: Ints, q: Ints, now: int) -> int:
    """Return the burst to read or write now, or -1 and set when to look again.

    Bursts for which a row was opened come first, even while a refresh waits. Bursts are numbered
    in the order of asking, so the oldest has the least number.
    """
    best, soon = FAR, FAR
    for k in range(m[S_ACTIVES]):
        bank = m[ACTIVE_LIST + k]
        burst = m[BANK_ACTIVE + bank]
        start = access_from(m, bank, q[burst * Q_FIELDS + Q_WRITE])
        if start > now:
            soon = min(soon, start)
        else:
            best = min(best, burst)
    if best == FAR and m[S_BLOCKED] == 0:
        best, soon = _pick_hit(m, q, now, soon)
    if best < FAR:
        return best
    m[S_COLUMN_NEXT] = up(m, soon)
    return -1


@jitable
def _pick_hit(m: Ints, q: Ints, now: int, soon: int) -> tuple[int, int]:
    """Return the oldest hit that may start now, or FAR, and when one may start at the earliest."""
    best, kind, late = FAR, m[S_MODE], m[S_OLDEST]
    late_bank = -1 if late < 0 else q[late * Q_FIELDS + Q_BANK]
    for stack in range(m[S_STACKS]):
        count = m[HIT_N + kind * MAX_STACKS + stack]
        if count == 0:
            continue
        bus = m[STACK_WR + stack] if kind else m[STACK_RD + stack]
        if m[O_BANK_QUEUE]:
            bus = min(bus, m[STACK_WR + stack])
        if bus > now:
            soon = min(soon, bus)
            continue
        first = HIT_LIST + kind * MAX_BANKS + stack * m[S_PER_STACK]
        for k in range(first, first + count):
            bank = m[k]
            burst = m[LIST_HIT + kind * MAX_BANKS + bank]
            write = q[burst * Q_FIELDS + Q_WRITE] if m[O_BANK_QUEUE] else kind
            start = access_from(m, bank, write)
            if m[O_BANK_QUEUE] and start > now:
                burst, start = other_hit(m, q, bank, burst, start)
            if start > now:
                soon = min(soon, start)
            elif burst < best and not held(m, bank) and (bank != late_bank or burst == late):
                best = burst
    return best, soon


@jitable
def other_hit(m: Ints, q: Ints, bank: int, burst: int, start: int) -> tuple[int, int]:
    """Return the first hit of the other direction if it may start sooner, else this one."""
    write = q[burst * Q_FIELDS + Q_WRITE]
    other = access_from(m, bank, 1 - write)
    if other < start:
        nxt = q[burst * Q_FIELDS + Q_NEXT]
        while nxt >= 0:
            if (
                q[nxt * Q_FIELDS + Q_ROW] == m[BANK_ROW + bank]
                and q[nxt * Q_FIELDS + Q_WRITE] != write
            ):
                return nxt, other
            nxt = q[nxt * Q_FIELDS + Q_NEXT]
    return burst, start


@jitable
def pick_row(m: Ints, q: Ints, now: int) -> int:
    """Return the burst whose bank gets ACT or PRE now, or -1 and set when to look again."""
    best, soon, kind = FAR, FAR, m[S_MODE]
    if m[S_BLOCKED]:
        m[S_ROW_NEXT] = FAR
        return -1
    for stack in range(m[S_STACKS]):
        first = WORK_LIST + kind * MAX_BANKS + stack * m[S_PER_STACK]
        pc_from = pc_activate_from(m, stack // m[S_STACKS_PER_PC])
        for k in range(first, first + m[WORK_N + kind * MAX_STACKS + stack]):
            bank = m[k]
            closed = m[BANK_ROW + bank] < 0
            start = max(m[BANK_ACT + bank], pc_from) if closed else m[BANK_PRE + bank]
            if start > now:
                soon = min(soon, start)
                continue
            burst = m[LIST_HEAD + kind * MAX_BANKS + bank]
            if m[BANK_ACTIVE + bank] >= 0 or burst >= best or held(m, bank):
                continue
            if closed:
                start = up(m, max(now, m[GROUP_ACT + m[BANK_GROUP + bank]]))
            else:
                burst = conflict(m, q, kind, bank, burst)
            if start > now:
                soon = min(soon, start)
            elif burst < best:
                best = burst
    if best < FAR:
        return best
    m[S_ROW_NEXT] = soon
    return -1


@jitable
def conflict(m: Ints, q: Ints, kind: int, bank: int, head: int) -> int:
    """Return the request that may close the open row of a bank, or FAR; `head` is the oldest."""
    row, hit = m[BANK_ROW + bank], m[LIST_HIT + kind * MAX_BANKS + bank]
    if q[head * Q_FIELDS + Q_ROW] == row:
        if m[O_HOLD_HITS] or m[O_BANK_QUEUE]:
            return FAR
        while head >= 0 and q[head * Q_FIELDS + Q_ROW] == row:
            head = q[head * Q_FIELDS + Q_NEXT]
        return head if head >= 0 else FAR
    if hit < 0 or head == m[S_OLDEST]:
        return head
    if m[O_BANK_QUEUE]:
        return head if m[O_HIT_LIMIT] and m[BANK_HITS + bank] >= m[O_HIT_LIMIT] else FAR
    if m[O_HIT_LIMIT] and m[BANK_HITS + bank] >= m[O_HIT_LIMIT]:
        return head
    waits = m[O_HOLD_HITS] and q[hit * Q_FIELDS + Q_ACCEPT] <= q[head * Q_FIELDS + Q_ACCEPT]
    return FAR if waits else head


@jitable
def pick_unused(m: Ints, now: int) -> tuple[int, int]:
    """Return a bank whose row the adaptive policy closes now, or -1; and when to look again."""
    soon = FAR
    for bank in range(m[S_BANKS]):
        if m[BANK_ROW + bank] < 0 or m[BANK_ACTIVE + bank] >= 0:
            continue
        if m[LIST_HITS + bank] + m[LIST_HITS + MAX_BANKS + bank] > 0:
            continue
        start = max(m[BANK_PRE + bank], m[BANK_LAST + bank] + m[O_ROW_TIMEOUT])
        if start <= now:
            return bank, now
        soon = min(soon, start)
    return -1, soon
