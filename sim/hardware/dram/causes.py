"""Where the time of a data bus goes: every edge of a pseudo-channel has one cause.

Between the data of two accesses lies a gap; it belongs to what the later access waited for, in the
order of time: a refresh, its own arrival, the precharge of another row (`bank_conflict`), the
activation window or the row bus (`faw`), the opening of its row (`row_miss`), a change of direction
(`turnaround`), and what is left, which is spacing of accesses (`column`: tCCD_L, tCCD_R, the bus).
"""

from sim.hardware.dram.compiled import inlined, jitable
from sim.hardware.dram.state import (
    BANK_CONFLICT,
    BANK_CONFLICTED,
    BANK_FRESH,
    BANK_OPENED,
    BANK_PC,
    BANK_RD,
    BANK_WANTED,
    BANK_WR,
    COLUMN,
    DATA,
    E_BURST,
    E_RD_WR,
    E_WR_RD_L,
    FAW,
    IDLE,
    PC_CAUSE,
    PC_LAST,
    PC_LAST_WRITE,
    PC_REF_FROM,
    PC_REF_TO,
    PC_TURN,
    Q_ACCEPT,
    Q_BANK,
    Q_FIELDS,
    Q_WRITE,
    REFRESH,
    ROW_MISS,
    TURNAROUND,
    Ints,
)


@inlined
def _spend(m: Ints, place: int, cursor: int, until: int, now: int) -> int:
    """Charge the time from `cursor` to `until`, but not beyond `now`; return the new cursor."""
    end = min(until, now)
    if end > cursor:
        m[place] += end - cursor
        return end
    return cursor


@jitable
def _closing(m: Ints, bank: int) -> int:
    """Return why a bank could not be activated before: it had no other row, one, a refresh."""
    if m[BANK_CONFLICTED + bank] == 0:
        return ROW_MISS
    return BANK_CONFLICT if m[BANK_CONFLICTED + bank] == 1 else REFRESH


@jitable
def charge(m: Ints, q: Ints, now: int, burst: int) -> None:
    """Charge the gap before an access that starts at `now`, and its data."""
    bank, write = q[burst * Q_FIELDS + Q_BANK], q[burst * Q_FIELDS + Q_WRITE]
    pc = m[BANK_PC + bank]
    causes = PC_CAUSE + 8 * pc
    cursor = m[PC_LAST + pc] + m[E_BURST]
    if now > cursor:
        if m[PC_REF_TO + pc] > cursor:
            cursor = _spend(m, causes + COLUMN, cursor, m[PC_REF_FROM + pc], now)
            cursor = _spend(m, causes + REFRESH, cursor, m[PC_REF_TO + pc], now)
        cursor = _spend(m, causes + IDLE, cursor, q[burst * Q_FIELDS + Q_ACCEPT], now)
        if m[BANK_FRESH + bank]:
            cursor = _spend(m, causes + _closing(m, bank), cursor, m[BANK_WANTED + bank], now)
            cursor = _spend(m, causes + FAW, cursor, m[BANK_OPENED + bank], now)
            opened = m[BANK_WR + bank] if write else m[BANK_RD + bank]
            cursor = _spend(m, causes + ROW_MISS, cursor, opened, now)
        if m[PC_LAST_WRITE + pc] != write:
            cursor = _spend(m, causes + TURNAROUND, cursor, m[PC_TURN + pc], now)
        _spend(m, causes + COLUMN, cursor, now, now)
    m[causes + DATA] += m[E_BURST]
    m[PC_LAST + pc] = now
    m[PC_LAST_WRITE + pc] = write
    m[PC_TURN + pc] = now + (m[E_WR_RD_L] if write else m[E_RD_WR])
