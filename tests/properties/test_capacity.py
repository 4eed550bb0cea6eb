"""Law: no resource ever works above its capacity, in any window of time."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu
from sim.kernel.kernel import Load, Phase, Segment
from sim.kernel.operators import Traffic
from tests.properties.laws import no_server_overloaded, peak_rates, recorded
from tests.strategies import KIB, Launch, address_maps, launches, small_chip, uniform_kernel


@given(launches())
def test_no_channel_cache_port_or_pipe_exceeds_its_peak(launch: Launch) -> None:
    """Services of a server never overlap, and none is faster than the server's peak rate."""
    spec, kernel, l2 = launch
    gpu = Gpu(spec=spec)
    _, services = recorded(gpu, kernel, l2)
    no_server_overloaded(peak_rates(gpu, kernel), services)


@settings(max_examples=30)
@given(launches(), st.data(), st.booleans())
def test_no_single_channel_exceeds_its_peak(
    launch: Launch, data: st.DataObject, symmetry: bool
) -> None:
    """The law holds for each class of channels of every address map, and for single channels."""
    spec, kernel, l2 = launch
    gpu = Gpu(spec=spec, symmetry=symmetry, address_map=data.draw(address_maps(spec)))
    _, services = recorded(gpu, kernel, l2)
    no_server_overloaded(peak_rates(gpu, kernel), services)


def test_the_checker_rejects_overlap_and_speed() -> None:
    """A service that starts a picosecond early or moves too much breaks the law, for each kind."""
    gpu = Gpu(spec=small_chip())
    segment = Segment(name="w", size_bytes=512 * KIB, traffic=Traffic.WEIGHTS)
    phase = Phase(loads=(Load(segment=0, size_bytes=32 * KIB),), tensor_flop=10**7)
    kernel = uniform_kernel(16, phase, segment, buffer_bytes=32 * KIB)
    _, services = recorded(gpu, kernel)
    rates = peak_rates(gpu, kernel)
    no_server_overloaded(rates, services)
    last = {service.server: service for service in services}
    assert last.keys() == {"hbm0", "l2", "sm0.port", "sm0.pipe"}
    for service in last.values():
        twice = service._replace(amount=2 * service.amount + 2)
        again = service._replace(start_ps=service.end_ps - 1, end_ps=service.end_ps + 10**6)
        with pytest.raises(AssertionError, match="too fast"):
            no_server_overloaded(rates, (*(s for s in services if s is not service), twice))
        with pytest.raises(AssertionError, match="serves two requests"):
            no_server_overloaded(rates, (service, again))


def test_the_checker_rejects_a_chip_that_beats_its_datasheet() -> None:
    """A channel that serves at twice the peak it is held to breaks the law."""
    spec = small_chip()
    segment = Segment(name="w", size_bytes=512 * KIB, traffic=Traffic.WEIGHTS)
    phase = Phase(loads=(Load(segment=0, size_bytes=32 * KIB),))
    kernel = uniform_kernel(16, phase, segment, buffer_bytes=32 * KIB)
    _, services = recorded(Gpu(spec=replace(spec, hbm_bytes_per_s=400 * 10**9)), kernel)
    with pytest.raises(AssertionError, match="hbm0 is too fast"):
        no_server_overloaded(peak_rates(Gpu(spec=spec), kernel), services)
