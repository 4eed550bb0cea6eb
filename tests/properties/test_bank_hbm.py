"""Laws of the device with bank-level channels."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.hardware.clock import Clock
from sim.hardware.dram.address import MAPS
from sim.hardware.dram.gpu_like import gpu_controller
from sim.hardware.dram.process import BankChannel, BankDevice
from sim.hardware.dram.scaled import dram_for
from sim.hardware.gpu import Gpu, KernelRun
from sim.hardware.spec import load_chip
from sim.hardware.walk import Interleave, TiledWalk, Tiling, Walk
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.operators import Traffic
from sim.measure.probe import RecordingProbe
from sim.resources import chip_dirs

A100 = load_chip("a100-sxm-80gb", chip_dirs())
DRAM = dram_for(A100.hbm_type, A100.pseudo_channels, A100.hbm_bytes_per_s)


def kernel(count: int, size: int, *, tiled: bool = False, stored: int = 0) -> Kernel:
    segments = [
        Segment(name="in", size_bytes=count * size, traffic=Traffic.WEIGHTS, tiled=tiled),
        Segment(name="out", size_bytes=max(1, count * stored), traffic=Traffic.ACTIVATIONS),
    ]
    stores = (Store(segment=1, size_bytes=stored),) if stored else ()
    phase = Phase(loads=(Load(segment=0, size_bytes=size),), stores=stores)
    return Kernel(
        name="k", operator="k", part="k", segments=tuple(segments), ctas_per_sm=1, flop=0,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=65536),),
    )  # fmt: skip


kernels = st.builds(
    kernel, st.integers(1, 216), st.integers(1, 40_000), tiled=st.booleans(),
    stored=st.sampled_from([0, 100, 8192]),
)  # fmt: skip


@settings(max_examples=15)
@given(kernels, st.sampled_from([1 << 20, A100.l2_bytes]))
def test_bytes_and_causes_add_up_and_nothing_beats_the_peak(k: Kernel, l2_bytes: int) -> None:
    probe = RecordingProbe()
    gpu = Gpu(spec=replace(A100, l2_bytes=l2_bytes), channel="bank")
    run = gpu.run(k, probe=probe)
    assert sum(run.sm_ps.values()) == run.time_ps * A100.sm_count
    assert run.dram_ps is not None
    assert sum(run.dram_ps.values()) == run.time_ps * A100.pseudo_channels
    moved = sum(run.missed_bytes) + sum(run.written_back_bytes.values())
    assert moved <= A100.hbm_bytes_per_s * run.time_ps / 10**12 + 1
    services = [s for s in probe.services if s.server == "hbm0"]
    burst = DRAM.spec.organisation.access_bytes * A100.pseudo_channels
    # Whole bursts: rounded up once for each of the two segments, and for what is written back.
    assert moved <= sum(s.amount for s in services) <= moved + 3 * burst
    assert all(a.end_ps <= b.start_ps for a, b in pairwise(services))
    assert run == gpu.run(k)


def test_with_all_channels_simulated_the_bytes_are_the_same_and_the_time_nearly() -> None:
    k = kernel(54, 20_000)
    one = Gpu(spec=A100, channel="bank").run(k)
    every = Gpu(spec=A100, channel="bank", symmetry=False).run(k)
    assert one.missed_bytes == every.missed_bytes
    assert every.time_ps == pytest.approx(one.time_ps, rel=0.05)


def efficiency(run: KernelRun, less_ps: int) -> Fraction:
    return Fraction(sum(run.missed_bytes) * 10**12, A100.hbm_bytes_per_s * (run.time_ps - less_ps))


def test_the_coarse_channel_at_the_efficiency_of_banks_takes_as_long() -> None:
    small = kernel(1, 128)
    k = kernel(108, 60_000)
    alone = Gpu(spec=A100, channel="bank").run(small).time_ps
    bank = Gpu(spec=A100, channel="bank").run(k)
    spec = replace(A100, read_efficiency=min(Fraction(99, 100), efficiency(bank, alone)))
    assert Gpu(spec=spec).run(k).time_ps == pytest.approx(bank.time_ps, rel=0.08)


def test_an_idle_access_takes_the_latency_of_the_chip_in_both_modes() -> None:
    small = kernel(1, 128)
    coarse, bank = Gpu(spec=A100).run(small), Gpu(spec=A100, channel="bank").run(small)
    assert abs(coarse.time_ps - bank.time_ps) < 5_000


arrivals = st.lists(
    st.tuples(st.integers(0, 300_000), st.integers(1, 60), st.integers(0, 20)),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(max_examples=25)
@given(arrivals, st.integers(0, 99))
def test_completions_are_those_of_a_channel_that_is_fed_at_once(
    asked: list[tuple[int, int, int]], seed: int
) -> None:
    """The process, woken at its own instants, against all requests posted at time 0."""
    rng = np.random.default_rng(seed)
    pieces = [(rng.integers(0, 4096, r), rng.integers(0, 4096, w)) for _, r, w in asked]
    times = np.cumsum([gap for gap, _, _ in asked]).tolist()
    device = BankDevice(
        dram=DRAM, controller=gpu_controller(DRAM.spec), address_map=MAPS["bglow_x"], compiled=False
    )

    def run(*, live: bool) -> dict[int, int]:
        env = Clock()
        channel = BankChannel(env, device)
        done: dict[int, int] = {}
        for i, (at, (reads, writes)) in enumerate(zip(times, pieces, strict=True)):

            def ask(_: object, i: int = i, at: int = at) -> None:
                reads, writes = pieces[i]
                channel.request(at, reads, writes, lambda ps: done.__setitem__(i, ps))

            if live:
                env.timeout(at).callbacks.append(ask)
            else:
                ask(None)
            del reads, writes
        env.run()
        channel.finish()
        return done

    live = run(live=True)
    assert live == run(live=False)
    assert len(live) == len(asked)


@given(st.integers(1, 97), st.sampled_from([256, 512, 4096]), st.integers(0, 500))
def test_every_chunk_lies_in_one_channel_and_every_round_in_all(
    channels: int, chunk: int, turn: int
) -> None:
    interleave = Interleave(channels=channels, chunk_bytes=chunk, access_bytes=32)
    chunks = turn * channels + np.arange(channels)
    found = interleave.channel_of(chunks * chunk)
    assert sorted(found.tolist()) == list(range(channels))


@settings(max_examples=25)
@given(
    st.integers(1, 50), st.integers(1, 60), st.booleans(), st.sampled_from([0, 1024, 5120, 8192])
)
def test_the_walks_of_all_channels_read_a_matrix_once(
    rows: int, together: int, short: bool, row_bytes: int
) -> None:
    size = rows * (row_bytes or 8192)
    interleave = Interleave(channels=4, chunk_bytes=256, access_bytes=32)
    shares = [size // 256 // 4 * 8] * 4
    tiling = Tiling(together=together, short=short, row_bytes=row_bytes)
    for channel, count in enumerate(shares):
        tiled = TiledWalk(interleave, 0, size, tiling, channel=channel).take(count)
        plain = Walk(interleave, 0, size).take(count)
        assert sorted(tiled.tolist()) == sorted(plain.tolist()) == list(range(count))


def test_a_longer_row_is_read_in_other_pieces() -> None:
    """Two rows side by side: their first pieces lie a row apart, whatever the kernel's row is."""
    interleave = Interleave(channels=1, chunk_bytes=256, access_bytes=32)
    for row_bytes, apart in ((1024, 32), (4096, 128), (0, 256)):
        tiling = Tiling(together=2, row_bytes=row_bytes)
        bursts = TiledWalk(interleave, 0, 4 * 8192, tiling, channel=0).take(8)
        assert (bursts[4] - bursts[0], bursts[3] - bursts[0]) == (apart, 3)
