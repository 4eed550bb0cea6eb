"""Parts of steps on the device: what is asked, what is remembered, what they sum to."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest

from sim.hardware.gpu import Gpu, KernelRun
from sim.hardware.residency import L2State
from sim.hardware.spec import load_chip
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.kernel.kernel import Kernel
from sim.model.mixed import Group, StepFormats, build_mixed_step
from sim.model.step import build_step
from sim.resources import chip_dirs, engine_dirs
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.serve_device import ServeDevice
from sim.run.step import run_step
from sim.scenario.engines import load_engine
from sim.scenario.load import find_model
from sim.serving.step_cost import COLUMNS, N_CAUSES, Columns

FORMATS = StepFormats(
    weight_format=WEIGHT_FORMATS["bf16"], kv_format=KV_FORMATS["bf16"], merge_projections=True
)
DECODES = Group(count=6, q_len=1, context=700)
CHUNK = Group(count=1, q_len=200, context=500)


@dataclass(slots=True, kw_only=True)
class CountingDevice(Device):
    """A device that counts the kernels it simulates."""

    simulated: int = 0

    def simulate(self, kernel: Kernel, l2: L2State) -> KernelRun:
        """Simulate a kernel and count it."""
        self.simulated += 1
        return self.gpu.run(kernel, l2)


def serve_device(
    model: str = "llama-3.2-1b", chip: str = "h100-sxm", memo: Memo | None = None
) -> ServeDevice:
    """Return a device without routing."""
    return ServeDevice(
        device=CountingDevice(
            gpu=Gpu(spec=load_chip(chip, chip_dirs())),
            engine=load_engine("vllm", engine_dirs()),
            memo=memo or Memo(None),
        ),
        model=find_model(model),
        formats=FORMATS,
        draws=lambda tokens: (),
    )


def simulated(runs: ServeDevice) -> int:
    """Return how many kernels were simulated so far."""
    assert isinstance(runs.device, CountingDevice)
    assert isinstance(runs._scratch, CountingDevice)
    return runs.device.simulated + runs._scratch.simulated


def time_ps(columns: Columns) -> float:
    """Return the sum of all causes."""
    return float(columns[:N_CAUSES].sum())


@pytest.mark.parametrize("chip", ["h100-sxm", "a100-sxm"])
@pytest.mark.parametrize("group", [DECODES, CHUNK])
def test_a_whole_step_of_one_group_is_the_step_of_equal_sequences(chip: str, group: Group) -> None:
    runs = serve_device(chip=chip)
    step = run_step(
        build_step(
            find_model("llama-3.2-1b"),
            batch=group.count,
            q_len=group.q_len,
            context=group.context,
            weight_format=FORMATS.weight_format,
            kv_format=FORMATS.kv_format,
            merge_projections=FORMATS.merge_projections,
        ),
        runs.device,
    )
    whole = runs.whole((group,), group.tokens)
    assert round(time_ps(whole)) == step.time_ps
    assert whole[-2:].tolist() == [step.hbm_bytes(), step.flop]
    exact = list(step.ledger_ps().values())
    assert np.abs(whole[:N_CAUSES] - exact).max() <= 1.0


@pytest.mark.parametrize(
    "groups", [(DECODES,), (CHUNK,), (DECODES, CHUNK)], ids=["decode", "prefill", "mixed"]
)
@pytest.mark.parametrize("chip", ["h100-sxm", "a100-sxm"])
def test_parts_sum_to_the_whole_step(chip: str, groups: tuple[Group, ...]) -> None:
    runs = serve_device(chip=chip)
    tokens, count = (sum(getattr(g, name) for g in groups) for name in ("tokens", "count"))
    form = "mixed" if len(groups) > 1 else "decode" if groups[0] is DECODES else "prefill"
    parts = runs.tokens(tokens, form) + runs.head(count) + runs.host(count)
    parts = parts + runs.sequences(groups)
    whole = runs.whole(groups, tokens)
    assert time_ps(parts) == pytest.approx(time_ps(whole), rel=0.01)
    assert parts[-2:] == pytest.approx(whole[-2:], rel=0.01)


def test_the_same_question_is_simulated_once() -> None:
    runs = serve_device()
    first = runs.sequences((DECODES,))
    before = simulated(runs)
    assert before > 0
    assert runs.sequences((DECODES,)) is first
    assert simulated(runs) == before


def test_the_memo_answers_another_device_with_equal_columns() -> None:
    memo = Memo(None)
    first, second = serve_device(memo=memo), serve_device(memo=memo)
    for ask in (
        lambda runs: runs.tokens(24, "decode"),
        lambda runs: runs.head(3),
        lambda runs: runs.sequences((DECODES, Group(count=2, q_len=1, context=90))),
        lambda runs: runs.whole((CHUNK,), 200),
    ):
        assert ask(first).tolist() == ask(second).tolist()
    assert simulated(second) == 0


def test_other_models_have_answers_of_their_own() -> None:
    memo = Memo(None)
    small, large = serve_device(memo=memo), serve_device("llama-3.1-8b", memo=memo)
    assert time_ps(small.head(1)) < time_ps(large.head(1))


def test_padded_rows_cost_what_as_many_tokens_do() -> None:
    """Three sequences padded to eight rows, and eight sequences, compute the same projections."""
    runs = serve_device()
    seen = {}
    for count in (3, 8):
        graph = build_mixed_step(
            runs.model, [replace(DECODES, count=count)], FORMATS, padded_tokens=8
        )
        operators = run_step(graph, runs.device).operators
        seen[count] = {name: operators[name].time_ps for name in ("qkv", "o", "gate_up", "down")}
    assert seen[3] == pytest.approx(seen[8], rel=1e-4)


def test_where_the_same_operators_see_tokens_decodes_cost_the_same_beside_a_chunk() -> None:
    runs = serve_device()
    alone = runs.sequences((DECODES,))
    before = simulated(runs)
    assert runs.sequences((DECODES,), beside=True) is alone
    assert simulated(runs) == before


def test_beside_prompts_decodes_on_latent_caches_have_projections_of_their_own() -> None:
    runs = serve_device("deepseek-v2-lite")
    runs.draws = lambda tokens: ((tokens,) * 6 + (0,) * 58,)
    group = (Group(count=2, q_len=1, context=64),)
    alone, beside = runs.sequences(group), runs.sequences(group, beside=True)
    assert beside[COLUMNS.index("flop")] > alone[COLUMNS.index("flop")]


@pytest.mark.parametrize(("chip", "mixes"), [("h100-sxm", False), ("a100-sxm", True)])
def test_flash_attention_2_runs_chunks_and_decodes_in_one_kernel(chip: str, mixes: bool) -> None:
    assert serve_device(chip=chip).mixes is mixes


def test_rough_answers_are_within_a_few_per_cent() -> None:
    runs = serve_device()
    groups = (DECODES, Group(count=3, q_len=1, context=2000))
    fine, rough = runs.sequences(groups), runs.sequences(groups, rough=True)
    assert time_ps(rough) == pytest.approx(time_ps(fine), rel=0.08)
    assert rough[-1] == fine[-1]


@pytest.mark.parametrize("rows", [64, 512, 1024])
def test_token_wise_operators_find_l2_as_they_do_in_a_whole_step(rows: int) -> None:
    """Few rows stay in L2; of many, operators find what those before them left there."""
    runs = serve_device()
    group = Group(count=1, q_len=rows, context=rows)
    parts = runs.tokens(rows, "prefill") + runs.head(1) + runs.host(1) + runs.sequences((group,))
    whole = runs.whole((group,), rows)
    assert parts[-2] == pytest.approx(whole[-2], rel=0.02)
    assert time_ps(parts) == pytest.approx(time_ps(whole), rel=0.01)


def test_more_decodes_longer_contexts_and_longer_chunks_take_longer() -> None:
    """Within what waves allow: one more sequence may fill a hole."""
    runs = serve_device()

    def taken(count: int, q_len: int, context: int) -> float:
        return time_ps(runs.sequences((Group(count=count, q_len=q_len, context=context),)))

    for rising in (
        [taken(count, 1, 2000) for count in (1, 4, 16, 64)],
        [taken(16, 1, context) for context in (100, 1000, 4000, 16000)],
        [taken(1, q_len, 4096) for q_len in (64, 256, 1024, 4096)],
    ):
        assert all(b >= a * 0.98 for a, b in pairwise(rising))
