"""Phenomenon 16 of docs/phenomena.md: the floor of an all-reduce is latency, not bytes.

Measured: vLLM pull request 24532 (4 GPUs, 0.5 MB: one-shot kernel 10 us); aiconfigurator-core
0.12.0 (8 GPUs, NCCL, 1 KiB: 15.6 us on H100, 21.8 us on A100; 16 KiB on H100: NCCL 19.0, vLLM's
custom kernel 5.3 us, between its rows of 8 and 32 KiB). The paces of NCCL are fitted to the latter
table (decision 0020), so of these only the first is a prediction.
"""

from dataclasses import replace

import pytest

from sim.hardware.collective_library import AT_ONCE, BARRIER_READ, library, run_library
from sim.hardware.link import link_of, run_collective
from sim.hardware.spec import ChipSpec, load_chip
from sim.kernel.collective import Collective, Op, one_shot
from sim.resources import chip_dirs
from sim.units import PS_PER_US

KIB = 1024


def chip(name: str) -> ChipSpec:
    return load_chip(name, chip_dirs())


def all_reduce(gpus: int, size_bytes: int) -> Collective:
    return Collective(op=Op.ALL_REDUCE, ranks=gpus, per_node=gpus, size_bytes=size_bytes)


def nccl_us(spec: ChipSpec, size_bytes: int) -> float:
    """Return NCCL's time on 8 GPUs, from a stream as it was measured."""
    launch_ps = spec.stream_gap_ps + spec.kernel_start_ps
    what = all_reduce(8, size_bytes)
    return run_library(spec, what, library("nccl"), launch_ps=launch_ps).time_ps / PS_PER_US


def one_shot_us(gpus: int, size_bytes: int) -> float:
    """Return the time of vLLM's one-shot kernel on H100, from a graph."""
    spec = chip("h100-sxm")
    run = run_collective(
        spec,
        one_shot(all_reduce(gpus, size_bytes), hops=BARRIER_READ),
        pace=AT_ONCE,
        launch_ps=spec.cuda_graph_gap_ps + spec.kernel_start_ps,
    )
    return run.time_ps / PS_PER_US


def test_the_one_shot_kernel_takes_ten_microseconds_for_half_a_megabyte() -> None:
    """4 GPUs, within 15 %."""
    assert one_shot_us(4, 512 * KIB) == pytest.approx(10, rel=0.15)


@pytest.mark.parametrize(("name", "us"), [("h100-sxm", 15.6), ("a100-sxm-80gb", 21.77)])
def test_nccl_has_a_floor_whatever_it_sums(name: str, us: float) -> None:
    """8 GPUs: 1 KiB within 5 %, and 1 B takes nearly as long."""
    kib = nccl_us(chip(name), KIB)
    assert kib == pytest.approx(us, rel=0.05)
    assert nccl_us(chip(name), 1) > 0.95 * kib


def test_the_floor_is_the_latency_of_the_link() -> None:
    """Negative control: a link without latency and setup leaves the launch, 2.3 us."""
    spec = chip("h100-sxm")
    link = replace(link_of(spec), latency_ps=1, setup_ps=0, issue_ps=0)
    assert nccl_us(replace(spec, link=link), KIB) < 2.5


def test_one_shot_beats_the_ring_by_far_where_all_reduces_are_small() -> None:
    """8 H100, 16 KiB: 3.6 times within 15 %; at 4 MiB the bytes it sends to all make it slower."""
    spec = chip("h100-sxm")
    assert nccl_us(spec, 16 * KIB) / one_shot_us(8, 16 * KIB) == pytest.approx(3.6, rel=0.15)
    assert nccl_us(spec, 4096 * KIB) < one_shot_us(8, 4096 * KIB)
