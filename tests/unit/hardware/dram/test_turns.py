"""Banks that take turns: whole timelines of a few requests, and what a taken turn costs."""

from dataclasses import replace

import numpy as np
import pytest

from sim.hardware.dram.address import DramMap
from sim.hardware.dram.channel import simulate
from sim.hardware.dram.controller import DRAMSIM3, Controller
from sim.hardware.dram.patterns import Stream
from sim.hardware.dram.timing import load_dram

SPEC = load_dram("dramsim3-hbm2")
TURNS = replace(DRAMSIM3, refresh="none")
MAP = DramMap(order=("column", "pc", "bank", "group", "stack", "row"))
BANK, ROW = 2048, 16 * 2048  # bytes from a bank to the next, and from a row to the next


def log(
    addresses: list[int], controller: Controller = TURNS, arrive_ps: list[int] | None = None
) -> list[tuple[int, str, int]]:
    count = len(addresses)
    stream = Stream(
        address=np.array(addresses, dtype=np.int64),
        write=np.zeros(count, dtype=np.bool_),
        arrive_ps=np.array(arrive_ps or [0] * count, dtype=np.int64),
        chunk_bytes=64,
    )
    result = simulate(SPEC, controller, MAP, stream, log_size=1000, compiled=False)
    return [(c.edge, c.name, c.bank) for c in result.log]


AGE = replace(TURNS, bank_order="age")
TWO_BANKS = [BANK + 64 * i for i in range(4)] + [2 * BANK + 64 * i for i in range(4)]
OPENED = [(1, "ACT", 1), (7, "ACT", 2)]  # one edge from the first queue to the bank's, tRRD_L 6


def test_hits_of_two_banks_alternate_once_both_are_open() -> None:
    turns = [1, 1, 1, 2, 1, 2, 2, 2]
    assert log(TWO_BANKS) == OPENED + [(15 + 2 * i, "RD", bank) for i, bank in enumerate(turns)]


def test_by_age_the_older_bank_is_served_first() -> None:
    banks = [1, 1, 1, 1, 2, 2, 2, 2]
    assert log(TWO_BANKS, AGE) == OPENED + [
        (15 + 2 * i, "RD", bank) for i, bank in enumerate(banks)
    ]


def test_a_second_row_command_in_turn_takes_the_clock_from_an_access() -> None:
    """At 41 banks 1 and 2 may close and bank 0 may read; the turn is theirs, the read is late."""
    addresses = [BANK, 2 * BANK, 2 * BANK + ROW, *[64 * i for i in range(14)], BANK + ROW]
    arrive_ps = [0] * 17 + [40_000]
    window = [c for c in log(addresses, arrive_ps=arrive_ps) if 39 <= c[0] <= 43]
    assert window == [(39, "RD", 0), (41, "PRE", 1), (42, "RD", 0), (42, "PRE", 2)]
    window = [c for c in log(addresses, AGE, arrive_ps) if 39 <= c[0] <= 43]
    assert (41, "RD", 0) in window


def test_round_robin_needs_bank_queues_and_no_age_bound() -> None:
    with pytest.raises(ValueError, match="bank_queue"):
        replace(TURNS, bank_queue=0)
    with pytest.raises(ValueError, match="age_bound_ps"):
        replace(TURNS, age_bound_ps=1000)
