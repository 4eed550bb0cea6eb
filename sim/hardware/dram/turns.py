"""Banks take turns: round robin instead of the oldest first, as in DRAMsim3's command queues.

Each clock one walk over the banks starts behind the bank that was served last. The first command
that may start is issued, and the next one found behind it if that goes to the other bus; if it
wants the same bus, the other bus stays unused for this clock, whatever waits further on.
"""

from sim.hardware.dram.commands import (
    access,
    access_from,
    activate,
    pc_activate_from,
    precharge,
    up,
)
from sim.hardware.dram.compiled import jitable
from sim.hardware.dram.pick import conflict, held, other_hit
from sim.hardware.dram.state import (
    BANK_ACT,
    BANK_CONFLICTED,
    BANK_GROUP,
    BANK_PC,
    BANK_PRE,
    BANK_ROW,
    E_ONE_BUS,
    E_PER_CLOCK,
    FAR,
    GROUP_ACT,
    LIST_HEAD,
    LIST_HIT,
    PRE,
    Q_FIELDS,
    Q_WRITE,
    S_BANKS,
    S_BLOCKED,
    S_COLUMN_NEXT,
    S_ROW_FREE,
    S_ROW_NEXT,
    S_TURN,
    Ints,
)

_NOTHING, _ROW, _COLUMN = 0, 1, 2


@jitable
def take_turns(m: Ints, q: Ints, log: Ints, now: int, used: int) -> bool:
    """Issue what the banks whose turn it is may start; return whether a row command went.

    `used` is 1 if a refresh has taken the row bus at this edge. Sets when to look again.
    """
    soon, rows, first, bank = FAR, False, used, m[S_TURN]
    left = m[S_BANKS]
    free = now if used else max(now, m[S_ROW_FREE])
    while left > 0:
        left -= 1
        bank = bank + 1 if bank + 1 < m[S_BANKS] else 0
        kind, burst, start = _ready(m, q, bank, now, free)
        if start > now:
            soon = min(soon, start)
        elif kind != _NOTHING:
            m[S_TURN] = bank
            soon = now + 1
            if kind == first:
                break
            if kind == _COLUMN:
                access(m, q, log, now, burst)
            else:
                rows = True
                _row(m, q, log, now, bank, burst)
            if first or m[E_ONE_BUS]:
                break
            first, left = kind, m[S_BANKS]
    m[S_COLUMN_NEXT] = m[S_ROW_NEXT] = soon
    return rows


@jitable
def _row(m: Ints, q: Ints, log: Ints, now: int, bank: int, burst: int) -> None:
    if m[BANK_ROW + bank] < 0:
        activate(m, q, log, now, burst)
    else:
        precharge(m, log, PRE, now, bank)
        m[BANK_CONFLICTED + bank] = 1


@jitable
def _ready(m: Ints, q: Ints, bank: int, now: int, free: int) -> tuple[int, int, int]:
    """Return the first command that a bank's queue may start: bus, burst, from when (or FAR).

    `free` is from when the row bus was free before this edge: a command of the same edge does not
    hide the next one in turn, which then costs the edge its access.
    """
    head = m[LIST_HEAD + bank]
    if head < 0 or m[S_BLOCKED] or held(m, bank):
        return _NOTHING, -1, FAR
    if m[BANK_ROW + bank] < 0:
        start = max(m[BANK_ACT + bank], pc_activate_from(m, m[BANK_PC + bank]))
        start = max(start, m[GROUP_ACT + m[BANK_GROUP + bank]])
        return _ROW, head, up(m, max(free, start))
    soon = FAR
    if conflict(m, q, 0, bank, head) < FAR:
        soon = max(free, m[BANK_PRE + bank])
        if soon <= now:
            return _ROW, head, soon
    burst = m[LIST_HIT + bank]
    if burst < 0:
        return _ROW, head, soon
    start = access_from(m, bank, q[burst * Q_FIELDS + Q_WRITE])
    if start > now:
        burst, start = other_hit(m, q, bank, burst, start)
    start = max(start, m[S_ROW_FREE] if m[E_ONE_BUS] else now)
    start = (start + m[E_PER_CLOCK] - 1) & ~(m[E_PER_CLOCK] - 1)
    if start <= soon:
        return _COLUMN, burst, start
    return _ROW, head, soon
