"""Laws of the bank-level channel, over random devices, controllers and streams."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from sim.hardware.dram.address import MAPS
from sim.hardware.dram.channel import ChannelResult, Command, simulate
from sim.hardware.dram.checker import check_log, refresh_debt
from sim.hardware.dram.compiled import available
from sim.hardware.dram.controller import Controller, RefreshMode
from sim.hardware.dram.patterns import Pattern, make_stream
from sim.hardware.dram.timing import load_dram
from tests.strategies_dram import runs

LOG = 20_000


def served(result: ChannelResult, names: tuple[str, ...]) -> list[Command]:
    return [c for c in result.log if c.name in names]


@given(runs())
def test_every_request_is_served_once_and_not_before_it_may(run: dict[str, Any]) -> None:
    result = simulate(**run, log_size=LOG, compiled=False)
    spec, edges = run["spec"], run["spec"].edges()
    columns = served(result, ("RD", "RDA", "WR", "WRA"))
    assert Counter(c.row for c in columns) == Counter(range(len(result.issue_edge)))
    assert all(result.issue_edge[c.row] == c.edge for c in columns)
    assert (result.issue_edge >= result.accept_edge).all()
    arrive_ps = np.repeat(run["stream"].arrive_ps, len(result.issue_edge) // len(result.start_ps))
    assert (result.accept_edge * spec.organisation.clock_ps >= arrive_ps).all()
    assert (result.done_ps >= result.start_ps).all()
    assert min(c.edge for c in columns) >= min(edges.rcd_rd, edges.rcd_wr)


@given(runs())
def test_bytes_are_conserved_and_keep_their_direction(run: dict[str, Any]) -> None:
    result = simulate(**run, log_size=LOG, compiled=False)
    size = run["spec"].organisation.access_bytes
    wrote = len(served(result, ("WR", "WRA"))) * size
    read = len(served(result, ("RD", "RDA"))) * size
    per = max(run["stream"].chunk_bytes, size)
    assert wrote == int(run["stream"].write.sum()) * per
    assert read == int((~run["stream"].write).sum()) * per


@given(runs())
def test_no_pair_of_commands_breaks_the_timing_table(run: dict[str, Any]) -> None:
    result = simulate(**run, log_size=LOG, compiled=False)
    assert len(result.log) < LOG
    assert [str(v) for v in check_log(run["spec"], result.log)] == []


@given(runs())
def test_the_causes_of_every_data_bus_sum_to_its_time(run: dict[str, Any]) -> None:
    result = simulate(**run, compiled=False)
    causes, edges = result.cause_edges, run["spec"].edges()
    pcs = run["spec"].organisation.pseudo_channels
    assert sum(causes.values()) == result.span_edges * pcs
    assert min(causes.values()) >= 0
    assert causes["data"] == len(result.issue_edge) * edges.burst


@given(runs())
def test_the_refresh_debt_is_bounded(run: dict[str, Any]) -> None:
    result = simulate(**run, log_size=LOG, compiled=False)
    if run["controller"].refresh != "none":
        end = int(result.issue_edge.max())
        bound = run["controller"].refresh_debt + 1 if run["controller"].refresh == "hidden" else 2
        every = run["controller"].refresh == "all_bank"
        debt = refresh_debt(run["spec"], result.log, end, all_bank=every)
        assert debt <= bound
        assert result.max_refresh_debt <= bound


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("mode", ["all_bank", "per_bank", "hidden"])
def test_over_many_intervals_refreshes_keep_up(mode: RefreshMode, turns: bool) -> None:
    """Random runs end within an interval or two; this one takes twenty of REFab."""
    spec = load_dram("hbm2-2000")
    pattern = Pattern(
        name="random", chunk_bytes=64, total_bytes=64 * 256, offered_load=0.0065, n_streams=1
    )
    stream = make_stream(pattern, spec, np.random.default_rng(5))
    controller = Controller(
        refresh=mode, bank_queue=8 if turns else 0, bank_order="round_robin" if turns else "age"
    )
    result = simulate(spec, controller, MAPS["bglow"], stream, log_size=LOG, compiled=False)
    end, every = int(result.issue_edge.max()), mode == "all_bank"
    assert end > 15 * spec.edges().refi
    bound = controller.refresh_debt + 1 if mode == "hidden" else 2
    assert refresh_debt(spec, result.log, end, all_bank=every) <= bound
    interval = spec.edges().refi if every else spec.edges().refi_pb
    due = end // interval * spec.organisation.pseudo_channels
    assert due - 2 * bound <= result.refreshes <= due


@settings(max_examples=10)
@given(runs())
@pytest.mark.skipif(not available(), reason="needs the extra `fast`")
def test_compiled_and_plain_results_are_identical(run: dict[str, Any]) -> None:
    plain = simulate(**run, log_size=LOG, compiled=False)
    fast = simulate(**run, log_size=LOG, compiled=True)
    assert plain.log == fast.log
    assert plain.cause_edges == fast.cause_edges
    assert (plain.done_ps == fast.done_ps).all()
    assert plain.bank_utilisation == fast.bank_utilisation


@pytest.mark.parametrize("bound_ns", [500, 2000])
def test_nothing_starves_beyond_the_age_bound(bound_ns: int) -> None:
    """Hits to one row never end, and one request wants another row of the same bank."""
    spec = load_dram("hbm2-2000")
    pattern = Pattern(name="streams_aligned", chunk_bytes=32, total_bytes=1 << 16, n_streams=1)
    stream = make_stream(pattern, spec, np.random.default_rng(0))
    address = np.zeros_like(stream.address)
    address[64] = 64 * 32 * 1024
    stream = replace(stream, address=address)
    waits = {}
    for age in (0, bound_ns * 1000):
        controller = Controller(refresh="none", hold_hits=True, age_bound_ps=age)
        result = simulate(spec, controller, MAPS["colow"], stream, compiled=False)
        waits[age] = int(result.issue_edge[64] - result.accept_edge[64])
    row_cycle = 48 + 15
    assert waits[bound_ns * 1000] <= bound_ns + row_cycle
    assert waits[0] > 2000 + row_cycle
