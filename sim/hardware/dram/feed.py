"""How requests reach the scheduler: staging, queues with back-pressure, queues of a bank."""

from sim.hardware.dram.commands import access_from
from sim.hardware.dram.compiled import inlined, jitable
from sim.hardware.dram.queues import append
from sim.hardware.dram.state import (
    BANK_ACT,
    BANK_ACTIVE,
    BANK_PRE,
    BANK_ROW,
    FAR,
    FRONT_HEAD,
    FRONT_TAIL,
    LIST_COUNT,
    LIST_HEAD,
    MAX_BANKS,
    O_AGE_BOUND,
    O_BANK_QUEUE,
    O_HOLD_HITS,
    O_READ_QUEUE,
    O_STAGING,
    O_WRITE_HIGH,
    O_WRITE_LOW,
    O_WRITE_QUEUE,
    O_WRITE_WHEN_IDLE,
    Q_ACCEPT,
    Q_ARRIVE,
    Q_BANK,
    Q_FIELDS,
    Q_NEXT,
    Q_PREV,
    Q_ROW,
    Q_WRITE,
    S_BANKS,
    S_BURSTS,
    S_COLUMN_NEXT,
    S_DRAIN,
    S_GENERATED,
    S_MODE,
    S_OLDEST,
    S_OPEN,
    S_QUEUED,
    S_READ_HEAD,
    S_READ_STAGED,
    S_READS,
    S_ROW_NEXT,
    S_WRITE_HEAD,
    S_WRITE_STAGED,
    S_WRITES,
    Ints,
)


@jitable
def feed(m: Ints, q: Ints, reads: Ints, writes: Ints, now: int) -> None:
    """Accept what the queues have room for and stage what has arrived, in order."""
    moved = True
    while moved:
        moved = False
        while m[S_READ_HEAD] < m[S_READ_STAGED] and m[S_READS] < m[O_READ_QUEUE]:
            _accept(m, q, now, reads[m[S_READ_HEAD]], 0)
            m[S_READ_HEAD] += 1
            m[S_READS] += 1
        while m[S_WRITE_HEAD] < m[S_WRITE_STAGED] and m[S_WRITES] < m[O_WRITE_QUEUE]:
            _accept(m, q, now, writes[m[S_WRITE_HEAD]], 1)
            m[S_WRITE_HEAD] += 1
            m[S_WRITES] += 1
        while m[S_GENERATED] < m[S_BURSTS]:
            at = m[S_GENERATED] * Q_FIELDS
            if q[at + Q_ARRIVE] > now:
                break
            head, staged = (
                (S_WRITE_HEAD, S_WRITE_STAGED) if q[at + Q_WRITE] else (S_READ_HEAD, S_READ_STAGED)
            )
            if m[staged] - m[head] >= m[O_STAGING]:
                break
            m[staged] += 1
            m[S_GENERATED] += 1
            moved = True


@inlined
def staged(m: Ints) -> bool:
    """Return whether a staged request could be accepted now."""
    return (m[S_READ_HEAD] < m[S_READ_STAGED] and m[S_READS] < m[O_READ_QUEUE]) or (
        m[S_WRITE_HEAD] < m[S_WRITE_STAGED] and m[S_WRITES] < m[O_WRITE_QUEUE]
    )


@inlined
def next_arrival(m: Ints, q: Ints, now: int) -> int:
    """Return when the next burst arrives, or FAR if it has arrived or there is none."""
    if m[S_GENERATED] < m[S_BURSTS]:
        arrive = q[m[S_GENERATED] * Q_FIELDS + Q_ARRIVE]
        if arrive > now:
            return arrive
    return FAR


@jitable
def _accept(m: Ints, q: Ints, now: int, burst: int, write: int) -> None:
    q[burst * Q_FIELDS + Q_ACCEPT] = now
    if m[O_BANK_QUEUE] == 0:
        enter(m, q, now, burst, write)
        return
    tail = m[FRONT_TAIL + write]
    q[burst * Q_FIELDS + Q_NEXT] = -1
    q[burst * Q_FIELDS + Q_PREV] = tail
    if tail >= 0:
        q[tail * Q_FIELDS + Q_NEXT] = burst
    else:
        m[FRONT_HEAD + write] = burst
    m[FRONT_TAIL + write] = burst


@jitable
def enter(m: Ints, q: Ints, now: int, burst: int, kind: int) -> None:
    """Let the scheduler see a burst, and say when it may act on it."""
    bank = q[burst * Q_FIELDS + Q_BANK]
    first = m[LIST_COUNT + kind * MAX_BANKS + bank] == 0
    append(m, q, kind, bank, burst)
    row = m[BANK_ROW + bank]
    if row == q[burst * Q_FIELDS + Q_ROW]:
        soon = max(now, access_from(m, bank, q[burst * Q_FIELDS + Q_WRITE]))
        m[S_COLUMN_NEXT] = min(m[S_COLUMN_NEXT], soon)
    elif (first or m[O_HOLD_HITS] == 0) and m[BANK_ACTIVE + bank] < 0:
        soon = m[BANK_ACT + bank] if row < 0 else m[BANK_PRE + bank]
        m[S_ROW_NEXT] = min(m[S_ROW_NEXT], max(now, soon))


@jitable
def pass_to_banks(m: Ints, q: Ints, now: int) -> bool:
    """Let one request through to the queue of its bank; return whether one went."""
    kind = 1 if m[S_DRAIN] > 0 else 0
    burst = m[FRONT_HEAD + kind]
    while burst >= 0 and m[LIST_COUNT + q[burst * Q_FIELDS + Q_BANK]] >= m[O_BANK_QUEUE]:
        burst = q[burst * Q_FIELDS + Q_NEXT]
    if burst < 0:
        return False
    nxt, prev = q[burst * Q_FIELDS + Q_NEXT], q[burst * Q_FIELDS + Q_PREV]
    if prev >= 0:
        q[prev * Q_FIELDS + Q_NEXT] = nxt
    else:
        m[FRONT_HEAD + kind] = nxt
    if nxt >= 0:
        q[nxt * Q_FIELDS + Q_PREV] = prev
    else:
        m[FRONT_TAIL + kind] = prev
    if kind:
        m[S_DRAIN] -= 1
    m[S_WRITES if kind else S_READS] -= 1
    m[S_QUEUED] += 1
    enter(m, q, now, burst, 0)
    return True


@jitable
def _idle_writes(m: Ints) -> int:
    """Return how many writes are served when no read waits; the last ones always are."""
    return m[O_WRITE_WHEN_IDLE] if m[S_OPEN] or m[S_GENERATED] < m[S_BURSTS] else 1


@jitable
def choose_mode(m: Ints, q: Ints, now: int) -> None:
    """Decide whether reads or writes are served from now on."""
    if m[O_BANK_QUEUE]:
        full = m[S_WRITES] >= m[O_WRITE_HIGH]
        idle = m[S_WRITES] >= _idle_writes(m) and m[S_QUEUED] == 0
        if m[S_DRAIN] == 0 and (full or idle):
            m[S_DRAIN] = m[S_WRITES]
        return
    mode = m[S_MODE]
    if mode == 0:
        if m[S_WRITES] >= m[O_WRITE_HIGH] or (m[S_READS] == 0 and m[S_WRITES] >= _idle_writes(m)):
            mode = 1
    elif m[S_WRITES] < max(1, m[O_WRITE_LOW]) and m[S_READS] > 0:
        mode = 0
    if m[O_AGE_BOUND]:
        mode = _overdue(m, q, now, mode)
    if mode != m[S_MODE]:
        m[S_MODE] = mode
        m[S_COLUMN_NEXT] = min(m[S_COLUMN_NEXT], now)
        m[S_ROW_NEXT] = min(m[S_ROW_NEXT], now)


@jitable
def _oldest(m: Ints, kind: int) -> int:
    """Return the oldest request of a queue, or -1."""
    best = -1
    for bank in range(m[S_BANKS]):
        burst = m[LIST_HEAD + kind * MAX_BANKS + bank]
        if burst >= 0 and (best < 0 or burst < best):
            best = burst
    return best


@jitable
def _overdue(m: Ints, q: Ints, now: int, mode: int) -> int:
    """Find the request beyond the age bound, if any, and return the mode that serves it."""
    read, write = _oldest(m, 0), _oldest(m, 1)
    late = -1
    since = now - m[O_AGE_BOUND]
    if read >= 0 and q[read * Q_FIELDS + Q_ACCEPT] <= since:
        late = read
    if (
        write >= 0
        and q[write * Q_FIELDS + Q_ACCEPT] <= since
        and (late < 0 or q[write * Q_FIELDS + Q_ACCEPT] < q[late * Q_FIELDS + Q_ACCEPT])
    ):
        late = write
    if late != m[S_OLDEST]:
        m[S_OLDEST] = late
        m[S_COLUMN_NEXT] = min(m[S_COLUMN_NEXT], now)
        m[S_ROW_NEXT] = min(m[S_ROW_NEXT], now)
    return mode if late < 0 else q[late * Q_FIELDS + Q_WRITE]
