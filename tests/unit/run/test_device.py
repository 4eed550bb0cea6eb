"""`sim.run.device`: kernels run once, operators tuned once."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sim.hardware.gpu import Gpu, KernelRun
from sim.hardware.residency import EMPTY_L2, L2State, Resident
from sim.kernel.engine import LaunchMode
from sim.kernel.kernel import Kernel
from sim.kernel.lower import lower
from sim.kernel.operators import Operator, Traffic
from sim.run.device import SIMULATED_CANDIDATES, Device, warm_activations
from sim.run.memo import Memo
from tests.unit.hardware.chips import toy_chip
from tests.unit.kernel.samples import attention, elementwise, gemm, grouped_gemm
from tests.unit.run.scenarios import ENGINE

CHIP = toy_chip(l2_bytes=10**6, sm_count=8, shared_memory_bytes=164 * 1024)
PASS = elementwise("norm", {"x": 4000}, {"y": 4000}, flop=100)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[Kernel]:
    """Return the list that every simulated kernel is appended to."""
    kernels: list[Kernel] = []
    run = Gpu.run

    def counted(gpu: Gpu, kernel: Kernel, l2: L2State = EMPTY_L2) -> KernelRun:
        kernels.append(kernel)
        return run(gpu, kernel, l2)

    monkeypatch.setattr(Gpu, "run", counted)
    return kernels


def device(memo: Memo | None = None, **knobs: bool) -> Device:
    return Device(gpu=Gpu(spec=CHIP, **knobs), engine=ENGINE, memo=memo or Memo(None))


def sequences(op: Operator) -> list[tuple[Kernel, ...]]:
    return list(lower(op, device().gpu.target(), ENGINE))


def test_a_kernel_is_simulated_once_for_each_state_of_l2(simulated: list[Kernel]) -> None:
    """Cold twice, warm twice: two simulations."""
    chip = device()
    ((kernel,),) = sequences(PASS)
    warm = (Resident(name="x", traffic=Traffic.ACTIVATIONS, resident_bytes=4000, dirty_bytes=0),)
    runs = [chip.run(kernel, l2) for l2 in (EMPTY_L2, warm, EMPTY_L2, warm)]
    assert simulated == [kernel, kernel]
    assert runs[0] == runs[2] == Gpu(spec=CHIP).run(kernel)
    assert runs[1] == runs[3]
    assert runs[1].time_ps < runs[0].time_ps


def test_a_memo_serves_another_device_of_the_same_kind_only(simulated: list[Kernel]) -> None:
    """What was simulated with symmetry is not taken for a run without."""
    memo = Memo(None)
    ((kernel,),) = sequences(PASS)
    for symmetry in (True, True, False):
        device(memo, symmetry=symmetry).run(kernel, EMPTY_L2)
    assert len(simulated) == 2


def test_tuning_takes_the_fastest_of_the_candidates_it_simulates(simulated: list[Kernel]) -> None:
    """With weights cold and activations warm, as the operator will find them."""
    op = gemm(4, 2048, 2048)
    (chosen,) = device().tune(op)
    assert len({k.name for k in simulated}) <= SIMULATED_CANDIDATES < len(sequences(op))
    l2 = warm_activations(op, CHIP.l2_bytes)
    times = {k.name: Gpu(spec=CHIP).run(k, l2).time_ps for k in list(simulated)}
    assert times[chosen.name] == min(times.values())


def test_tuning_is_within_a_tenth_of_the_best_of_all_candidates() -> None:
    """The estimate ranks well enough that the few best hold a good one."""
    op = gemm(4, 2048, 2048)
    l2 = warm_activations(op, CHIP.l2_bytes)
    gpu = Gpu(spec=CHIP)
    best = min(gpu.run(s[0], l2).time_ps for s in sequences(op) if len(s) == 1)
    chosen = device().tune(op)
    assert gpu.run(chosen[0], l2).time_ps <= best * 1.1


def test_an_operator_is_tuned_once(simulated: list[Kernel]) -> None:
    """The second time, and on the next device with the memo, nothing is simulated."""
    memo = Memo(None)
    first = device(memo).tune(gemm(4, 2048, 2048))
    count = len(simulated)
    assert device(memo).tune(gemm(4, 2048, 2048)) == first
    assert len(simulated) == count > 0


def test_an_engine_is_part_of_the_question() -> None:
    """Two profiles that lower attention differently do not share a choice."""
    memo = Memo(None)
    chip = device(memo)
    naive = replace(ENGINE, attention=type(ENGINE.attention).NAIVE)
    other = Device(gpu=chip.gpu, engine=naive, memo=memo)
    assert chip.tune(attention()) != other.tune(attention())


def test_a_single_alternative_is_taken_without_simulating(simulated: list[Kernel]) -> None:
    """There is nothing to choose for an element-wise pass."""
    assert device().tune(PASS) == sequences(PASS)[0]
    assert simulated == []


def test_an_operator_without_work_is_no_kernel(simulated: list[Kernel]) -> None:
    """Tuned twice, to show that the empty answer is remembered, too."""
    chip = device()
    nothing = grouped_gemm((0, 0), 64, 64)
    assert chip.tune(nothing) == chip.tune(nothing) == ()
    assert simulated == []


def names(state: Sequence[Resident]) -> list[tuple[str, int]]:
    return [(entry.name, entry.resident_bytes) for entry in state]


def test_tuning_finds_activations_in_l2_and_weights_not() -> None:
    """As after the kernel that wrote them; as much as fits, in the order they are read."""
    op = gemm(4, 2048, 2048)
    assert names(warm_activations(op, 10**6)) == [("a", 4 * 2048 * 2)]
    assert names(warm_activations(op, 100)) == [("a", 100)]
    two = elementwise("gate", {"x": 80, "y": 80}, {"z": 80})
    assert names(warm_activations(two, 100)) == [("x", 80), ("y", 20)]
    assert names(warm_activations(two, 80)) == [("x", 80)]
    assert all(entry.dirty_bytes == 0 for entry in warm_activations(two, 100))


def test_an_operator_without_activations_starts_cold() -> None:
    """Nothing to read is an empty cache."""
    assert warm_activations(elementwise("gate", {}, {"z": 80}), 100) == EMPTY_L2


def test_parts_of_a_megakernel_start_with_warm_instruction_caches() -> None:
    """Its code is fetched once; the same operator of a graph pays for every kernel."""
    graph = device()
    persistent = replace(graph, engine=replace(ENGINE, launch=LaunchMode.MEGAKERNEL))
    op = gemm(4, 512, 512)
    assert {kernel.setup_round_trips for kernel in persistent.tune(op)} == {0}
    assert any(kernel.setup_round_trips for kernel in graph.tune(op))
