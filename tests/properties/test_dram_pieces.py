"""Feeding a bank-level channel in pieces is feeding it at once, command by command."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InvariantError
from sim.hardware.dram.channel import simulate
from sim.hardware.dram.compiled import available
from sim.hardware.dram.controller import Controller
from sim.hardware.dram.memory import request_table
from sim.hardware.dram.resumable import ResumableChannel
from sim.hardware.dram.state import (
    COMMANDS,
    LOG_FIELDS,
    Q_ACCEPT,
    Q_ARRIVE,
    Q_FIELDS,
    Q_ISSUE,
    S_LOGGED,
)
from sim.hardware.dram.timing import load_dram
from tests.strategies_dram import runs

LOG = 20_000


def fed_in_pieces(
    run: dict[str, Any], cuts: list[int], stops: int, *, compiled: bool
) -> ResumableChannel:
    """Feed every piece when its first burst arrives, with `stops` pauses on the way there."""
    channel = ResumableChannel(run["spec"], run["controller"], log_size=LOG, compiled=compiled)
    q = request_table(run["spec"], run["address_map"], run["stream"]).reshape(-1, Q_FIELDS)
    places = sorted({0, len(q), *(cut % (len(q) + 1) for cut in cuts)})
    before = 0
    for first, last in pairwise(places):
        arrive = int(q[first, Q_ARRIVE])
        for k in range(stops + 1):
            channel.run(before + (arrive - before) * (k + 1) // (stops + 1))
        before = arrive
        channel.append(q[first:last].ravel())
    channel.finish()
    return channel


def same(run: dict[str, Any], channel: ResumableChannel) -> None:
    whole = simulate(**run, log_size=LOG, compiled=False)
    q = channel.table()
    assert (q[Q_ISSUE::Q_FIELDS] == whole.issue_edge).all()
    assert (q[Q_ACCEPT::Q_FIELDS] == whole.accept_edge).all()
    assert channel.cause_edges() == (whole.cause_edges, whole.span_edges)
    rows = np.asarray(channel.log).reshape(-1, LOG_FIELDS)[: channel.m[S_LOGGED]].tolist()
    assert [(e, COMMANDS[c], b, r) for e, c, b, r in rows] == [
        (c.edge, c.name, c.bank, c.row) for c in whole.log
    ]


@given(runs(), st.lists(st.integers(0, 600), max_size=6), st.integers(0, 3))
def test_pieces_give_the_same_commands_as_one_go(
    run: dict[str, Any], cuts: list[int], stops: int
) -> None:
    same(run, fed_in_pieces(run, cuts, stops, compiled=False))


@settings(max_examples=10)
@given(runs(), st.lists(st.integers(0, 600), max_size=6))
@pytest.mark.skipif(not available(), reason="needs the extra `fast`")
def test_compiled_pieces_give_the_same_commands(run: dict[str, Any], cuts: list[int]) -> None:
    same(run, fed_in_pieces(run, cuts, 1, compiled=True))


def test_a_burst_that_comes_too_late_is_refused() -> None:
    channel = ResumableChannel(load_dram("hbm2-2000"), Controller(), compiled=False)
    channel.run(100)
    with pytest.raises(InvariantError, match="arrives at edge 99"):
        channel.append(np.array([0, 0, 0, 99, -1, -1, 0, 0], dtype=np.int64))
