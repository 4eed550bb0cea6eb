"""Exchanges in a step: the library's time, charged and counted, and what they leave in L2."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from analysis.collective_rows import collective_us
from sim.errors import InputError
from sim.hardware.gpu import Gpu
from sim.hardware.residency import EMPTY_L2, Resident
from sim.hardware.spec import ChipSpec, load_chip
from sim.kernel.collective import Collective, Op
from sim.kernel.formats import BF16, KV_FORMATS
from sim.kernel.operators import Exchange, Operator, Tensor, Traffic
from sim.measure.causes import CAUSES
from sim.model.importer import load_model
from sim.model.parallel import shard
from sim.model.routing import draw_routing
from sim.model.step import Block, StepGraph, build_step
from sim.resources import chip_dirs, engine_dirs, model_dirs
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.result import TrafficRow
from sim.run.step import StepRun, run_exchange, run_step
from sim.scenario.engines import load_engine
from tests.unit.hardware.chips import START_PS
from tests.unit.hardware.links import HOP_PS, linked_chip
from tests.unit.run.scenarios import ENGINE
from tests.unit.run.test_step import SHAPE

SIZE = 400_000
CHIP = replace(linked_chip(), l2_bytes=4 * SIZE)
X = Tensor(name="x", size_bytes=SIZE, traffic=Traffic.ACTIVATIONS)
TWICE = replace(X, name="all", size_bytes=2 * SIZE)


def exchange(op: Op, inputs: Tensor, outputs: Tensor, size_bytes: int) -> Exchange:
    return Exchange(
        name="exchange",
        part="mlp",
        what=Collective(op=op, ranks=2, per_node=2, size_bytes=size_bytes),
        inputs=(inputs,),
        outputs=(outputs,),
    )


SUM = exchange(Op.ALL_REDUCE, X, X, SIZE)
GATHER = exchange(Op.ALL_GATHER, X, TWICE, 2 * SIZE)


def device(chip: ChipSpec | None = None, library: str = "vllm") -> Device:
    engine = replace(ENGINE, collectives=library)
    return Device(gpu=Gpu(spec=chip or CHIP), engine=engine, memo=Memo(None))


def step_of(*operators: Operator, chip: ChipSpec | None = None) -> StepRun:
    blocks = (Block(index=0, operators=operators),)
    return run_step(StepGraph(shape=SHAPE, blocks=blocks), device(chip))


def test_a_sum_takes_launch_bytes_hops_and_a_copy() -> None:
    """One-shot: 1 ps a byte, four hops of 1 us, 2.5 ps a byte to copy, after a gap of 2 us."""
    step = step_of(SUM)
    time_ps = START_PS + SIZE + 4 * HOP_PS + SIZE * 5 // 2
    assert [row.time_ps for row in step.rows()] == [time_ps]
    assert step.time_ps == time_ps + 2_000_000 + ENGINE.host_time_ps
    ledger = step.ledger_ps()
    assert sum(ledger.values()) == step.time_ps
    assert {cause: ps for cause, ps in ledger.items() if ps} == {
        "hbm_bandwidth": SIZE * 5 // 2,
        "link": SIZE,
        "link_latency": 4 * HOP_PS,
        "launch": START_PS + 2_000_000,
        "host": ENGINE.host_time_ps,
    }


def test_bytes_over_the_link_are_a_level_of_their_own() -> None:
    """What this GPU sends: the whole vector in one shot, its half of a gather."""
    for op in (SUM, GATHER):
        assert step_of(op).traffic() == (
            TrafficRow(traffic="activations", level="link", direction="write", size_bytes=SIZE),
        )
        assert step_of(op).hbm_bytes() == 0


def test_the_row_names_operation_and_algorithm() -> None:
    """As kernels are named by their tile."""
    assert [row.kernel for row in step_of(SUM).rows()] == ["all_reduce one-shot"]
    assert [row.kernel for row in step_of(GATHER).rows()] == ["all_gather ring"]


def test_what_was_gathered_is_in_l2_and_what_was_summed_stays() -> None:
    """The next kernel finds it there, newer than HBM."""
    held = (Resident(name="x", traffic=X.traffic, resident_bytes=SIZE, dirty_bytes=SIZE),)
    assert run_exchange(SUM, device(), held)[1] == held
    whole = Resident(name="all", traffic=X.traffic, resident_bytes=2 * SIZE, dirty_bytes=2 * SIZE)
    assert run_exchange(GATHER, device(), held)[1] == (*held, whole)


def test_what_has_no_room_in_l2_is_written_back() -> None:
    """A gather larger than L2 leaves a full L2, and the rest in HBM."""
    chip = replace(CHIP, l2_bytes=SIZE)
    total, l2 = run_exchange(GATHER, device(chip), EMPTY_L2)
    assert [(e.name, e.resident_bytes) for e in l2] == [("all", SIZE)]
    assert total.traffic["activations", "hbm", "write"] == SIZE


def test_an_exchange_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time nothing is simulated."""
    chip = device()
    first = chip.exchange(SUM.what)
    monkeypatch.setattr("sim.run.device.run_library", None)
    assert chip.exchange(SUM.what) is first


def test_a_chip_without_a_link_cannot_take_part() -> None:
    """The message names the chip's file and the table that is missing."""
    with pytest.raises(InputError, match=r"toy.toml: link: this chip has no \[link\]"):
        step_of(SUM, chip=replace(CHIP, link=None))


@pytest.mark.parametrize("size", [10_240, 655_360, 20 * 2**20])
@pytest.mark.parametrize(("chip", "ranks"), [("h100-sxm", 4), ("RTXPRO6000", 2)])
def test_a_step_s_sum_takes_what_the_measured_table_s_rows_would(
    chip: str, ranks: int, size: int
) -> None:
    """The rows of a benchmark of vLLM's kernels in graphs go the same way: gap and kernel."""
    spec = load_chip(chip, chip_dirs())
    what = Collective(op=Op.ALL_REDUCE, ranks=ranks, per_node=ranks, size_bytes=size)
    run = device(spec).exchange(what)
    row = {
        "gpu": chip,
        "framework": "vllm-0.24.0:vLLM_custom_graph",
        "op": "all_reduce",
        "gpus": str(ranks),
        "bytes": str(size),
    }
    expected_us = collective_us(row, spec)
    assert (run.time_ps + spec.cuda_graph_gap_ps) / 1e6 == pytest.approx(expected_us, rel=1e-9)


def step_on(chip: str, name: str, *, tensor: int, batch: int, q_len: int = 1) -> StepRun:
    """Return a step of a shipped model that `tensor` GPUs share."""
    model = shard(load_model(name, search_dirs=model_dirs()), tensor=tensor)
    graph = build_step(
        model,
        batch=batch,
        q_len=q_len,
        context=max(512, q_len),
        weight_format=BF16,
        kv_format=KV_FORMATS["bf16"],
        merge_projections=True,
    )
    gpu = Gpu(spec=load_chip(chip, chip_dirs()))
    engine = load_engine("vllm", engine_dirs())
    return run_step(graph, Device(gpu=gpu, engine=engine, memo=Memo(None)))


@pytest.mark.parametrize(("batch", "q_len"), [(1, 1), (1, 2048)])
def test_more_gpus_are_faster_over_nvlink(batch: int, q_len: int) -> None:
    """A 32B model, decode and prefill: each doubling helps, and never by more than it divides."""
    times = [
        step_on("h100-sxm", "qwen3-32b", tensor=t, batch=batch, q_len=q_len) for t in (1, 2, 4)
    ]
    for few, many in pairwise(times):
        gpu_ps = [step.time_ps - step.host_ps for step in (few, many)]
        assert 0.5 < gpu_ps[1] / gpu_ps[0] < 0.75


def test_pcie_costs_prefill_more_than_nvlink() -> None:
    """The share of the link in a prefill of two GPUs: a fifth over PCIe 5, little over NVLink."""
    shares = {}
    for chip in ("h100-sxm", "RTXPRO6000"):
        step = step_on(chip, "qwen3-32b", tensor=2, batch=1, q_len=2048)
        shares[chip] = step.ledger_ps()["link"] / step.time_ps
    assert shares["h100-sxm"] < 0.1
    assert 0.15 < shares["RTXPRO6000"] < 0.3


def test_a_step_with_experts_on_two_gpus_sums() -> None:
    """Gathered and scattered bytes are counted, every picosecond is charged."""
    model = shard(load_model("olmoe-1b-7b-0924", search_dirs=model_dirs()), expert=2)
    draw = draw_routing("uniform", tokens=8, n_experts=64, top_k=8, rng=np.random.default_rng(0))
    graph = build_step(
        model,
        batch=4,
        q_len=1,
        context=100,
        weight_format=BF16,
        kv_format=KV_FORMATS["bf16"],
        merge_projections=True,
        routing_draws=(draw,),
    )
    step = run_step(graph, device(load_chip("RTXPRO6000", chip_dirs())))
    ledger = step.ledger_ps()
    assert list(ledger) == list(CAUSES)
    assert sum(ledger.values()) == step.time_ps
    sent = [row.size_bytes for row in step.traffic() if row.level == "link"]
    assert sent == [16 * 4 * ((2048 * 2 + 8 * 8) + 2048 * 2)]
