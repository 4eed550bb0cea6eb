"""The scheduler's memory: where every number lives.

The inner loop runs compiled (numba) on int64 arrays and interpreted on lists, so everything is
integers in three flat sequences: `m` for banks, buses, queues and counters, `q` with `Q_FIELDS`
numbers a burst, and `log` with `LOG_FIELDS` numbers a command. The constants below are offsets.
All times are edges; "from when" means the earliest start of a command.
"""

from typing import Final

Ints = list[int]  # or an int64 array under numba

FAR: Final = 1 << 60

# Bounds on one channel.
MAX_BANKS: Final = 72  # 64 and a cache line: arrays a power of two apart would share cache sets
MAX_GROUPS: Final = 64
MAX_STACKS: Final = 16
MAX_PCS: Final = 8

# A burst, in `q`.
Q_FIELDS: Final = 8
Q_BANK: Final = 0
Q_ROW: Final = 1
Q_WRITE: Final = 2
Q_ARRIVE: Final = 3  # when it may be staged
Q_ACCEPT: Final = 4  # when it entered the queue
Q_ISSUE: Final = 5  # when its RD or WR started
Q_NEXT: Final = 6  # younger neighbour in its list, or -1
Q_PREV: Final = 7

# A command, in `log`.
LOG_FIELDS: Final = 4
LOG_TIME: Final = 0
LOG_COMMAND: Final = 1
LOG_BANK: Final = 2  # for PREab and REFab: any bank of the pseudo-channel
LOG_ROW: Final = 3  # ACT: the row; RD and WR: the burst; else -1

ACT: Final = 0
PRE: Final = 1
PRE_ALL: Final = 2
RD: Final = 3
WR: Final = 4
RDA: Final = 5  # with auto-precharge
WRA: Final = 6
REF_ALL: Final = 7
REF_BANK: Final = 8
COMMANDS: Final = ("ACT", "PRE", "PREab", "RD", "WR", "RDA", "WRA", "REFab", "REFpb")

# Codes of `Options.row_policy` and `Options.refresh`.
CLOSED_ROWS: Final = 1
ADAPTIVE_ROWS: Final = 2
ALL_BANK: Final = 1
PER_BANK: Final = 2
HIDDEN: Final = 3
BY_REFRESH: Final = 2  # of BANK_CONFLICTED

# Causes of time on a data bus.
DATA: Final = 0
ROW_MISS: Final = 1
BANK_CONFLICT: Final = 2
FAW: Final = 3
TURNAROUND: Final = 4
REFRESH: Final = 5
COLUMN: Final = 6
IDLE: Final = 7
CAUSES: Final = (
    "data",
    "row_miss",
    "bank_conflict",
    "faw",
    "turnaround",
    "refresh",
    "column",
    "idle",
)

# Banks.
BANK_PC: Final = 0
BANK_GROUP: Final = MAX_BANKS
BANK_STACK: Final = 2 * MAX_BANKS
BANK_ROW: Final = 3 * MAX_BANKS  # the open row, or -1
BANK_RD: Final = 4 * MAX_BANKS  # from when
BANK_WR: Final = 5 * MAX_BANKS
BANK_ACT: Final = 6 * MAX_BANKS
BANK_PRE: Final = 7 * MAX_BANKS
BANK_REF: Final = 8 * MAX_BANKS
BANK_ACTIVE: Final = 9 * MAX_BANKS  # the burst for which the row was opened, or -1
BANK_ACTIVE_AT: Final = 10 * MAX_BANKS  # its place in ACTIVE_LIST
BANK_FRESH: Final = 11 * MAX_BANKS  # 1 until the first access after ACT
BANK_OPENED: Final = 12 * MAX_BANKS  # when ACT started
BANK_WANTED: Final = 13 * MAX_BANKS  # from when ACT could have started but for tFAW and tRRD
BANK_CONFLICTED: Final = 14 * MAX_BANKS  # 1 if a request made it close another row
BANK_HITS: Final = 15 * MAX_BANKS  # accesses since ACT
BANK_LAST: Final = 16 * MAX_BANKS  # last access
BANK_OPEN: Final = 17 * MAX_BANKS  # edges open so far
BANK_BLOCK: Final = 18 * MAX_BANKS  # 1 while a refresh waits for it
BANK_DONE: Final = 19 * MAX_BANKS  # 1 if refreshed in this round
ACTIVE_LIST: Final = 20 * MAX_BANKS

# Lists of a bank: reads first, then writes (`+ kind * MAX_BANKS`).
LIST_HEAD: Final = 21 * MAX_BANKS
LIST_TAIL: Final = 23 * MAX_BANKS
LIST_COUNT: Final = 25 * MAX_BANKS
LIST_HIT: Final = 27 * MAX_BANKS  # oldest request for the open row, or -1
LIST_HITS: Final = 29 * MAX_BANKS  # how many of those
HIT_LIST: Final = 31 * MAX_BANKS  # banks with hits, those of a stack id together
HIT_AT: Final = 33 * MAX_BANKS  # a bank's place in HIT_LIST, or -1
WORK_LIST: Final = 35 * MAX_BANKS  # banks with requests, likewise
WORK_AT: Final = 37 * MAX_BANKS

# Bank groups, stack ids, pseudo-channels: from when.
GROUP_RD: Final = 39 * MAX_BANKS
GROUP_WR: Final = GROUP_RD + MAX_GROUPS
GROUP_ACT: Final = GROUP_RD + 2 * MAX_GROUPS
STACK_RD: Final = GROUP_RD + 3 * MAX_GROUPS
STACK_WR: Final = STACK_RD + MAX_STACKS
PC_ACT: Final = STACK_RD + 2 * MAX_STACKS
PC_REF: Final = PC_ACT + MAX_PCS
PC_FAW: Final = PC_ACT + 2 * MAX_PCS  # a ring of four a pseudo-channel
PC_FAW_AT: Final = PC_ACT + 6 * MAX_PCS
PC_LAST: Final = PC_ACT + 7 * MAX_PCS  # last access, or -burst
PC_LAST_WRITE: Final = PC_ACT + 8 * MAX_PCS
PC_TURN: Final = PC_ACT + 9 * MAX_PCS  # from when the other direction may start
PC_OPEN: Final = PC_ACT + 10 * MAX_PCS  # open banks
PC_ACTIVE: Final = PC_ACT + 11 * MAX_PCS  # banks opened for a burst that was not served yet
PC_DUE: Final = PC_ACT + 12 * MAX_PCS  # the next refresh
PC_DEBT: Final = PC_ACT + 13 * MAX_PCS  # refreshes due and not issued
PC_TARGET: Final = PC_ACT + 14 * MAX_PCS  # the bank that a refresh waits for, or -1
PC_BLOCK: Final = PC_ACT + 15 * MAX_PCS  # 1 while nothing new may start
PC_REF_FROM: Final = PC_ACT + 16 * MAX_PCS  # the last refresh: since when it waited
PC_REF_TO: Final = PC_ACT + 17 * MAX_PCS  # until when it occupies the banks
PC_ROUND: Final = PC_ACT + 18 * MAX_PCS  # banks refreshed in this round
PC_CAUSE: Final = PC_ACT + 19 * MAX_PCS  # edges by cause, eight a pseudo-channel

# Single numbers.
SINGLES: Final = PC_CAUSE + 8 * MAX_PCS
S_BANKS: Final = SINGLES
S_PCS: Final = SINGLES + 1
S_STACKS_PER_PC: Final = SINGLES + 2
S_BURSTS: Final = SINGLES + 3
S_GENERATED: Final = SINGLES + 4  # the next burst to stage
S_READ_HEAD: Final = SINGLES + 5  # the next read to accept
S_READ_STAGED: Final = SINGLES + 6
S_WRITE_HEAD: Final = SINGLES + 7
S_WRITE_STAGED: Final = SINGLES + 8
S_READS: Final = SINGLES + 9  # requests in the read queue
S_WRITES: Final = SINGLES + 10
S_MODE: Final = SINGLES + 11  # 1 while writes are served
S_DRAIN: Final = SINGLES + 12  # writes that still pass to the bank queues
S_ACTIVES: Final = SINGLES + 13
S_DONE: Final = SINGLES + 14
S_COLUMN_NEXT: Final = SINGLES + 15  # no access can start before
S_ROW_NEXT: Final = SINGLES + 16
S_REFRESH_NEXT: Final = SINGLES + 17
S_ROW_FREE: Final = SINGLES + 18  # the row bus
S_FREED: Final = SINGLES + 19  # 1 if a queue entry was freed at this edge
S_ACTS: Final = SINGLES + 20
S_REFRESHES: Final = SINGLES + 21
S_LOGGED: Final = SINGLES + 22
S_LOG_SIZE: Final = SINGLES + 23
S_BLOCKED: Final = SINGLES + 24  # 1 while the whole channel waits for a refresh
S_EDGE: Final = SINGLES + 25
S_EVENTS: Final = SINGLES + 26
S_OLDEST: Final = SINGLES + 27  # the request beyond the age bound, or -1
S_MAX_DEBT: Final = SINGLES + 28
S_QUEUED: Final = SINGLES + 29  # requests in bank queues
S_DUE: Final = SINGLES + 38  # when the next refresh becomes due
S_STACKS: Final = SINGLES + 30
S_OPEN: Final = SINGLES + 33  # 1 while more bursts may be appended
S_PER_STACK: Final = SINGLES + 39  # banks of a stack id
S_TURN: Final = SINGLES + 31  # the bank that was served last (round robin)
FRONT_HEAD: Final = SINGLES + 34  # requests before the bank queues, reads and writes
FRONT_TAIL: Final = SINGLES + 36
# How many banks HIT_LIST and WORK_LIST hold (`+ kind * MAX_STACKS + stack`).
HIT_N: Final = SINGLES + 40
WORK_N: Final = HIT_N + 2 * MAX_STACKS

# The timing table (`timing.Edges`) and the controller (`controller.Options`), field by field.
EDGES: Final = WORK_N + 2 * MAX_STACKS
E_PER_CLOCK: Final = EDGES
E_ACT_LEN: Final = EDGES + 1
E_COLUMN_LEN: Final = EDGES + 2
E_PRE_LEN: Final = EDGES + 3
E_ONE_BUS: Final = EDGES + 4
E_BURST: Final = EDGES + 5
E_READ_LATENCY: Final = EDGES + 6
E_RCD_RD: Final = EDGES + 7
E_RCD_WR: Final = EDGES + 8
E_RP: Final = EDGES + 9
E_RP_REF: Final = EDGES + 10
E_RAS: Final = EDGES + 11
E_RC: Final = EDGES + 12
E_RD_PRE: Final = EDGES + 13
E_WR_PRE: Final = EDGES + 14
E_CCD_S: Final = EDGES + 15
E_CCD_L: Final = EDGES + 16
E_CCD_R: Final = EDGES + 17
E_CCD_L_WR: Final = EDGES + 18
E_RRD_S: Final = EDGES + 19
E_RRD_L: Final = EDGES + 20
E_FAW: Final = EDGES + 21
E_RD_WR: Final = EDGES + 22
E_WR_RD_S: Final = EDGES + 23
E_WR_RD_L: Final = EDGES + 24
E_RFC_ACT: Final = EDGES + 25
E_RFC_REF: Final = EDGES + 26
E_RFC_PB_ACT: Final = EDGES + 27
E_REFI: Final = EDGES + 28
E_REFI_PB: Final = EDGES + 29
E_RREFD: Final = EDGES + 30
E_RREFD_ACT: Final = EDGES + 31
E_ACT_REF: Final = EDGES + 32
E_ACT_REF_OTHER: Final = EDGES + 33
OPTIONS: Final = EDGES + 34
O_READ_QUEUE: Final = OPTIONS
O_WRITE_QUEUE: Final = OPTIONS + 1
O_BANK_QUEUE: Final = OPTIONS + 2
O_STAGING: Final = OPTIONS + 3
O_WRITE_HIGH: Final = OPTIONS + 4
O_WRITE_LOW: Final = OPTIONS + 5
O_WRITE_WHEN_IDLE: Final = OPTIONS + 6
O_HOLD_HITS: Final = OPTIONS + 7
O_HIT_LIMIT: Final = OPTIONS + 8
O_ROW_POLICY: Final = OPTIONS + 9
O_ROW_TIMEOUT: Final = OPTIONS + 10
O_REFRESH: Final = OPTIONS + 11
O_STALL_CHANNEL: Final = OPTIONS + 12
O_MAX_DEBT: Final = OPTIONS + 13
O_AGE_BOUND: Final = OPTIONS + 14
O_TURNS: Final = OPTIONS + 15
SIZE: Final = OPTIONS + 16
