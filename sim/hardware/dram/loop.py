"""The inner loop: from one edge at which something may start to the next.

At an edge: requests enter, refreshes become due, one access starts, one row command starts. Edges
at which nothing can happen are not visited: `S_COLUMN_NEXT`, `S_ROW_NEXT` and `S_REFRESH_NEXT` say
before when it is useless to look.
"""

from typing import Final

from sim.hardware.dram.commands import access, activate, precharge
from sim.hardware.dram.compiled import inlined, jitable
from sim.hardware.dram.feed import choose_mode, feed, next_arrival, pass_to_banks, staged
from sim.hardware.dram.pick import pick_access, pick_row, pick_unused
from sim.hardware.dram.refresh import become_due, refresh_step
from sim.hardware.dram.state import (
    ADAPTIVE_ROWS,
    BANK_CONFLICTED,
    BANK_ROW,
    E_ONE_BUS,
    E_PER_CLOCK,
    FAR,
    FRONT_HEAD,
    O_BANK_QUEUE,
    O_REFRESH,
    O_ROW_POLICY,
    O_TURNS,
    PRE,
    Q_BANK,
    Q_FIELDS,
    S_BURSTS,
    S_COLUMN_NEXT,
    S_DONE,
    S_DUE,
    S_EDGE,
    S_EVENTS,
    S_FREED,
    S_OPEN,
    S_REFRESH_NEXT,
    S_ROW_FREE,
    S_ROW_NEXT,
    Ints,
)
from sim.hardware.dram.turns import take_turns

# Edges in a row without an access after which the scheduler must have a bug.
STUCK: Final = 1_000_000


def run(m: Ints, q: Ints, reads: Ints, writes: Ints, log: Ints, until: int) -> bool:
    """Serve the bursts of `q` before edge `until`; return False if the scheduler is stuck (a bug).

    It stops when all are served, or, while `S_OPEN` says that more may be appended, at `until`:
    no edge from there on has been looked at, and `S_EDGE` is the next one.
    """
    now, idle = m[S_EDGE], 0
    while now < until and (m[S_DONE] < m[S_BURSTS] or m[S_OPEN]):
        m[S_EVENTS] += 1
        m[S_FREED] = 0
        done = m[S_DONE]
        feed(m, q, reads, writes, now)
        if now >= m[S_DUE]:
            become_due(m, now)
        choose_mode(m, q, now)
        if m[O_TURNS]:
            _turn(m, q, log, now)
        elif now >= _column_from(m) and now & (m[E_PER_CLOCK] - 1) == 0:
            burst = pick_access(m, q, now)
            if burst >= 0:
                access(m, q, log, now, burst)
        if m[O_TURNS] == 0 and now >= m[S_ROW_FREE]:
            _row_command(m, q, log, now)
        now = _next_edge(m, q, now)
        m[S_EDGE] = now
        idle = 0 if m[S_DONE] > done or m[S_DONE] == m[S_BURSTS] else idle + 1
        if idle > STUCK:
            return False
    return bool(m[S_DONE] == m[S_BURSTS] or m[S_OPEN] or now < FAR)


@jitable
def _row_command(m: Ints, q: Ints, log: Ints, now: int) -> None:
    """Start a command on the row bus, if one may: refresh, then requests, then unused rows."""
    if m[O_REFRESH] and now >= m[S_REFRESH_NEXT] and refresh_step(m, log, now):
        return
    if now < m[S_ROW_NEXT]:
        return
    choose_mode(m, q, now)
    burst = pick_row(m, q, now)
    if burst >= 0:
        bank = q[burst * Q_FIELDS + Q_BANK]
        if m[BANK_ROW + bank] < 0:
            activate(m, q, log, now, burst)
        else:
            precharge(m, log, PRE, now, bank)
            m[BANK_CONFLICTED + bank] = 1
        m[S_ROW_NEXT] = m[S_ROW_FREE]
    elif m[O_ROW_POLICY] == ADAPTIVE_ROWS:
        _close_unused(m, log, now)


@jitable
def _turn(m: Ints, q: Ints, log: Ints, now: int) -> None:
    """Start what may start if the banks take turns: refresh, then requests, then unused rows."""
    refreshed = 0
    if m[O_REFRESH] and now >= m[S_REFRESH_NEXT] and now >= m[S_ROW_FREE]:
        refreshed = 1 if refresh_step(m, log, now) else 0
    rows = False
    if now >= min(_column_from(m), m[S_ROW_NEXT]) or refreshed:
        rows = take_turns(m, q, log, now, refreshed)
    if m[O_ROW_POLICY] == ADAPTIVE_ROWS and not rows and now >= m[S_ROW_FREE]:
        _close_unused(m, log, now)


@jitable
def _close_unused(m: Ints, log: Ints, now: int) -> None:
    bank, soon = pick_unused(m, now)
    if bank >= 0:
        precharge(m, log, PRE, now, bank)
        m[S_ROW_NEXT] = m[S_ROW_FREE]
    else:
        m[S_ROW_NEXT] = min(m[S_ROW_NEXT], soon)


@inlined
def _column_from(m: Ints) -> int:
    """Return from when an access may start as far as is known; row commands may share its bus."""
    return max(m[S_COLUMN_NEXT], m[S_ROW_FREE]) if m[E_ONE_BUS] else m[S_COLUMN_NEXT]


@jitable
def _next_edge(m: Ints, q: Ints, now: int) -> int:
    """Return the next edge at which something may happen."""
    row = max(min(m[S_ROW_NEXT], m[S_REFRESH_NEXT]), m[S_ROW_FREE])
    soon = min(min(_column_from(m), row), next_arrival(m, q, now))
    soon = min(soon, m[S_DUE])
    if m[S_FREED] or staged(m):
        soon = now + 1
    if m[O_BANK_QUEUE] and max(m[FRONT_HEAD], m[FRONT_HEAD + 1]) >= 0:
        if (now + 1) & (m[E_PER_CLOCK] - 1):
            soon = now + 1
        else:
            choose_mode(m, q, now)
            if pass_to_banks(m, q, now + 1):
                soon = now + 1
    return max(soon, now + 1)
