"""The bank-level channel in a SimPy environment: exact times of hand-made requests."""

from fractions import Fraction

import numpy as np
import pytest

from sim.errors import InputError, InvariantError
from sim.hardware.clock import Clock
from sim.hardware.dram.address import MAPS
from sim.hardware.dram.controller import Controller
from sim.hardware.dram.process import BankChannel, BankDevice
from sim.hardware.dram.scaled import ScaledDram, dram_for
from sim.hardware.dram.timing import load_dram

NONE = np.empty(0, dtype=np.int64)
# hbm2-2000: a clock is an edge is 1 ns.
DRAM = ScaledDram(spec=load_dram("hbm2-2000"), edge_ps=Fraction(1000))
E = DRAM.spec.edges()


def channel(env: Clock) -> BankChannel:
    controller = Controller(refresh="none")
    plain = BankDevice(dram=DRAM, controller=controller, address_map=MAPS["colow"], compiled=False)
    return BankChannel(env, plain)


def test_a_read_of_a_closed_bank_takes_activation_latency_and_burst() -> None:
    env, done = Clock(), []
    channel(env).request(0, np.array([0]), NONE, done.append)
    env.run()
    assert done == [(E.rcd_rd + E.read_latency) * 1000] == [DRAM.access_ps]


def test_the_second_burst_of_a_row_comes_a_column_distance_later() -> None:
    env, done = Clock(), []
    channel(env).request(0, np.array([0, 1]), NONE, done.append)
    env.run()
    assert done == [(E.rcd_rd + E.ccd_l + E.read_latency) * 1000]


def test_another_row_of_the_bank_waits_for_its_row_cycle() -> None:
    env, done, o = Clock(), [], DRAM.spec.organisation
    other = o.columns * o.banks  # the next row of bank 0 under `colow`
    channel(env).request(0, np.array([0, other]), NONE, done.append)
    env.run()
    closed = max(E.ras, E.rcd_rd + E.rd_pre)
    assert done == [(max(E.rc, closed + E.rp) + E.rcd_rd + E.read_latency) * 1000]


def test_a_request_between_two_edges_is_seen_at_the_next_one() -> None:
    env, done = Clock(), []
    channel(env).request(1500, np.array([0]), NONE, done.append)
    env.run()
    assert done == [(2 + E.rcd_rd + E.read_latency) * 1000]


def test_a_later_request_waits_behind_and_completes_on_its_own() -> None:
    env, done = Clock(), []
    it = channel(env)
    it.request(0, np.array([0]), NONE, lambda ps: done.append(("a", ps)))
    it.request(1000, np.array([1]), NONE, lambda ps: done.append(("b", ps)))
    env.run()
    first = E.rcd_rd + E.read_latency
    assert done == [("a", first * 1000), ("b", (first + E.ccd_l) * 1000)]
    assert it.busy.between(0, 10**9) == (first + E.ccd_l) * 1000


def test_posted_writes_are_served_at_the_end() -> None:
    env = Clock()
    it = channel(env)
    it.request(0, NONE, np.array([0]))
    env.run()
    it.finish()
    assert it.free_ps > 0
    assert it.cause_ps()["data"] == E.burst * 1000


def test_a_read_that_nobody_served_is_a_bug() -> None:
    it = channel(Clock())
    it.request(0, np.array([0]), NONE, lambda _: None)
    with pytest.raises(InvariantError, match="1 requests were never served"):
        it.finish()


@pytest.mark.parametrize(
    ("kind", "pcs", "peak", "name"),
    [
        ("HBM2e", 80, 2_039_000_000_000, "hbm2e-3200"),
        ("HBM3", 160, 3_352_000_000_000, "hbm3-5200"),
        ("GDDR6X", 24, 1_008_000_000_000, "gddr6x-19000"),
        ("LPDDR5X", 16, 273_000_000_000, "lpddr5-6400"),
    ],
)
def test_the_scaled_clock_gives_the_peak_of_the_chip(
    kind: str, pcs: int, peak: int, name: str
) -> None:
    dram = dram_for(kind, pcs, peak)
    assert dram.spec.name == name
    burst_ps = dram.spec.edges().burst * dram.edge_ps
    assert dram.spec.organisation.access_bytes / burst_ps * 10**12 * pcs == peak


def test_times_of_the_arrays_do_not_shrink_with_the_clock() -> None:
    slow, fast = dram_for("GDDR6", 24, 672 * 10**9), dram_for("GDDR6", 24, 760 * 10**9)
    for name in ("rcd_rd", "rc", "faw"):
        at_14, at_16 = (getattr(d.spec.edges(), name) * d.edge_ps for d in (slow, fast))
        assert at_14 - slow.edge_ps <= at_16 <= at_14 + fast.edge_ps


def test_a_memory_without_a_table_is_an_input_error() -> None:
    with pytest.raises(InputError, match="GDDR7"):
        dram_for("GDDR7", 64, 1_792_000_000_000)
