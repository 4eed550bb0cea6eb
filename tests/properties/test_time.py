"""Law: every picosecond of every SM is charged to one cause, and of every step as well."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.measure.causes import CAUSES
from sim.model.step import build_step
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.step import run_step, share_out
from sim.scenario.references import find_model
from tests.properties.laws import causes_fill_the_time
from tests.strategies import ENGINE, Launch, address_maps, launches, real_chip

HOST_PS = 12_345_677


@given(launches(), st.data(), st.booleans())
def test_the_causes_of_a_run_sum_to_its_time_on_every_sm(
    launch: Launch, data: st.DataObject, symmetry: bool
) -> None:
    """SM-picoseconds over all causes are the makespan times the SMs, none below zero."""
    spec, kernel, l2 = launch
    gpu = Gpu(spec=spec, symmetry=symmetry, address_map=data.draw(address_maps(spec)))
    causes_fill_the_time(spec, gpu.run(kernel, l2))


def shares_are_fair(sm_ps: Counter[str], sm_count: int, total_ps: int) -> None:
    """The shares sum to the step, and none is a whole picosecond from its exact value."""
    shares = share_out(sm_ps, sm_count, total_ps)
    assert set(shares) == set(CAUSES)
    assert sum(shares.values()) == total_ps
    for cause, ps in shares.items():
        assert abs(ps * sm_count - sm_ps[cause]) < sm_count


@given(
    st.integers(1, 200),
    st.lists(st.integers(0, 10**12), min_size=len(CAUSES), max_size=len(CAUSES)),
)
def test_a_ledger_in_sm_picoseconds_shares_out_to_the_step(sm_count: int, ps: list[int]) -> None:
    """Rounding moves less than a picosecond per cause and loses none in all."""
    sm_ps = Counter(dict(zip(CAUSES, ps, strict=True)))
    sm_ps["tail"] += -sum(ps) % sm_count
    shares_are_fair(sm_ps, sm_count, sm_ps.total() // sm_count)


@pytest.mark.parametrize("model", ["qwen2.5-0.5b", "mamba-130m"])
def test_the_ledger_of_a_step_sums_to_the_step(model: str) -> None:
    """A real decode step, launch gaps and host time included, is charged to the picosecond."""
    graph = build_step(
        find_model(model),
        batch=3,
        q_len=1,
        context=500,
        weight_format=WEIGHT_FORMATS["bf16"],
        kv_format=KV_FORMATS["bf16"],
        merge_projections=True,
        routing_draws=(),
    )
    engine = replace(ENGINE, host_time_ps=HOST_PS)
    device = Device(gpu=Gpu(spec=real_chip("h100-sxm")), engine=engine, memo=Memo(None))
    step = run_step(graph, device)
    ledger = step.ledger_ps()
    kernels_ps = sum(row.time_ps for row in step.rows())
    n_kernels = sum(row.runs for row in step.rows())
    gaps_ps = n_kernels * device.gpu.spec.cuda_graph_gap_ps
    assert n_kernels > 100
    assert sum(ledger.values()) == step.time_ps == kernels_ps + gaps_ps + HOST_PS
    assert ledger["host"] == HOST_PS
    assert ledger["launch"] >= gaps_ps
    for operator in step.operators.values():
        assert operator.sm_ps.total() == operator.time_ps * step.sm_count


@given(launches())
def test_the_checker_rejects_a_lost_picosecond(launch: Launch) -> None:
    """One SM-picosecond less, or a cause below zero, breaks the law."""
    spec, kernel, l2 = launch
    run = Gpu(spec=spec).run(kernel, l2)
    with pytest.raises(AssertionError):
        causes_fill_the_time(spec, replace(run, time_ps=run.time_ps - 1))
    moved = {**run.sm_ps, "tensor": -1, "link": run.sm_ps["tensor"] + run.sm_ps["link"] + 1}
    with pytest.raises(AssertionError):
        causes_fill_the_time(spec, replace(run, sm_ps=moved))
