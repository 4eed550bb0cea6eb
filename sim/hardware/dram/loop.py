"""The inner loop: from one edge at which something may start to the next.

At an edge: requests enter, refreshes become due, one access starts, one row command starts. Edges
at which nothing can happen are not visited: `S_COLUMN_NEXT`, `S_ROW_NEXT` and `S_REFRESH_NEXT` say
before when it is useless to look.
"""

from sim.hardware.dram.commands import access, activate, precharge
from sim.hardware.dram.compiled import jitable
from sim.hardware.dram.controller import Options
from sim.hardware.dram.feed import choose_mode, feed, next_arrival, pass_to_banks, staged
from sim.hardware.dram.pick import pick_access, pick_row, pick_unused
from sim.hardware.dram.refresh import become_due, refresh_step
from sim.hardware.dram.state import (
    BANK_CONFLICTED,
    BANK_ROW,
    FAR,
    FRONT_HEAD,
    PRE,
    Q_BANK,
    Q_FIELDS,
    S_BURSTS,
    S_COLUMN_NEXT,
    S_DONE,
    S_DRAIN,
    S_DUE,
    S_EDGE,
    S_EVENTS,
    S_FREED,
    S_REFRESH_NEXT,
    S_ROW_FREE,
    S_ROW_NEXT,
    Ints,
)
from sim.hardware.dram.timing import Edges


def run(m: Ints, q: Ints, reads: Ints, writes: Ints, log: Ints, e: Edges, o: Options) -> bool:
    """Serve every burst of `q`; return False if the scheduler can never go on (a bug)."""
    now = m[S_EDGE]
    while m[S_DONE] < m[S_BURSTS]:
        m[S_EVENTS] += 1
        m[S_FREED] = 0
        feed(m, q, reads, writes, o, now)
        if now >= m[S_DUE]:
            become_due(m, e, o, now)
        choose_mode(m, q, o, now)
        used = False
        if now >= m[S_COLUMN_NEXT] and now & (e.per_clock - 1) == 0:
            burst = pick_access(m, q, e, o, now)
            if burst >= 0:
                access(m, q, log, e, o, now, burst)
                used = e.one_bus == 1
        if now >= m[S_ROW_FREE] and not used:
            _row_command(m, q, log, e, o, now)
        now = _next_edge(m, q, e, o, now)
        if now >= FAR:
            return m[S_DONE] == m[S_BURSTS]
    return True


@jitable
def _row_command(m: Ints, q: Ints, log: Ints, e: Edges, o: Options, now: int) -> None:
    """Start a command on the row bus, if one may: refresh, then requests, then unused rows."""
    if o.refresh and now >= m[S_REFRESH_NEXT] and refresh_step(m, log, e, o, now):
        _bus_taken(m, e, now)
        return
    if now < m[S_ROW_NEXT]:
        return
    choose_mode(m, q, o, now)
    burst = pick_row(m, q, e, o, now)
    if burst >= 0:
        bank = q[burst * Q_FIELDS + Q_BANK]
        if m[BANK_ROW + bank] < 0:
            activate(m, q, log, e, o, now, burst)
        else:
            precharge(m, log, e, PRE, now, bank)
            m[BANK_CONFLICTED + bank] = 1
        m[S_ROW_NEXT] = m[S_ROW_FREE]
        _bus_taken(m, e, now)
    elif o.row_policy == 2:
        bank, soon = pick_unused(m, o, now)
        if bank >= 0:
            precharge(m, log, e, PRE, now, bank)
            m[S_ROW_NEXT] = m[S_ROW_FREE]
            _bus_taken(m, e, now)
        else:
            m[S_ROW_NEXT] = min(m[S_ROW_NEXT], soon)


@jitable
def _bus_taken(m: Ints, e: Edges, now: int) -> None:
    """Keep accesses off a bus that row commands share."""
    if e.one_bus:
        m[S_COLUMN_NEXT] = max(m[S_COLUMN_NEXT], m[S_ROW_FREE])


@jitable
def _next_edge(m: Ints, q: Ints, e: Edges, o: Options, now: int) -> int:
    """Return the next edge at which something may happen."""
    row = max(min(m[S_ROW_NEXT], m[S_REFRESH_NEXT]), m[S_ROW_FREE])
    soon = min(min(m[S_COLUMN_NEXT], row), next_arrival(m, q, now))
    soon = min(soon, m[S_DUE])
    if m[S_FREED] or staged(m, o):
        soon = now + 1
    if o.bank_queue and m[FRONT_HEAD] + m[FRONT_HEAD + 1] > -2:
        if (now + 1) & (e.per_clock - 1) == 0 and pass_to_banks(m, q, o, now + 1):
            soon = now + 1
        elif m[S_DRAIN] == 0:
            choose_mode(m, q, o, now)
    return max(soon, now + 1)
