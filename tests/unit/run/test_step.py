"""`sim.run.step`: layers counted, launch gaps, and ledgers that sum exactly."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware.gpu import Gpu, KernelRun
from sim.hardware.residency import EMPTY_L2, L2State, forget
from sim.kernel.engine import LaunchMode
from sim.kernel.kernel import Kernel
from sim.kernel.operators import Operator, Tensor, Traffic
from sim.measure.causes import CAUSES
from sim.model.step import Block, StepGraph
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.result import TrafficRow
from sim.run.step import (
    OperatorSum,
    StepRun,
    alive_after,
    launch_gap_ps,
    live_out,
    run_step,
    share_out,
)
from tests.unit.hardware.chips import toy_chip
from tests.unit.kernel.samples import elementwise, gemm
from tests.unit.run.scenarios import ENGINE, SHAPE

# Weights of one layer fit into L2, those of two do not.
CHIP = toy_chip(l2_bytes=5_000_000, sm_count=8, shared_memory_bytes=164 * 1024)
NORM = elementwise("norm", {"x": 4000}, {"a": 4000}, flop=2000)
PRODUCT = gemm(1, 1000, 2000)
# The residual stream `x` lives from layer to layer; `a` and `out` are made anew in each.
LAYER: tuple[Operator, ...] = (
    NORM,
    PRODUCT,
    elementwise("gate", {"out": 2000, "x": 4000}, {"x": 4000}, flop=1000),
)


def device(**engine: object) -> Device:
    return Device(gpu=Gpu(spec=CHIP), engine=replace(ENGINE, **engine), memo=Memo(None))  # type: ignore[arg-type]


def graph(*blocks: Sequence[Operator]) -> StepGraph:
    """Return a step of these blocks; blocks that are one object are layers built alike."""
    return StepGraph(
        shape=SHAPE,
        blocks=tuple(Block(index=i, operators=tuple(ops)) for i, ops in enumerate(blocks)),
    )


def one_by_one(step: StepGraph) -> tuple[int, int]:
    """Return (time, HBM bytes read) of a step whose every kernel is simulated in turn."""
    chip, l2, time_ps, missed = device(), EMPTY_L2, 0, 0
    for block in step.blocks:
        for op, alive in zip(block.operators, alive_after(block.operators), strict=True):
            for kernel in chip.tune(op):
                result = chip.gpu.run(kernel, l2)
                time_ps += result.time_ps
                missed += sum(result.missed_bytes)
                l2 = result.l2
            l2 = forget(l2, alive)
    return time_ps, missed


def test_layers_built_alike_count_as_often_as_they_occur() -> None:
    """Seven layers sum to what seven layers take one by one, and cost far fewer simulations."""
    step = graph(*[LAYER] * 7)
    result = run_step(step, device())
    time_ps, missed = one_by_one(step)
    assert sum(op.time_ps for op in result.operators.values()) == time_ps
    assert missed == sum(
        row.size_bytes for row in result.traffic() if (row.level, row.direction) == ("hbm", "read")
    )
    assert [op.runs for op in result.operators.values()] == [7, 7, 7]
    assert result.flop == 7 * (2000 + 2 * 1000 * 2000 + 1000)


def test_a_state_that_repeats_is_not_simulated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few layers L2 holds the same as before, so a hundred layers cost what ten do."""
    simulated: list[Kernel] = []
    run = Gpu.run

    def counted(gpu: Gpu, kernel: Kernel, l2: L2State = EMPTY_L2) -> KernelRun:
        simulated.append(kernel)
        return run(gpu, kernel, l2)

    monkeypatch.setattr(Gpu, "run", counted)
    counts = []
    for layers in (10, 100):
        simulated.clear()
        run_step(graph(*[LAYER] * layers), device())
        counts.append(len(simulated))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("launch", "gap_ps"), [(LaunchMode.STREAM, 3_000_000), (LaunchMode.CUDA_GRAPH, 2_000_000)]
)
def test_every_kernel_pays_its_launch_gap(launch: LaunchMode, gap_ps: int) -> None:
    """Two layers of three kernels are six gaps, and the host adds its time once."""
    chip = device(launch=launch)
    result = run_step(graph(LAYER, LAYER), chip)
    kernels = sum(op.time_ps for op in result.operators.values())
    assert launch_gap_ps(chip) == gap_ps
    assert result.launch_ps == 6 * gap_ps
    assert result.time_ps == kernels + 6 * gap_ps + 7_000_000
    assert result.ledger_ps()["host"] == 7_000_000


def test_the_ledger_sums_to_the_step() -> None:
    """Every cause is there, and their picoseconds are the step's."""
    result = run_step(graph(LAYER, LAYER), device())
    ledger = result.ledger_ps()
    assert list(ledger) == list(CAUSES)
    assert sum(ledger.values()) == result.time_ps
    sm_ps = sum(sum(op.sm_ps.values()) for op in result.operators.values())
    assert sm_ps == 8 * sum(op.time_ps for op in result.operators.values())


def test_traffic_is_counted_by_class_level_and_direction() -> None:
    """A cold pass over weights and activations: each byte at L2 and, if it misses, at HBM."""
    scale = Tensor(name="scale", size_bytes=800, traffic=Traffic.WEIGHTS)
    plain = elementwise("norm", {"x": 4000, "scale": 800}, {"y": 1000})
    op = replace(plain, inputs=(plain.inputs[0], scale))
    rows = run_step(graph([op]), device()).traffic()
    assert rows == (
        TrafficRow(traffic="activations", level="hbm", direction="read", size_bytes=4000),
        TrafficRow(traffic="activations", level="l2", direction="read", size_bytes=4000),
        TrafficRow(traffic="activations", level="l2", direction="write", size_bytes=1000),
        TrafficRow(traffic="weights", level="hbm", direction="read", size_bytes=800),
        TrafficRow(traffic="weights", level="l2", direction="read", size_bytes=800),
    )


def test_what_a_layer_leaves_in_l2_is_a_hit_in_the_next() -> None:
    """The residual stream is fetched once, the private weights by every layer."""
    result = run_step(graph(*[LAYER] * 3), device())
    traffic = {(r.traffic, r.level, r.direction): r.size_bytes for r in result.traffic()}
    assert traffic["activations", "hbm", "read"] == 4000
    assert traffic["weights", "hbm", "read"] == 3 * 2 * 1000 * 2000
    assert result.hbm_bytes() == sum(
        size for (_, level, _), size in traffic.items() if level == "hbm"
    )


def test_an_engine_s_fusions_make_fewer_kernels() -> None:
    """Addition and norm are one kernel, reported under both names."""
    chain = (elementwise("residual_add", {"x": 80, "y": 80}, {"x": 80}), NORM)
    fused = run_step(graph(chain), device())
    apart = run_step(graph(chain), device(fusions=()))
    assert list(fused.operators) == ["residual_add+norm"]
    assert list(apart.operators) == ["residual_add", "norm"]
    assert (fused.launch_ps, apart.launch_ps) == (2_000_000, 4_000_000)


def test_rows_name_the_kernel_and_what_bounds_it() -> None:
    """One row an operator, in execution order."""
    norm, product, gate = run_step(graph(LAYER, LAYER), device()).rows()
    assert (norm.operator, norm.kernel, norm.part, norm.runs) == ("norm", "norm", "mlp", 2)
    assert product.kernel.startswith("gemm_")
    assert product.hbm_bytes == 2 * 4_000_000
    # One CTA on one of eight SMs: the start of the kernel is most of its time.
    assert norm.bound == "launch"
    assert gate.hbm_bytes == 0


def test_later_use_keeps_a_tensor_alive() -> None:
    """What an operator and all before it may forget is what nobody reads or writes after."""
    assert alive_after(LAYER) == [
        frozenset({"a", "weight", "out", "x"}),
        frozenset({"out", "x"}),
        frozenset(),
    ]


def test_what_any_block_reads_first_outlives_the_others() -> None:
    """The residual stream, and each layer's own weights."""
    assert live_out(graph(LAYER, LAYER)) == {"x", "weight"}


def test_sums_add_with_a_multiplicity() -> None:
    """Three more of the same quadruple everything."""
    one = OperatorSum(
        part="mlp",
        kernels=Counter(a=1),
        runs=1,
        time_ps=5,
        flop=7,
        sm_ps=Counter(tensor=3),
        traffic=Counter({("kv", "l2", "read"): 2}),
    )
    total = OperatorSum(part="mlp")
    total.add(one)
    total.add(one, 3)
    assert (total.runs, total.time_ps, total.flop) == (4, 20, 28)
    assert total.kernels == {"a": 4}
    assert total.sm_ps == {"tensor": 12}
    assert total.traffic == {("kv", "l2", "read"): 8}


def test_an_empty_step_is_its_host_time() -> None:
    """No kernel, no gap."""
    step = StepRun(operators={}, sm_count=8, launch_ps=0, host_ps=5)
    assert step.time_ps == 5
    assert {cause: ps for cause, ps in step.ledger_ps().items() if ps} == {"host": 5}


@given(
    parts=st.lists(st.integers(0, 10**9), min_size=len(CAUSES), max_size=len(CAUSES)),
    sm_count=st.integers(1, 200),
)
def test_sm_time_is_shared_out_to_the_picosecond(parts: list[int], sm_count: int) -> None:
    """Shares sum to the whole, and each is its exact value rounded down or up."""
    parts[0] += -sum(parts) % sm_count
    sm_ps = Counter(dict(zip(CAUSES, parts, strict=True)))
    total = sum(parts) // sm_count
    shares = share_out(sm_ps, sm_count, total)
    assert sum(shares.values()) == total
    assert all(0 <= shares[c] * sm_count - sm_ps[c] + sm_count - 1 < 2 * sm_count for c in CAUSES)


def test_the_imbalance_of_a_step_weighs_its_operators_by_their_reads() -> None:
    """Ten bytes even and thirty as if they were 60: 70 over 40. Writes do not count."""
    read, write = ("kv", "hbm", "read"), ("kv", "hbm", "write")
    operators = {
        "even": OperatorSum(part="p", busiest_bytes=10, traffic=Counter({read: 10, write: 99})),
        "camps": OperatorSum(part="p", busiest_bytes=60, traffic=Counter({read: 30})),
        "idle": OperatorSum(part="p"),
    }
    step = StepRun(operators=operators, sm_count=1, launch_ps=0, host_ps=0)
    assert step.channel_imbalance() == 70 / 40
    assert [row.channel_imbalance for row in step.rows()] == [1.0, 2.0, 1.0]


def test_added_sums_keep_their_busiest_bytes() -> None:
    total = OperatorSum(part="p", busiest_bytes=5)
    total.add(OperatorSum(part="p", busiest_bytes=7), times=3)
    assert total.busiest_bytes == 26


def test_dram_causes_add_up_over_kernels_and_layers() -> None:
    """Twice one operator and once another, cause by cause; empty where nobody looked."""
    one = OperatorSum(part="mlp", dram_ps=Counter({"data": 3, "idle": 1}))
    total = OperatorSum(part="mlp")
    total.add(one, 2)
    total.add(OperatorSum(part="mlp", dram_ps=Counter({"faw": 5})))
    assert total.dram_ps == {"data": 6, "idle": 2, "faw": 5}
    step = StepRun(operators={"a": one, "b": total}, sm_count=1, launch_ps=0, host_ps=0)
    assert step.dram_ps() == {"data": 9, "faw": 5, "idle": 3}
    assert run_step(graph(LAYER), device()).dram_ps() == {}
