"""Refresh: when one is due, what it stops, and the commands that it takes."""

from sim.hardware.dram.commands import close_row, delay, precharge, up, write_log
from sim.hardware.dram.compiled import jitable
from sim.hardware.dram.state import (
    ALL_BANK,
    BANK_ACT,
    BANK_ACTIVE,
    BANK_BLOCK,
    BANK_CONFLICTED,
    BANK_DONE,
    BANK_PRE,
    BANK_REF,
    BANK_ROW,
    BY_REFRESH,
    E_PRE_LEN,
    E_REFI,
    E_REFI_PB,
    E_RFC_ACT,
    E_RFC_PB_ACT,
    E_RFC_REF,
    E_RREFD,
    E_RREFD_ACT,
    FAR,
    HIDDEN,
    LIST_COUNT,
    MAX_BANKS,
    O_MAX_DEBT,
    O_REFRESH,
    O_STALL_CHANNEL,
    PC_ACT,
    PC_ACTIVE,
    PC_BLOCK,
    PC_DEBT,
    PC_DUE,
    PC_OPEN,
    PC_REF,
    PC_REF_FROM,
    PC_REF_TO,
    PC_ROUND,
    PC_TARGET,
    PER_BANK,
    PRE,
    PRE_ALL,
    REF_ALL,
    REF_BANK,
    S_BANKS,
    S_BLOCKED,
    S_COLUMN_NEXT,
    S_DUE,
    S_MAX_DEBT,
    S_PCS,
    S_REFRESH_NEXT,
    S_REFRESHES,
    S_ROW_FREE,
    S_ROW_NEXT,
    Ints,
)


@jitable
def become_due(m: Ints, now: int) -> None:
    """Count the refreshes that are due by now; an all-bank refresh stops new work at once."""
    for pc in range(m[S_PCS]):
        while m[PC_DUE + pc] <= now:
            if m[O_REFRESH] == ALL_BANK and m[PC_DEBT + pc] == 0:
                m[PC_REF_FROM + pc] = m[PC_DUE + pc]
            m[PC_DEBT + pc] += 1
            m[S_MAX_DEBT] = max(m[S_MAX_DEBT], m[PC_DEBT + pc])
            m[S_REFRESH_NEXT] = now
            m[PC_DUE + pc] += m[E_REFI] if m[O_REFRESH] == ALL_BANK else m[E_REFI_PB]
            if m[O_REFRESH] == ALL_BANK and m[O_STALL_CHANNEL]:
                m[S_BLOCKED] = 1
            elif m[O_REFRESH] == ALL_BANK:
                m[PC_BLOCK + pc] = 1
    m[S_DUE] = FAR
    for pc in range(m[S_PCS]):
        m[S_DUE] = min(m[S_DUE], m[PC_DUE + pc])


@jitable
def refresh_step(m: Ints, log: Ints, now: int) -> bool:
    """Issue one command for a due refresh, if one may start; else set when to look again."""
    m[S_REFRESH_NEXT] = FAR
    for pc in range(m[S_PCS]):
        if m[PC_DEBT + pc] == 0:
            continue
        every = m[O_REFRESH] == ALL_BANK
        issued = _all_bank(m, log, now, pc) if every else _per_bank(m, log, now, pc)
        if issued:
            m[S_REFRESH_NEXT] = now + 1
            m[S_ROW_NEXT] = min(m[S_ROW_NEXT], now + 1)
            m[S_COLUMN_NEXT] = min(m[S_COLUMN_NEXT], now + 1)
            return True
        if m[O_STALL_CHANNEL] and m[O_REFRESH] == ALL_BANK:
            break
    return False


@jitable
def _all_bank(m: Ints, log: Ints, now: int, pc: int) -> bool:
    if m[PC_ACTIVE + pc]:
        return False
    per_pc = m[S_BANKS] // m[S_PCS]
    first = pc * per_pc
    start = now
    for bank in range(first, first + per_pc):
        if m[PC_OPEN + pc] == 0:
            start = max(start, max(m[BANK_REF + bank], m[PC_REF + pc]))
        elif m[BANK_ROW + bank] >= 0:
            start = max(start, m[BANK_PRE + bank])
    if m[PC_OPEN + pc] == 0:
        start = up(m, start)
    if start > now:
        m[S_REFRESH_NEXT] = min(m[S_REFRESH_NEXT], start)
        return False
    if m[PC_OPEN + pc]:
        for bank in range(first, first + per_pc):
            if m[BANK_ROW + bank] >= 0:
                close_row(m, now, bank)
        m[S_ROW_FREE] = now + m[E_PRE_LEN]
        write_log(m, log, now, PRE_ALL, first, -1)
        return True
    for bank in range(first, first + per_pc):
        delay(m, BANK_ACT + bank, now + m[E_RFC_ACT])
        m[BANK_REF + bank] = now + m[E_RFC_REF]
    m[PC_REF_TO + pc] = now + m[E_RFC_ACT]
    _issued(m, log, now, pc, REF_ALL, first)
    m[PC_BLOCK + pc] = 0
    waiting = 0
    for other in range(m[S_PCS]):
        waiting += m[PC_DEBT + other]
    if waiting == 0:
        m[S_BLOCKED] = 0
    return True


@jitable
def _issued(m: Ints, log: Ints, now: int, pc: int, command: int, bank: int) -> None:
    m[PC_DEBT + pc] -= 1
    m[S_REFRESHES] += 1
    m[S_ROW_FREE] = now + m[E_PRE_LEN]
    write_log(m, log, now, command, bank, -1)


@jitable
def _per_bank(m: Ints, log: Ints, now: int, pc: int) -> bool:
    if m[PC_TARGET + pc] < 0:
        bank = _target(m, pc)
        if bank < 0:
            return False
        m[PC_TARGET + pc] = bank
        m[BANK_BLOCK + bank] = 1
    bank = m[PC_TARGET + pc]
    if m[BANK_ACTIVE + bank] >= 0:
        return False
    is_open = m[BANK_ROW + bank] >= 0
    start = m[BANK_PRE + bank]
    if not is_open:
        start = up(m, max(now, max(m[BANK_REF + bank], m[PC_REF + pc])))
    if start > now:
        m[S_REFRESH_NEXT] = min(m[S_REFRESH_NEXT], start)
        return False
    if is_open:
        precharge(m, log, PRE, now, bank)
        return True
    delay(m, BANK_ACT + bank, now + m[E_RFC_PB_ACT])
    m[BANK_REF + bank] = now + m[E_RFC_PB_ACT]
    m[PC_REF + pc] = now + m[E_RREFD]
    delay(m, PC_ACT + pc, now + m[E_RREFD_ACT])
    m[BANK_CONFLICTED + bank] = BY_REFRESH
    m[PC_TARGET + pc] = -1
    m[BANK_BLOCK + bank] = 0
    m[BANK_DONE + bank] = 1
    m[PC_ROUND + pc] += 1
    if m[PC_ROUND + pc] == m[S_BANKS] // m[S_PCS]:
        m[PC_ROUND + pc] = 0
        for other in range(pc * m[S_BANKS] // m[S_PCS], (pc + 1) * m[S_BANKS] // m[S_PCS]):
            m[BANK_DONE + other] = 0
    _issued(m, log, now, pc, REF_BANK, bank)
    return True


@jitable
def _target(m: Ints, pc: int) -> int:
    """Return the bank to refresh next, or -1 to wait for one without requests (`hidden`)."""
    per_pc = m[S_BANKS] // m[S_PCS]
    first = -1
    for bank in range(pc * per_pc, (pc + 1) * per_pc):
        if m[BANK_DONE + bank]:
            continue
        if first < 0:
            first = bank
        idle = m[LIST_COUNT + bank] + m[LIST_COUNT + MAX_BANKS + bank] == 0
        if m[O_REFRESH] == HIDDEN and idle and m[BANK_ACTIVE + bank] < 0:
            return bank
    insist = m[O_REFRESH] == PER_BANK or m[PC_DEBT + pc] >= m[O_MAX_DEBT]
    return first if insist else -1
