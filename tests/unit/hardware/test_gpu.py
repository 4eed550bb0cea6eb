"""`sim.hardware.gpu`: whole kernels on the chip of round numbers, to the picosecond."""

from dataclasses import replace
from fractions import Fraction

import pytest

from sim.errors import InvariantError
from sim.hardware.address_map import EvenMap, InterleavedMap
from sim.hardware.gpu import Gpu, KernelRun, _check
from sim.hardware.hbm import Hbm
from sim.hardware.residency import Resident
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import Kernel, Phase
from sim.kernel.operators import Traffic
from sim.measure.causes import CAUSES
from sim.measure.probe import RecordingProbe
from tests.unit.hardware.chips import START_PS, cta, kernel, load, segment, store, toy_chip

W = segment("w", 400_000)
X = segment("x", 400_000, Traffic.ACTIVATIONS)
ROOMY = toy_chip(l2_bytes=10**7)

ONE_GRANULE = kernel(
    [cta(Phase(loads=(load(1000),), vector_flop=3000, stores=(store(400, 1),)), buffer_bytes=4000)],
    [W, X],
)
# Four CTAs of four granules of 25,000 B.
STREAM = kernel([cta(Phase(loads=(load(100_000),)), count=4, buffer_bytes=100_000)], [W])
MIXED = kernel(
    [
        cta(
            Phase(loads=(load(30_000),), round_trips=1, steps=3, tensor_flop=40_000),
            Phase(loads=(load(5000, 1, sharers=3),), stores=(store(700, 1),), sfu_ops=9),
            count=7,
            buffer_bytes=20_000,
        ),
        cta(Phase(loads=(load(2000),), vector_flop=70_000), count=3, buffer_bytes=8000),
    ],
    [W, X],
    ctas_per_sm=2,
    setup_round_trips=1,
)


def run(kernel_: Kernel, spec: ChipSpec = ROOMY, *, granule_bytes: int = 10**6) -> KernelRun:
    return Gpu(spec=spec, granule_bytes=granule_bytes).run(kernel_)


def spent(result: KernelRun) -> dict[str, int]:
    """Return the SM-picoseconds of the causes that took any."""
    return {cause: ps for cause, ps in result.sm_ps.items() if ps}


def test_a_kernel_of_one_granule() -> None:
    """Start 1,000,000, data 1,501,000, work 1,504,000, store in L2 100 + 100,000 ps later."""
    result = run(ONE_GRANULE)
    assert result.time_ps == 1_604_100
    assert (result.asked_bytes, result.missed_bytes) == ((1000, 0), (1000, 0))
    assert result.stored_bytes == (0, 400)
    assert spent(result) == {
        "launch": 4 * 1_000_000,
        # The SM that waits, and the three without a CTA, while the channels are busy.
        "hbm_bandwidth": 4 * 1000,
        "hbm_latency": 500_000,
        "vector": 3000,
        # The first SM after its CTA has ended, while L2 takes the store.
        "l2_bandwidth": 100,
        "tail": 100_000 + 3 * (604_100 - 1000),
    }


def test_a_stream_keeps_the_channels_busy_and_pays_one_latency() -> None:
    """400,000 B at 1 B/ps, then 500,000 ps: no SM waits for anything else."""
    result = run(STREAM)
    assert result.time_ps == START_PS + 400_000 + 500_000
    assert spent(result) == {
        "launch": 4 * START_PS,
        "hbm_bandwidth": 4 * 400_000,
        "hbm_latency": 4 * 500_000,
    }


def test_tiles_stream_at_tile_efficiency() -> None:
    """The same bytes in tiles take twice as long at the channels."""
    tiled = replace(STREAM, segments=(segment("w", 400_000, tiled=True),))
    assert run(tiled).time_ps == START_PS + 800_000 + 500_000


def test_a_warm_stream_runs_at_l2_speed() -> None:
    """What an earlier kernel left is read at 4 B/ps with the shorter latency."""
    cold = run(STREAM)
    warm = Gpu(spec=ROOMY, granule_bytes=10**6).run(STREAM, cold.l2)
    assert warm.time_ps == START_PS + 100_000 + 200_000
    assert warm.missed_bytes == (0,)
    assert spent(warm) == {
        "launch": 4 * START_PS,
        "l2_bandwidth": 4 * 100_000,
        "l2_latency": 4 * 200_000,
    }


def test_too_few_bytes_in_flight_are_charged_to_latency() -> None:
    """With a buffer of 2 x 200 B a CTA returns every 500,800 ps for the next 400."""
    # Requests leave 200 ps apart; of four SMs' 800 B each takes 800 ps at the channels.
    thin = kernel([cta(Phase(loads=(load(800),)), count=4, buffer_bytes=400)], [W])
    result = run(thin)
    assert result.time_ps == START_PS + 2 * 500_000 + 3 * 800
    assert spent(result)["hbm_bandwidth"] == 4 * 4 * 800
    assert spent(result)["hbm_latency"] == 4 * (2 * 500_000 + 3 * 800 - 4 * 800)


def test_wave_quantisation_is_tail() -> None:
    """Five equal CTAs on four SMs: three of them are idle for the second wave."""
    result = run(kernel([cta(Phase(tensor_flop=700_000), count=5)], [W]))
    assert result.time_ps == START_PS + 1_400_000
    assert spent(result) == {
        "launch": 4 * START_PS,
        "tensor": 5 * 700_000,
        "tail": 3 * 700_000,
    }


def test_an_idle_sm_is_charged_to_the_resource_that_is_saturated() -> None:
    """One CTA that saturates HBM: the idle SMs could not help, but for the final latency."""
    alone = kernel([cta(Phase(loads=(load(400_000),)), buffer_bytes=400_000)], [W])
    result = run(alone)
    assert result.time_ps == START_PS + 400_000 + 500_000
    assert spent(result) == {
        "launch": 4 * START_PS,
        "hbm_bandwidth": 4 * 400_000,
        "hbm_latency": 500_000,
        "tail": 3 * 500_000,
    }


def test_setup_is_paid_by_every_sm_with_a_cta() -> None:
    """Two cold round trips of 200,000 ps before the work."""
    cold = kernel([cta(Phase(vector_flop=10), count=3)], [W], setup_round_trips=2)
    result = run(cold)
    assert result.time_ps == START_PS + 400_010
    assert spent(result) == {
        "launch": 4 * START_PS,
        "l2_latency": 3 * 400_000,
        "vector": 3 * 10,
        "tail": 400_010,
    }


@pytest.mark.parametrize("whole", [ONE_GRANULE, STREAM, MIXED], ids=["one", "stream", "mixed"])
def test_symmetry_changes_nothing_but_the_number_of_events(whole: Kernel) -> None:
    """One process a class or one an SM and channel: same times, same ledger, same bytes."""
    fast = Gpu(spec=toy_chip(), granule_bytes=3000).run(whole)
    slow = Gpu(spec=toy_chip(), granule_bytes=3000, symmetry=False).run(whole)
    assert replace(slow, events=fast.events) == fast
    assert slow.events >= fast.events


def test_a_run_is_repeatable_and_not_changed_by_a_probe() -> None:
    """Who watches sees what happens, and nothing else."""
    gpu = Gpu(spec=toy_chip())
    probe = RecordingProbe()
    assert gpu.run(MIXED) == gpu.run(MIXED) == gpu.run(MIXED, probe=probe)
    assert {service.server for service in probe.services} == {
        "hbm0", "l2", "sm0.port", "sm0.pipe", "sm1.port", "sm1.pipe",
    }  # fmt: skip


@pytest.mark.parametrize("whole", [ONE_GRANULE, STREAM, MIXED], ids=["one", "stream", "mixed"])
def test_time_and_bytes_sum_exactly(whole: Kernel) -> None:
    """Causes sum to SMs x time, and bytes to what the CTAs asked for and stored."""
    result = run(whole, toy_chip())
    assert set(result.sm_ps) == set(CAUSES)
    assert sum(result.sm_ps.values()) == 4 * result.time_ps
    assert sum(result.asked_bytes) == whole.requested_bytes
    assert sum(result.stored_bytes) == whole.stored_bytes


def test_dirty_bytes_that_leave_are_counted_by_class() -> None:
    """A full cache of dirty KV gives way to 1000 B of weights and 400 B of results."""
    full = (Resident(name="kv", traffic=Traffic.KV, resident_bytes=100_000, dirty_bytes=100_000),)
    result = Gpu(spec=toy_chip(), granule_bytes=10**6).run(ONE_GRANULE, full)
    assert result.written_back_bytes == {"kv": 1400}
    assert [(e.name, e.resident_bytes, e.dirty_bytes) for e in result.l2] == [
        ("kv", 98_600, 98_600),
        ("w", 1000, 0),
        ("x", 400, 400),
    ]


def test_an_address_map_makes_a_small_segment_camp() -> None:
    """256 B in one of four channels are served at a quarter of the rate."""
    small = kernel([cta(Phase(loads=(load(256),)), buffer_bytes=1024)], [segment("w", 256)])
    chip = toy_chip()
    camping = InterleavedMap(n_channels=4, chunk_bytes=256)
    assert Gpu(spec=chip).run(small).time_ps == START_PS + 256 + 500_000
    assert Gpu(spec=chip, address_map=camping).run(small).time_ps == START_PS + 1024 + 500_000


def test_hits_camp_on_the_slice_in_front_of_their_channel() -> None:
    """4000 B that L2 holds, all behind one of four slices: 1 B/ps instead of 4."""
    small = kernel([cta(Phase(loads=(load(4000),)), buffer_bytes=8192)], [segment("w", 4000)])
    warm = (Resident(name="w", traffic=Traffic.WEIGHTS, resident_bytes=4000, dirty_bytes=0),)
    chip = toy_chip(l2_port_bytes_per_clock=10**6)
    camping = InterleavedMap(n_channels=4, chunk_bytes=4096)
    gpus = (
        Gpu(spec=chip, granule_bytes=10**6),
        Gpu(spec=chip, granule_bytes=10**6, address_map=camping),
    )
    even, uneven = (gpu.run(small, warm).time_ps for gpu in gpus)
    assert uneven - even == 3000


def test_stores_camp_on_their_slice_as_well() -> None:
    """4000 B stored behind one of four slices of L2 keep it busy 3000 ps longer."""
    phase = Phase(stores=(store(4000),))
    small = kernel([cta(phase, buffer_bytes=8192)], [segment("w", 4000)])
    gpu = Gpu(spec=toy_chip(), granule_bytes=10**6)
    camping = InterleavedMap(n_channels=4, chunk_bytes=4096)
    even = gpu.run(small).time_ps
    assert replace(gpu, address_map=camping).run(small).time_ps == even + 3000


@pytest.mark.parametrize(
    ("generation", "bulk_copy"),
    [("ampere", False), ("ada", False), ("hopper", True), ("blackwell", True)],
)
def test_kernel_authors_see_sizes_and_features_only(generation: str, bulk_copy: bool) -> None:
    """The target has no rate and no time."""
    target = Gpu(spec=toy_chip(generation=generation)).target()
    assert (target.sm_count, target.shared_memory_bytes, target.max_ctas) == (4, 65_536, 4)
    assert target.bulk_copy is bulk_copy
    assert target.compute_formats == {"bf16"}


def test_the_fingerprint_tells_chips_and_knobs_apart() -> None:
    """What can change a time changes the fingerprint."""
    chip = toy_chip()
    gpus = [
        Gpu(spec=chip),
        Gpu(spec=replace(chip, l2_latency_ps=1)),
        Gpu(spec=chip, symmetry=False),
        Gpu(spec=chip, granule_bytes=4096),
        Gpu(spec=chip, granule_scale=Fraction(1, 2)),
        Gpu(spec=chip, address_map=InterleavedMap(n_channels=4, chunk_bytes=256)),
    ]
    assert len({gpu.fingerprint() for gpu in gpus}) == len(gpus)
    assert Gpu(spec=toy_chip()).fingerprint() == gpus[0].fingerprint()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"time_ps": 1}, "causes do not sum to its time"),
        ({"asked_bytes": (1, 0)}, "L2 saw other bytes than its CTAs asked for"),
        ({"stored_bytes": (1, 0)}, "L2 took other bytes than its CTAs stored"),
        ({"missed_bytes": (1, 0)}, "misses differ from the bytes HBM served"),
    ],
)
def test_a_run_that_does_not_add_up_is_a_bug(broken: dict[str, object], message: str) -> None:
    """The message names the kernel and the law."""
    chip = toy_chip()
    hbm = Hbm(
        chip,
        None,
        address_map=EvenMap(n_channels=4),
        segments=ONE_GRANULE.segments,
        symmetry=True,
    )
    hbm.serve(0, [(0, 1000)], 0)
    result = run(ONE_GRANULE, chip)
    _check(ONE_GRANULE, result, hbm, chip)
    with pytest.raises(InvariantError, match=f"^kernel 'test': {message}"):
        _check(ONE_GRANULE, replace(result, **broken), hbm, chip)  # type: ignore[arg-type]
