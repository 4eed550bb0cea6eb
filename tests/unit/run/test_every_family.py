"""Every family of models, engine profile and format runs a step on the device."""

import json
from pathlib import Path

import numpy as np
import pytest

from sim.hardware.gpu import Gpu
from sim.hardware.spec import load_chip
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.model.architecture import Model
from sim.model.importer import load_model
from sim.model.routing import draw_routing
from sim.model.step import build_step
from sim.resources import chip_dirs, engine_dirs, model_dirs
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.step import StepRun, run_step
from sim.scenario.engines import available_engines, load_engine
from sim.units import PS_PER_S

CONFIGS = Path(__file__).parents[3] / "scenarios" / "models"


def families() -> list[str]:
    """Return the smallest shipped model of each `model_type`, by its file's parameter table."""
    found: dict[str, tuple[int, str]] = {}
    with (CONFIGS / "PARAMS.tsv").open(encoding="utf-8") as table:
        next(table)
        for line in table:
            name, model_type, total = line.split("\t")[:3]
            found[model_type] = min(found.get(model_type, (int(total), name)), (int(total), name))
    return sorted(name for _, name in found.values())


def step(model: Model, *, q_len: int = 1, weights: str = "bf16", kv: str = "bf16",
         engine: str = "cuda_graph") -> StepRun:  # fmt: skip
    """Return a step of two sequences of 300 tokens on a B200."""
    device = Device(
        gpu=Gpu(spec=load_chip("b200", chip_dirs())),
        engine=load_engine(engine, engine_dirs()),
        memo=Memo(None),
    )
    moe, draws = model.moe, ()
    if moe is not None:
        facts = {"tokens": 2 * q_len, "n_experts": moe.n_experts, "top_k": moe.top_k}
        draws = (draw_routing("uniform", rng=np.random.default_rng(0), **facts),)
    graph = build_step(
        model,
        batch=2,
        q_len=q_len,
        context=300,
        weight_format=WEIGHT_FORMATS[weights],
        kv_format=KV_FORMATS[kv],
        merge_projections=device.engine.merge_projections,
        routing_draws=draws,
    )
    return run_step(graph, device)


def check(run: StepRun) -> None:
    """Assert what holds for every step: the ledger sums, and the roofline is not beaten."""
    spec = load_chip("b200", chip_dirs())
    assert sum(run.ledger_ps().values()) == run.time_ps
    assert run.hbm_bytes() * PS_PER_S <= run.time_ps * spec.hbm_bytes_per_s
    assert run.flop * PS_PER_S <= run.time_ps * max(spec.tensor_flop_per_s.values())


def shipped(name: str) -> Model:
    """Return a shipped model."""
    return load_model(name, search_dirs=model_dirs())


def test_the_smallest_models_cover_every_shipped_family() -> None:
    """Nothing that ships is left out of the tests below."""
    types = {json.loads(p.read_text("utf-8").replace("Infinity", "0")).get("model_type")
             for p in CONFIGS.glob("*/config.json")}  # fmt: skip
    assert len(families()) == len(types)


@pytest.mark.parametrize("name", families())
def test_a_decode_step_of_every_family_adds_up(name: str) -> None:
    """Decode of two sequences."""
    check(step(shipped(name)))


@pytest.mark.parametrize(
    "name",
    ["llama-3.2-1b", "olmoe-1b-7b-0924", "deepseek-v2-lite", "mamba-130m", "mamba2-1.3b",
     "recurrentgemma-2b", "lfm2-1.2b", "rwkv6-finch-1.6b", "rwkv7-g1-7.2b", "gemma-3-1b",
     "qwen3-next-80b-a3b"],
)  # fmt: skip
def test_a_prefill_step_adds_up_and_computes_more_than_a_decode_step(name: str) -> None:
    """256 new tokens after a prefix of 44."""
    prefill, decode = step(shipped(name), q_len=256), step(shipped(name))
    check(prefill)
    assert prefill.flop > 50 * decode.flop
    assert prefill.time_ps > decode.time_ps


@pytest.mark.parametrize("engine", available_engines(engine_dirs()))
def test_every_engine_profile_runs(engine: str) -> None:
    """The ledger sums under any launch mode, fusion and attention variant."""
    check(step(shipped("llama-3.2-1b"), engine=engine))


@pytest.mark.parametrize("engine", ["eager", "naive"])
def test_an_engine_without_graphs_and_fusion_is_slower(engine: str) -> None:
    """It launches more kernels, each after a longer gap, and moves more activations."""
    model = shipped("llama-3.2-1b")
    plain, tuned = step(model, engine=engine), step(model)
    assert plain.time_ps > 1.5 * tuned.time_ps
    assert plain.launch_ps > 2 * tuned.launch_ps


@pytest.mark.parametrize("weights", list(WEIGHT_FORMATS))
@pytest.mark.parametrize("kv", ["bf16", "fp8", "int8"])
def test_every_format_runs_and_none_moves_more_than_16_bits(weights: str, kv: str) -> None:
    """Fewer bits per weight or per cached value never mean more bytes."""
    model = shipped("qwen3-0.6b")
    run = step(model, weights=weights, kv=kv)
    check(run)
    assert run.hbm_bytes() <= step(model).hbm_bytes()
