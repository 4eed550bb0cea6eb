"""`sim.hardware.hbm`: channels that serve first come, first served, at exact rates."""

from fractions import Fraction

import pytest

from sim.hardware.address_map import AddressMap, EvenMap, InterleavedMap
from sim.hardware.hbm import ChannelTiming, Hbm
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import Segment
from sim.measure.probe import RecordingProbe, Service
from tests.unit.hardware.chips import segment, toy_chip

STREAMED = segment("streamed", 100_000)
TILED = segment("tiled", 100_000, tiled=True)
HASHED = EvenMap(n_channels=4)
INTERLEAVED = InterleavedMap(n_channels=4, chunk_bytes=256)


def hbm_of(
    *segments: Segment,
    spec: ChipSpec | None = None,
    address_map: AddressMap = HASHED,
    symmetry: bool = True,
    probe: RecordingProbe | None = None,
) -> Hbm:
    return Hbm(
        spec or toy_chip(),
        probe,
        address_map=address_map,
        segments=segments,
        symmetry=symmetry,
    )


def test_a_channel_moves_its_share_of_the_peak() -> None:
    """Of 1 ps a byte, each of 4 channels takes 4; tiles run at half of that, writes at 2/3.

    Tiles of short rows take another 25/18.
    """
    assert ChannelTiming.of(toy_chip()) == ChannelTiming(
        read_ps_per_byte=Fraction(4),
        tile_ps_per_byte=Fraction(8),
        short_ps_per_byte=Fraction(8 * 25, 18),
        write_ps_per_byte=Fraction(6),
    )


@pytest.mark.parametrize(("held", "ps_per_byte"), [(STREAMED, 1), (TILED, 2)])
def test_a_request_is_done_at_the_later_of_now_and_free_plus_service(
    held: Segment, ps_per_byte: int
) -> None:
    """The second request queues behind the first, the third finds the channels idle."""
    hbm = hbm_of(held)
    first, _ = hbm.serve(100, [(0, 1000)], 0)
    second, _ = hbm.serve(500, [(0, 200)], 0)
    third, log = hbm.serve(9000, [(0, 10)], 0)
    assert first == 100 + 1000 * ps_per_byte
    assert second == first + 200 * ps_per_byte
    assert third == 9000 + 10 * ps_per_byte
    assert log.until(10**6) == 1210 * ps_per_byte


def test_a_request_that_comes_when_the_channels_fall_idle_does_not_wait() -> None:
    """Free at 1000: an arrival at 999 waits one picosecond, one at 1000 none."""
    for arrival, done in ((999, 1001), (1000, 1001)):
        hbm = hbm_of(STREAMED)
        hbm.serve(0, [(0, 1000)], 0)
        assert hbm.serve(arrival, [(0, 1)], 0)[0] == done


def test_requests_of_one_instant_are_one_service() -> None:
    """Streamed and tiled bytes that arrive together are done together: 300 + 2 x 100 ps."""
    hbm = hbm_of(STREAMED, TILED)
    assert hbm.serve(50, [(0, 300), (1, 100)], 0)[0] == 550


def test_service_is_rounded_up_so_that_no_channel_beats_its_rate() -> None:
    """One byte at 3 bytes a ps takes one whole picosecond."""
    hbm = hbm_of(STREAMED, spec=toy_chip(hbm_bytes_per_s=3 * 10**12))
    assert hbm.serve(0, [(0, 1)], 0)[0] == 1
    assert hbm.serve(1, [(0, 4)], 0)[0] == 3


def test_writes_are_posted_but_delay_later_reads() -> None:
    """Reads of the instant are done first; 400 B of writes hold the channel 600 ps longer."""
    hbm = hbm_of(STREAMED)
    assert hbm.serve(0, [(0, 100)], 400)[0] == 100
    assert hbm.serve(100, [(0, 10)], 0)[0] == 710
    assert hbm.serve(1000, [], 20)[0] == 1000
    assert hbm.serve(1000, [(0, 1)], 0)[0] == 1031


@pytest.mark.parametrize("copy", [Fraction(4, 5), Fraction(866, 1000), Fraction(1, 3)])
def test_a_one_to_one_copy_reaches_copy_efficiency_exactly(copy: Fraction) -> None:
    """Reading n and writing n bytes takes 2n / (peak x copy efficiency), to the picosecond."""
    spec = toy_chip(copy_efficiency=copy, read_efficiency=Fraction(95, 100))
    n = 866 * 95 * 2
    hbm = hbm_of(STREAMED, spec=spec)
    hbm.serve(0, [(0, n)], n)
    took = Fraction(2 * n) / copy
    (channel,) = hbm.channels
    assert took <= channel.free_ps < took + 2
    assert channel.busy.until(10**9) == channel.free_ps


def test_a_perfect_hash_leaves_one_class_of_channels() -> None:
    """With symmetry one process stands for all; without, each is its own and ends as late."""
    one, many = hbm_of(STREAMED), hbm_of(STREAMED, symmetry=False)
    assert [c.multiplicity for c in one.channels] == [4]
    assert [c.multiplicity for c in many.channels] == [1, 1, 1, 1]
    for hbm in (one, many):
        assert hbm.serve(0, [(0, 1001)], 0)[0] == 1001


def test_channels_with_equal_shares_of_all_segments_are_one_class() -> None:
    """Three chunks lie in channels 0 to 2, so channel 3 is a class of its own."""
    hbm = hbm_of(segment("a", 768), address_map=INTERLEAVED)
    assert sorted(c.multiplicity for c in hbm.channels) == [1, 3]


def test_a_small_segment_camps_on_one_interleaved_channel() -> None:
    """One chunk of 256 B is served at a quarter of the bandwidth, or by all under a hash."""
    small = segment("small", 256)
    assert hbm_of(small).serve(0, [(0, 256)], 0)[0] == 256
    assert hbm_of(small, address_map=INTERLEAVED).serve(0, [(0, 256)], 0)[0] == 4 * 256


def test_two_small_segments_in_two_channels_do_not_queue_behind_each_other() -> None:
    """Neighbouring chunks are in neighbouring channels, so both are done at once."""
    hbm = hbm_of(segment("a", 256), segment("b", 256), address_map=INTERLEAVED)
    assert hbm.serve(0, [(0, 256)], 0)[0] == 1024
    assert hbm.serve(0, [(1, 256)], 0)[0] == 1024
    assert hbm.serve(0, [(0, 1)], 0)[0] == 1028


def test_the_log_returned_is_that_of_the_channel_that_was_last() -> None:
    """The wait for a camping segment is charged by the busy time of its channel."""
    hbm = hbm_of(segment("a", 256), segment("b", 1024), address_map=INTERLEAVED)
    _, log = hbm.serve(0, [(0, 256), (1, 1024)], 0)
    assert log.until(10**6) == 2048
    assert sorted(c.busy.until(10**6) for c in hbm.channels) == [1024, 2048]


def test_write_backs_are_spread_evenly_under_any_map() -> None:
    """400 B in 4 channels are 100 B x 6 ps each, whatever the segments do."""
    hbm = hbm_of(segment("a", 256), address_map=INTERLEAVED, symmetry=False)
    hbm.serve(0, [], 400)
    assert [c.free_ps for c in hbm.channels] == [600] * 4


def test_bytes_read_are_counted_by_segment() -> None:
    """Written bytes are not read bytes."""
    hbm = hbm_of(STREAMED, TILED)
    hbm.serve(0, [(0, 300), (1, 100)], 7)
    hbm.serve(0, [(1, 50)], 0)
    assert hbm.read_bytes == [300, 150]


@pytest.mark.parametrize("symmetry", [True, False])
def test_the_busiest_channel_is_told_as_what_all_could_have_read(symmetry: bool) -> None:
    """Channel 0 alone holds segment a and a quarter of b: 256 + 100 B, times four."""
    hbm = hbm_of(segment("a", 256), segment("b", 1024), address_map=INTERLEAVED, symmetry=symmetry)
    assert hbm.busiest_bytes() == 0
    hbm.serve(0, [(0, 256), (1, 400)], 999)
    assert hbm.busiest_bytes() == 4 * 356
    assert hbm_of(segment("a", 256)).busiest_bytes() == 0


def test_with_an_even_map_the_busiest_channel_reads_the_mean() -> None:
    hbm = hbm_of(STREAMED)
    hbm.serve(0, [(0, 1001)], 0)
    assert hbm.busiest_bytes() == 1001


def test_the_bytes_that_channels_report_sum_to_the_bytes_moved() -> None:
    """Four channels apart have a quarter of 4000 B each."""
    probe = RecordingProbe()
    hbm_of(STREAMED, symmetry=False, probe=probe).serve(0, [(0, 3000)], 1000)
    assert [service.amount for service in probe.services] == [1000] * 4


def test_a_probe_sees_every_service_with_its_bytes() -> None:
    """One class of channels, two services, the second behind the first."""
    probe = RecordingProbe()
    hbm = hbm_of(STREAMED, probe=probe)
    hbm.serve(10, [(0, 100)], 20)
    hbm.serve(20, [(0, 5)], 0)
    assert probe.services == [Service("hbm0", 10, 140, 120), Service("hbm0", 140, 145, 5)]
