"""Phenomena 1 to 5 of docs/phenomena.md: camping, activations, window, refresh, its latency tail.

Measured: runs of Ramulator 2.1 @ c5b1c3a4 and DRAMsim3 @ 29817593 (both MIT; only results were
copied), one channel, patterns as `sim.hardware.dram.patterns` defines them; tests/validation/data
has more of the same table. They moved 2 to 4 MiB, these tests less, so that the interpreted path is
quick; the tolerances allow for that.
"""

from dataclasses import replace

import numpy as np
import pytest

from sim.hardware.dram.address import MAPS
from sim.hardware.dram.channel import ChannelResult, simulate
from sim.hardware.dram.controller import DRAMSIM3, RAMULATOR, Controller, RefreshMode
from sim.hardware.dram.patterns import Pattern, PatternName, make_stream
from sim.hardware.dram.timing import load_dram

KIB = 1024
HBM2, HBM3 = "hbm2-2000", "hbm3-6400"
READ_QUEUE = {HBM2: 64, HBM3: 128}  # bursts, as in the runs that were measured


def controller(device: str, *, refresh: RefreshMode = "all_bank") -> Controller:
    return replace(RAMULATOR, read_queue=READ_QUEUE[device], refresh=refresh)


def run(
    device: str,
    name: PatternName,
    *,
    address_map: str = "bglow_x",
    how: Controller | None = None,
    chunk_bytes: int = 128,
    n_streams: int = 1,
    offered_load: float = 0.0,
    total_bytes: int = 256 * KIB,
) -> ChannelResult:
    """Return a seeded run of one channel."""
    spec = load_dram(device)
    pattern = Pattern(
        name=name,
        chunk_bytes=chunk_bytes,
        total_bytes=total_bytes,
        n_streams=n_streams,
        offered_load=offered_load,
    )
    stream = make_stream(pattern, spec, np.random.default_rng(1))
    return simulate(spec, how or controller(device), MAPS[address_map], stream)


@pytest.mark.parametrize(
    ("device", "plain", "hashed"), [(HBM2, 0.2248, 0.6138), (HBM3, 0.2002, 0.5951)]
)
def test_streams_camp_on_one_bank_unless_addresses_are_hashed(
    device: str, plain: float, hashed: float
) -> None:
    """16 streams, within 6 %; the map without a hash is the negative control."""
    camping = run(
        device, "streams_aligned", address_map="bglow", n_streams=16, total_bytes=128 * KIB
    )
    spread = run(device, "streams_aligned", address_map="bglow_x", n_streams=16)
    assert camping.bandwidth_fraction == pytest.approx(plain, rel=0.06)
    assert spread.bandwidth_fraction == pytest.approx(hashed, rel=0.06)


def test_more_streams_camp_harder() -> None:
    """64 streams on HBM2, within 6 %."""
    result = run(HBM2, "streams_aligned", address_map="bglow", n_streams=64, total_bytes=128 * KIB)
    assert result.bandwidth_fraction == pytest.approx(0.1027, rel=0.06)


def test_the_polynomial_hash_spreads_streams_as_well_as_the_xor_hash() -> None:
    """accel-sim assumes such a hash of the H100; 16 streams on HBM2 within 6 % of XOR's 0.614."""
    ipoly = run(HBM2, "streams_aligned", address_map="bglow_ipoly", n_streams=16)
    assert ipoly.bandwidth_fraction == pytest.approx(0.6138, rel=0.06)


@pytest.mark.parametrize(
    ("device", "random_64", "random_1024"), [(HBM2, 0.6121, 0.8647), (HBM3, 0.5822, 0.8640)]
)
def test_random_access_is_limited_by_activations(
    device: str, random_64: float, random_1024: float
) -> None:
    """Within 6 %; granules of 1 KiB share activations and are the negative control."""
    small = run(device, "random", chunk_bytes=64, total_bytes=384 * KIB)
    large = run(device, "random", chunk_bytes=1024)
    assert small.bandwidth_fraction == pytest.approx(random_64, rel=0.06)
    assert large.bandwidth_fraction == pytest.approx(random_1024, rel=0.06)


@pytest.mark.parametrize(
    ("device", "fraction"), [("dramsim3-hbm2", 0.2456), ("dramsim3-hbm2-faw16", 0.4555)]
)
def test_four_activations_a_window_set_the_rate_of_random_access(
    device: str, fraction: float
) -> None:
    """DRAMsim3's HBM2 with tFAW of 30 clocks, and of 16, within 2 %: nearly in inverse ratio."""
    result = run(device, "random", address_map="bglow", how=DRAMSIM3, chunk_bytes=64)
    assert result.bandwidth_fraction == pytest.approx(fraction, rel=0.02)


@pytest.mark.parametrize(("entries", "fraction"), [(64, 0.6129), (128, 0.6735), (256, 0.9095)])
def test_a_longer_window_lets_the_scheduler_find_row_hits(entries: int, fraction: float) -> None:
    """16 streams of 128 B on HBM2, within 6 %."""
    how = replace(RAMULATOR, read_queue=entries)
    result = run(HBM2, "streams_rand", how=how, n_streams=16)
    assert result.bandwidth_fraction == pytest.approx(fraction, rel=0.06)


@pytest.mark.parametrize(("device", "lost", "of_peak"), [(HBM2, 0.081, 0.067), (HBM3, 0.107, 0.09)])
def test_all_bank_refresh_takes_more_than_its_share_of_time(
    device: str, lost: float, of_peak: float
) -> None:
    """Loss of a sequential read within 12 %, above tRFC / tREFI: rows are closed and opened.

    Without refresh nothing is lost (0.3 %); per-bank refresh hides most of it.
    """
    size = 1024 * KIB
    whole = run(device, "seq", address_map="bglow", total_bytes=size)
    assert 1 - whole.bandwidth_fraction == pytest.approx(lost, rel=0.12)
    assert 1 - whole.bandwidth_fraction > of_peak
    none, single = (
        run(
            device,
            "seq",
            address_map="bglow",
            how=controller(device, refresh=mode),
        )
        for mode in ("none", "per_bank")
    )
    assert none.bandwidth_fraction > 0.997
    assert 0 < none.bandwidth_fraction - single.bandwidth_fraction < 0.03


def test_refresh_makes_the_tail_of_latency_at_half_load() -> None:
    """HBM3, Poisson arrivals at half the peak: mean within 15 %, 99th percentile within 5 %."""
    whole, none = (
        run(
            HBM3,
            "seq",
            how=controller(HBM3, refresh=mode),
            offered_load=0.5,
            total_bytes=1024 * KIB if mode == "all_bank" else 512 * KIB,
        ).read_latency_ns()
        for mode in ("all_bank", "none")
    )
    assert whole.mean() == pytest.approx(64.5, rel=0.15)
    assert np.percentile(whole, 99) == pytest.approx(432.2, rel=0.05)
    assert none.mean() == pytest.approx(24.3, rel=0.05)
    assert np.percentile(none, 99) == pytest.approx(56.7, rel=0.05)
