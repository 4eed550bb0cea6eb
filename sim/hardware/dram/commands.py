"""What each command does: which later commands it delays, and which rows it opens or closes."""

from sim.hardware.dram.causes import charge
from sim.hardware.dram.compiled import inlined, jitable
from sim.hardware.dram.queues import remove, row_closed, row_opened
from sim.hardware.dram.state import (
    ACT,
    ACTIVE_LIST,
    ADAPTIVE_ROWS,
    BANK_ACT,
    BANK_ACTIVE,
    BANK_ACTIVE_AT,
    BANK_CONFLICTED,
    BANK_FRESH,
    BANK_GROUP,
    BANK_HITS,
    BANK_LAST,
    BANK_OPEN,
    BANK_OPENED,
    BANK_PC,
    BANK_PRE,
    BANK_RD,
    BANK_REF,
    BANK_ROW,
    BANK_STACK,
    BANK_WANTED,
    BANK_WR,
    CLOSED_ROWS,
    E_ACT_LEN,
    E_ACT_REF,
    E_ACT_REF_OTHER,
    E_CCD_L,
    E_CCD_L_WR,
    E_CCD_R,
    E_CCD_S,
    E_COLUMN_LEN,
    E_FAW,
    E_ONE_BUS,
    E_PER_CLOCK,
    E_PRE_LEN,
    E_RAS,
    E_RC,
    E_RCD_RD,
    E_RCD_WR,
    E_RD_PRE,
    E_RD_WR,
    E_RP,
    E_RP_REF,
    E_RRD_L,
    E_RRD_S,
    E_WR_PRE,
    E_WR_RD_L,
    E_WR_RD_S,
    GROUP_ACT,
    GROUP_RD,
    GROUP_WR,
    LIST_COUNT,
    LIST_HITS,
    LOG_BANK,
    LOG_COMMAND,
    LOG_FIELDS,
    LOG_ROW,
    LOG_TIME,
    MAX_BANKS,
    O_BANK_QUEUE,
    O_REFRESH,
    O_ROW_POLICY,
    O_ROW_TIMEOUT,
    PC_ACT,
    PC_ACTIVE,
    PC_FAW,
    PC_FAW_AT,
    PC_OPEN,
    PC_REF,
    Q_ACCEPT,
    Q_BANK,
    Q_FIELDS,
    Q_ISSUE,
    Q_ROW,
    Q_WRITE,
    RD,
    S_ACTIVES,
    S_ACTS,
    S_COLUMN_NEXT,
    S_DONE,
    S_FREED,
    S_LOG_SIZE,
    S_LOGGED,
    S_QUEUED,
    S_READS,
    S_REFRESH_NEXT,
    S_ROW_FREE,
    S_ROW_NEXT,
    S_STACKS_PER_PC,
    S_WRITES,
    STACK_RD,
    STACK_WR,
    WR,
    Ints,
)


@jitable
def write_log(m: Ints, log: Ints, now: int, command: int, bank: int, row: int) -> None:
    """Note a command, if the log has room."""
    at = m[S_LOGGED] * LOG_FIELDS
    if m[S_LOGGED] < m[S_LOG_SIZE]:
        log[at + LOG_TIME] = now
        log[at + LOG_COMMAND] = command
        log[at + LOG_BANK] = bank
        log[at + LOG_ROW] = row
        m[S_LOGGED] += 1


@inlined
def delay(m: Ints, place: int, until: int) -> None:
    """Forbid the command of `place` before `until`."""
    if m[place] < until:
        m[place] = until


@jitable
def activate(m: Ints, q: Ints, log: Ints, now: int, burst: int) -> None:
    """Open the row of `burst`; without bank queues it leaves its queue and waits in the bank."""
    bank, row = q[burst * Q_FIELDS + Q_BANK], q[burst * Q_FIELDS + Q_ROW]
    kind = 0 if m[O_BANK_QUEUE] else q[burst * Q_FIELDS + Q_WRITE]
    pc = m[BANK_PC + bank]
    wanted = max(m[BANK_ACT + bank], q[burst * Q_FIELDS + Q_ACCEPT])
    m[BANK_WANTED + bank] = min(wanted, now)
    if m[O_BANK_QUEUE] == 0:
        remove(m, q, kind, bank, burst)
    m[BANK_ROW + bank] = row
    m[BANK_OPENED + bank] = now
    m[BANK_FRESH + bank] = 1
    m[BANK_HITS + bank] = 0
    m[BANK_LAST + bank] = now
    m[BANK_RD + bank] = now + m[E_RCD_RD]
    m[BANK_WR + bank] = now + m[E_RCD_WR]
    m[BANK_PRE + bank] = now + m[E_RAS]
    m[BANK_ACT + bank] = now + m[E_RC]
    m[BANK_REF + bank] = now + m[E_ACT_REF]
    delay(m, GROUP_ACT + m[BANK_GROUP + bank], now + m[E_RRD_L])
    delay(m, PC_ACT + pc, now + m[E_RRD_S])
    delay(m, PC_REF + pc, now + m[E_ACT_REF_OTHER])
    ring = m[PC_FAW_AT + pc]
    m[PC_FAW + 4 * pc + ring] = now + m[E_FAW]
    m[PC_FAW_AT + pc] = (ring + 1) % 4
    m[PC_OPEN + pc] += 1
    m[S_ROW_FREE] = now + m[E_ACT_LEN]
    m[S_ACTS] += 1
    write_log(m, log, now, ACT, bank, row)
    if m[O_BANK_QUEUE] == 0:
        m[S_WRITES if kind else S_READS] -= 1
        m[S_FREED] = 1
        m[BANK_ACTIVE + bank] = burst
        m[BANK_ACTIVE_AT + bank] = m[S_ACTIVES]
        m[ACTIVE_LIST + m[S_ACTIVES]] = bank
        m[S_ACTIVES] += 1
        m[PC_ACTIVE + pc] += 1
    row_opened(m, q, 0, bank)
    row_opened(m, q, 1, bank)
    m[S_COLUMN_NEXT] = min(m[S_COLUMN_NEXT], now + min(m[E_RCD_RD], m[E_RCD_WR]))


@jitable
def close_row(m: Ints, at: int, bank: int) -> None:
    """Close a bank by a precharge that starts at `at`."""
    pc = m[BANK_PC + bank]
    m[BANK_OPEN + bank] += at - m[BANK_OPENED + bank]
    m[BANK_ROW + bank] = -1
    m[BANK_CONFLICTED + bank] = 0
    m[PC_OPEN + pc] -= 1
    delay(m, BANK_ACT + bank, at + m[E_RP])
    delay(m, BANK_REF + bank, at + m[E_RP_REF])
    row_closed(m, bank)


@jitable
def precharge(m: Ints, log: Ints, command: int, now: int, bank: int) -> None:
    """Close a bank with a command on the row bus."""
    close_row(m, now, bank)
    m[S_ROW_FREE] = now + m[E_PRE_LEN]
    write_log(m, log, now, command, bank, -1)


@jitable
def access(m: Ints, q: Ints, log: Ints, now: int, burst: int) -> None:
    """Read or write a burst: RD, WR, or with auto-precharge if the closed-row policy says so."""
    at = burst * Q_FIELDS
    bank, write = q[at + Q_BANK], q[at + Q_WRITE]
    charge(m, q, now, burst)
    q[at + Q_ISSUE] = now
    m[S_DONE] += 1
    _leave(m, q, bank, burst)
    _column_delays(m, now, bank, write)
    m[BANK_FRESH + bank] = 0
    m[BANK_HITS + bank] += 1
    m[BANK_LAST + bank] = now
    m[S_COLUMN_NEXT] = now + m[E_COLUMN_LEN]
    if m[E_ONE_BUS]:
        m[S_ROW_FREE] = now + m[E_COLUMN_LEN]
    if m[O_REFRESH]:
        m[S_REFRESH_NEXT] = min(m[S_REFRESH_NEXT], now + 1)
    command = WR if write else RD
    waiting = m[LIST_HITS + bank] + m[LIST_HITS + MAX_BANKS + bank]
    if m[O_ROW_POLICY] == CLOSED_ROWS and waiting == 0:
        close_row(m, m[BANK_PRE + bank], bank)
        command += 2
        m[S_ROW_NEXT] = min(m[S_ROW_NEXT], m[BANK_ACT + bank])
    elif m[LIST_COUNT + bank] + m[LIST_COUNT + MAX_BANKS + bank] > waiting:
        m[S_ROW_NEXT] = min(m[S_ROW_NEXT], m[BANK_PRE + bank])
    elif m[O_ROW_POLICY] == ADAPTIVE_ROWS:
        m[S_ROW_NEXT] = min(m[S_ROW_NEXT], now + m[O_ROW_TIMEOUT])
    write_log(m, log, now, command, bank, burst)


@jitable
def _leave(m: Ints, q: Ints, bank: int, burst: int) -> None:
    """Take a served burst out of where it waited."""
    if m[BANK_ACTIVE + bank] == burst:
        m[S_ACTIVES] -= 1
        place, last = m[BANK_ACTIVE_AT + bank], m[ACTIVE_LIST + m[S_ACTIVES]]
        m[ACTIVE_LIST + place] = last
        m[BANK_ACTIVE_AT + last] = place
        m[BANK_ACTIVE + bank] = -1
        m[PC_ACTIVE + m[BANK_PC + bank]] -= 1
    elif m[O_BANK_QUEUE]:
        remove(m, q, 0, bank, burst)
        m[S_QUEUED] -= 1
    else:
        kind = q[burst * Q_FIELDS + Q_WRITE]
        remove(m, q, kind, bank, burst)
        m[S_WRITES if kind else S_READS] -= 1
        m[S_FREED] = 1


@jitable
def _column_delays(m: Ints, now: int, bank: int, write: int) -> None:
    group, stack = m[BANK_GROUP + bank], m[BANK_STACK + bank]
    first = m[BANK_PC + bank] * m[S_STACKS_PER_PC]
    if write:
        m[GROUP_WR + group] = now + m[E_CCD_L_WR]
        delay(m, GROUP_RD + group, now + m[E_WR_RD_L])
        delay(m, BANK_PRE + bank, now + m[E_WR_PRE])
    else:
        m[GROUP_RD + group] = now + m[E_CCD_L]
        delay(m, BANK_PRE + bank, now + m[E_RD_PRE])
    for other in range(first, first + m[S_STACKS_PER_PC]):
        if write:
            m[STACK_WR + other] = now + m[E_CCD_S]
            delay(m, STACK_RD + other, now + m[E_WR_RD_S])
        else:
            m[STACK_RD + other] = now + (m[E_CCD_S] if other == stack else m[E_CCD_R])
            delay(m, STACK_WR + other, now + m[E_RD_WR])


@inlined
def access_from(m: Ints, bank: int, write: int) -> int:
    """Return from when an open bank may be read or written."""
    group, stack = m[BANK_GROUP + bank], m[BANK_STACK + bank]
    if write:
        return max(m[BANK_WR + bank], max(m[GROUP_WR + group], m[STACK_WR + stack]))
    return max(m[BANK_RD + bank], max(m[GROUP_RD + group], m[STACK_RD + stack]))


@inlined
def pc_activate_from(m: Ints, pc: int) -> int:
    """Return from when a pseudo-channel may activate: tRRD_S and the window of four."""
    return max(m[PC_ACT + pc], m[PC_FAW + 4 * pc + m[PC_FAW_AT + pc]])


@inlined
def up(m: Ints, edge: int) -> int:
    """Return the first edge not before `edge` that begins a clock."""
    low = m[E_PER_CLOCK] - 1
    return (edge + low) & ~low
