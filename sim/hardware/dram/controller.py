"""What a memory controller may do: queues, scheduling, row policy, refresh."""

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

RowPolicy = Literal["open", "closed", "adaptive"]
RefreshMode = Literal["none", "all_bank", "per_bank", "hidden"]
RefreshStall = Literal["pseudo_channel", "channel"]
BankOrder = Literal["age", "round_robin"]

_ROW_POLICY: Final = {"open": 0, "closed": 1, "adaptive": 2}
_REFRESH: Final = {"none": 0, "all_bank": 1, "per_bank": 2, "hidden": 3}


class Options(NamedTuple):
    """A `Controller` as the scheduler sees it: numbers only, times in edges."""

    read_queue: int
    write_queue: int
    bank_queue: int
    staging: int
    write_high: int
    write_low: int
    write_when_idle: int
    hold_hits: int
    hit_limit: int
    row_policy: int
    row_timeout: int
    refresh: int
    stall_channel: int
    max_debt: int
    age_bound: int
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """The controller of one channel.

    - `read_queue`, `write_queue`: entries of one burst; the scheduler looks at all of them. A read
      whose row has been opened for it leaves the queue and keeps its bank open until it is served.
    - `bank_queue`: if not 0, the scheduler sees only this many requests a bank, in one list for
      reads and writes; the queues above wait in front of it, one request a clock passes.
    - Writes are served from `write_high` waiting ones (or when no read waits and at least
      `write_when_idle` do) until fewer than `write_low` wait.
    - `hold_hits`: a row stays open while a request that hits it is as old as the one that wants
      another row; else a row may be closed as soon as the timing allows it.
    - `hit_limit`: if not 0, so many hits may pass an older request for another row of the bank.
    - Row policy: `closed` precharges with the last hit that waits; `adaptive` closes a row without
      a waiting hit `row_timeout_ps` after its last access.
    - Refresh: `hidden` refreshes banks for which nothing waits, and postpones up to
      `refresh_debt` refreshes before it insists. `refresh_stall`: what stops while a due all-bank
      refresh has not been issued.
    - `age_bound_ps`: if not 0, the oldest request of a queue that has waited longer goes first:
      its bank serves nothing else and its queue is served.
    - `bank_order`: with bank queues, `round_robin` lets the banks take turns instead of serving the
      oldest request first; a clock's second command is the next one found, or none.
    """

    read_queue: int = 64
    write_queue: int = 64
    bank_queue: int = 0
    staging: int = 256
    write_high: int = 52
    write_low: int = 13
    write_when_idle: int = 1
    hold_hits: bool = True
    hit_limit: int = 0
    row_policy: RowPolicy = "open"
    row_timeout_ps: int = 100_000
    refresh: RefreshMode = "all_bank"
    refresh_stall: RefreshStall = "pseudo_channel"
    refresh_debt: int = 8
    age_bound_ps: int = 0
    bank_order: BankOrder = "age"

    def __post_init__(self) -> None:
        """Refuse watermarks with which requests could wait for ever."""
        if not 0 <= self.write_low <= self.write_high <= self.write_queue:
            raise ValueError(
                f"write_low(={self.write_low}) <= write_high(={self.write_high})"
                f" <= write_queue(={self.write_queue}) must hold."
            )
        if not 1 <= self.write_when_idle <= self.write_queue:
            raise ValueError(
                f"write_when_idle(={self.write_when_idle}) must be from 1 to"
                f" write_queue(={self.write_queue})."
            )
        if self.bank_order == "round_robin" and (not self.bank_queue or self.age_bound_ps):
            raise ValueError(
                f"bank_order='round_robin' needs bank_queue > 0 (is {self.bank_queue})"
                f" and age_bound_ps = 0 (is {self.age_bound_ps})."
            )

    def options(self, edge_ps: float) -> Options:
        """Return the controller in numbers, for edges of `edge_ps`."""
        return Options(
            read_queue=self.read_queue,
            write_queue=self.write_queue,
            bank_queue=self.bank_queue,
            staging=self.staging,
            write_high=self.write_high,
            write_low=self.write_low,
            write_when_idle=self.write_when_idle,
            hold_hits=int(self.hold_hits),
            hit_limit=self.hit_limit,
            row_policy=_ROW_POLICY[self.row_policy],
            row_timeout=int(self.row_timeout_ps / edge_ps),
            refresh=_REFRESH[self.refresh],
            stall_channel=int(self.refresh_stall == "channel"),
            max_debt=self.refresh_debt,
            age_bound=int(self.age_bound_ps / edge_ps),
            turns=int(self.bank_order == "round_robin"),
        )


# How the two reference simulators schedule, read from their sources: Ramulator 2.1 @ c5b1c3a4
# (src/ramulator/controller) stops the channel while a refresh waits; DRAMsim3 @ 29817593 puts 32
# requests before queues of 8 a bank, lets 4 hits pass and serves the banks round robin
# (src/command_queue.cc, src/controller.cc).
RAMULATOR: Final = Controller(refresh_stall="channel")
DRAMSIM3: Final = replace(
    RAMULATOR,
    read_queue=32,
    write_queue=32,
    bank_queue=8,
    write_high=32,
    write_low=1,
    write_when_idle=9,
    hit_limit=4,
    bank_order="round_robin",
)
