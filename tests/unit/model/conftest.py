"""Fixtures for the tests of models: loading by name, and building steps with defaults."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.kernel.formats import BF16, KV_FORMATS
from sim.model.architecture import Model
from sim.model.importer import known_models, load_model
from sim.model.routing import draw_routing
from sim.model.step import StepGraph, build_step

MODELS = Path(__file__).parents[3] / "scenarios" / "models"
ALL_MODELS = known_models([MODELS])
BuildStep = Callable[..., StepGraph]


@cache
def _load(name: str) -> Model:
    return load_model(name, search_dirs=[MODELS])


@pytest.fixture
def load() -> Callable[[str], Model]:
    """Return a function from the name of a shipped model to the model."""
    return _load


@pytest.fixture(params=ALL_MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    """Return each of the models in turn."""
    return _load(str(request.param))


@pytest.fixture
def step() -> BuildStep:
    """Return a function that builds a step: one bf16 decode token unless told otherwise."""

    def build(model: Model, **shape: Any) -> StepGraph:  # noqa: ANN401 - whatever build_step takes
        facts: dict[str, Any] = {
            "batch": 1,
            "q_len": 1,
            "context": 1,
            "weight_format": BF16,
            "kv_format": KV_FORMATS["bf16"],
            "merge_projections": True,
            **shape,
        }
        if model.moe is not None and "routing_draws" not in facts:
            draw = draw_routing(
                "uniform",
                tokens=facts["batch"] * facts["q_len"],
                n_experts=model.moe.n_experts,
                top_k=model.moe.top_k,
                rng=np.random.default_rng(0),
            )
            facts["routing_draws"] = (draw,)
        return build_step(model, **facts)

    return build
