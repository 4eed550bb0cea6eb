"""`sim.hardware.plan`: phases cut into granules without losing a byte or a picosecond."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.plan import Granule, granule_bytes, phase_pipe_times, plan_kernel
from sim.kernel.kernel import CtaKind, Phase
from tests.unit.hardware.chips import STEP_PS, cta, kernel, load, segment, store, toy_chip

SEGMENTS = (segment("a", 10**9), segment("b", 10**9))
ONE = Fraction(1)


def granules_of(phase: Phase, *, size: int, buffer_bytes: int = 10**6) -> tuple[Granule, ...]:
    """Return the granules of a kernel of one CTA of one phase."""
    (only,) = plan_kernel(
        kernel([cta(phase, buffer_bytes=buffer_bytes)], SEGMENTS), toy_chip(), size, simulated=1
    )
    return only.phases[0].granules


def test_a_phase_is_cut_into_granules_of_about_the_size_asked_for() -> None:
    """1000 B in requests of 300 are three whole ones and a rest."""
    granules = granules_of(Phase(loads=(load(1000),)), size=300)
    assert [g.sizes for g in granules] == [(300,)] * 3 + [(100,)]
    assert [g.total_bytes for g in granules] == [300, 300, 300, 100]


def test_loads_and_work_are_cut_alongside() -> None:
    """8 and 7 of 15 B: both loads, the work and the chain are cut in this proportion."""
    phase = Phase(loads=(load(10), load(5, 1)), vector_flop=7, steps=1)
    granules = granules_of(phase, size=8)
    assert [g.sizes for g in granules] == [(5, 2), (5, 3)]
    assert [g.total_bytes for g in granules] == [7, 8]
    assert [g.pipes_ps for g in granules] == [(("vector", 3),), (("vector", 4),)]
    assert [g.chain_ps for g in granules] == [STEP_PS * 8 // 15, STEP_PS - STEP_PS * 8 // 15]


@given(
    sizes=st.lists(st.integers(0, 10**7), min_size=1, max_size=2),
    vector=st.integers(0, 10**9),
    steps=st.integers(0, 100),
    size=st.integers(1, 10**5).map(lambda n: 100 * n),
)
def test_cutting_is_exact(sizes: list[int], vector: int, steps: int, size: int) -> None:
    """The pieces of bytes, work and chain sum to the whole; all but the last are whole requests."""
    loads = tuple(load(n, i) for i, n in enumerate(sizes))
    phase = Phase(loads=loads, vector_flop=vector, steps=steps)
    granules = granules_of(phase, size=size, buffer_bytes=10**9)
    for i, whole in enumerate(sizes):
        pieces = [g.sizes[i] for g in granules]
        assert sum(pieces) == whole
        assert not pieces[:-1] or max(pieces[:-1]) - min(pieces[:-1]) <= 1
    assert sum(g.work_ps for g in granules) == vector
    assert sum(g.chain_ps for g in granules) == steps * STEP_PS
    # Loops of more than 64 requests are cut into larger ones.
    largest = max(size, sum(sizes) // 64)
    assert all(g.total_bytes == sum(g.sizes) <= largest + len(sizes) for g in granules)


def test_a_granule_is_half_of_the_buffer_at_most() -> None:
    """However large the requested size, one request is in flight while one is consumed."""
    granules = granules_of(Phase(loads=(load(4000),)), size=10**6, buffer_bytes=2000)
    assert [g.total_bytes for g in granules] == [1000] * 4


def test_a_phase_without_loads_is_one_granule_of_work() -> None:
    """Compute-only phases need no cutting."""
    (only,) = granules_of(Phase(vector_flop=123, steps=2), size=1)
    assert only == Granule(
        sizes=(),
        total_bytes=0,
        port_ps=0,
        pipes_ps=(("vector", 123),),
        work_ps=123,
        chain_ps=2 * STEP_PS,
    )


def test_the_port_time_is_rounded_up() -> None:
    """3 bytes a clock at 1 GHz: 1 B takes 334 ps."""
    chip = toy_chip(l2_port_bytes_per_clock=3)
    (only,) = plan_kernel(kernel([cta(Phase(loads=(load(1),)))], SEGMENTS), chip, 100, simulated=1)
    assert only.phases[0].granules[0].port_ps == 334


def test_a_buffer_smaller_than_a_granule_still_holds_one() -> None:
    """A buffer of 3 B is cut into single bytes; two loads of one byte each need room for both."""
    phase = Phase(loads=(load(1), load(1, 1)))
    (only,) = plan_kernel(
        kernel([cta(phase, buffer_bytes=1)], SEGMENTS), toy_chip(), 100, simulated=1
    )
    largest = max(g.total_bytes for g in only.phases[0].granules)
    assert only.buffer_bytes >= largest


def test_every_phase_of_a_kernel_has_a_key_of_its_own() -> None:
    """Keys tell phases apart across kinds; round trips and stores are taken over."""
    first = cta(Phase(round_trips=2), Phase(stores=(store(5),)))
    plans = plan_kernel(kernel([first, cta(Phase())], SEGMENTS), toy_chip(), 100, simulated=1)
    assert [[p.key for p in one.phases] for one in plans] == [[0, 1], [2]]
    assert plans[0].phases[0].round_trips_ps == 400_000
    assert plans[0].phases[1].stores == (store(5),)


def test_steps_that_hold_the_port_are_work_of_the_sm_charged_to_its_port() -> None:
    """Of three chains a CTA has the load/store unit for two; neighbours wait for those."""
    (only,) = granules_of(Phase(vector_flop=123, steps=3, port_steps=2), size=1)
    assert only.pipes_ps == (("vector", 123), ("l2_bandwidth", 2 * STEP_PS))
    assert (only.work_ps, only.chain_ps) == (123 + 2 * STEP_PS, 3 * STEP_PS)


def test_pipes_take_turns_unless_overlapped() -> None:
    """1 ps a tensor FLOP (half the peak is sustained), 1 a vector FLOP, 1000 an SFU op."""
    facts = {"tensor_flop": 3000, "vector_flop": 500, "sfu_ops": 2}
    assert phase_pipe_times(Phase(**facts), toy_chip()) == (3000, 500, 2000)
    assert phase_pipe_times(Phase(**facts, overlapped=True), toy_chip()) == (3000, 0, 0)


def test_instructions_keep_the_vector_pipe_for_their_clocks() -> None:
    """At 1 GHz 7 clocks are 7 ns, whatever the chip's arithmetic rate."""
    phase = Phase(vector_flop=500, issue_clocks=7)
    assert phase_pipe_times(phase, toy_chip()) == (0, 7500, 0)


def test_a_tie_of_overlapped_pipes_goes_to_the_first() -> None:
    """Equal times are charged to the tensor cores before the ALUs."""
    phase = Phase(tensor_flop=500, vector_flop=500, overlapped=True)
    assert phase_pipe_times(phase, toy_chip()) == (500, 0, 0)


def test_the_tensor_rate_is_that_of_the_phase_s_format() -> None:
    """Twice the rate halves the time; an odd half is rounded up."""
    chip = toy_chip(tensor_flop_per_s={"bf16": 8 * 10**12, "fp8": 16 * 10**12})
    phase = Phase(tensor_flop=3001, compute="fp8")
    assert phase_pipe_times(phase, chip) == (1501, 0, 0)


def sized(load_bytes: int, *, count: int, buffer_bytes: int) -> int:
    kinds = [cta(Phase(loads=(load(load_bytes),)), count=count, buffer_bytes=buffer_bytes)]
    return granule_bytes(kernel(kinds, SEGMENTS), toy_chip(), ONE)


def test_the_granule_is_a_40th_of_what_an_sm_reads() -> None:
    """8 CTAs of 1,280,000 B on 4 SMs: 2,560,000 an SM, 64,000 a granule."""
    assert sized(1_280_000, count=8, buffer_bytes=10**6) == 64_000


def test_idle_sms_do_not_make_granules_smaller() -> None:
    """One CTA alone is cut like one of many."""
    assert sized(1_280_000, count=1, buffer_bytes=10**7) == 32_000


def test_no_granule_is_chosen_below_a_kibibyte() -> None:
    """Finer requests would only cost events."""
    assert sized(1000, count=4, buffer_bytes=10**6) == 1024


@pytest.mark.parametrize(("buffer_bytes", "granule"), [(499_999, 41_666), (500_000, 50_000)])
def test_scarce_bytes_in_flight_are_cut_into_twelve_to_a_buffer_others_into_ten(
    buffer_bytes: int, granule: int
) -> None:
    """Below 4 x bandwidth x latency (4 x 500,000 B, by 4 CTAs) the pipeline's grain shows."""
    assert sized(10_000_000, count=4, buffer_bytes=buffer_bytes) == granule


@pytest.mark.parametrize(("load_bytes", "granule"), [(11_999_999, 50_000), (12_000_000, 100_000)])
def test_where_buffers_are_refilled_often_a_fifth_of_one_is_fine_enough(
    load_bytes: int, granule: int
) -> None:
    """From 24 times the 500,000 B of a buffer on, an SM's CTAs end too rarely to matter."""
    assert sized(load_bytes, count=4, buffer_bytes=500_000) == granule


def test_the_scale_scales_the_choice() -> None:
    """Half the granule, but never less than a byte."""
    kinds: list[CtaKind] = [cta(Phase(loads=(load(1_280_000),)), count=8)]
    whole = kernel(kinds, SEGMENTS)
    assert granule_bytes(whole, toy_chip(), Fraction(1, 2)) == 32_000
    assert granule_bytes(whole, toy_chip(), Fraction(1, 10**9)) == 1


@pytest.mark.parametrize(
    ("simulated", "ctas_per_sm", "granules"), [(1, 1, 80), (16, 1, 20), (200, 1, 16), (200, 2, 7)]
)
def test_the_more_ctas_are_simulated_the_larger_are_their_requests(
    simulated: int, ctas_per_sm: int, granules: int
) -> None:
    """A loop of 16 MB at the pace of HBM: 64 requests, a 16th of 320, 16 or 6, before rounding."""
    kinds = [cta(Phase(loads=(load(16_000_000),)), count=4, buffer_bytes=10**6)]
    grid = kernel(kinds, SEGMENTS, ctas_per_sm=ctas_per_sm)
    (only,) = plan_kernel(grid, toy_chip(), 100_000, simulated=simulated)
    assert len(only.phases[0].granules) == granules


def test_loops_of_scarce_bytes_in_flight_keep_their_requests() -> None:
    """Below 2 x bandwidth x latency a larger buffer would hide latency that the chip sees."""
    grid = kernel([cta(Phase(loads=(load(16_000_000),)), count=4, buffer_bytes=200_000)], SEGMENTS)
    (only,) = plan_kernel(grid, toy_chip(), 10_000, simulated=200)
    assert len(only.phases[0].granules) == 1600
