"""Random batches of a serving engine, and what they cost by interpolation and run as one.

0 to 60 decodes with log-normal contexts (median 200 to 2,000, sigma 0.3 to 0.8) beside up to two
chunks of prompts that fill, or part of, a budget of 512 or 2,048 tokens, after 0 to 6,000 others.
"""

import random
from dataclasses import dataclass
from math import exp

import numpy as np

from sim.hardware.gpu import Gpu
from sim.hardware.spec import load_chip
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.model.architecture import Model
from sim.model.mixed import StepFormats
from sim.model.routing import draw_routing
from sim.model.step import Draws
from sim.resources import chip_dirs, engine_dirs
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.serve_device import ServeDevice
from sim.scenario.engines import load_engine
from sim.scenario.load import find_model
from sim.serving.exact_cost import ExactCost
from sim.serving.interpolated_cost import InterpolatedCost
from sim.serving.step_cost import BatchShape, Chunk, Price

GRAPH_SIZES = (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16))
_MOST_DECODES, _MOST_CONTEXT = 60, 16_000


def serve_device(chip: str, model_name: str) -> ServeDevice:
    """Return a device with vLLM's kernels, bf16 and no memory of earlier runs."""
    engine = load_engine("vllm", engine_dirs())
    model = find_model(model_name)
    return ServeDevice(
        device=Device(gpu=Gpu(spec=load_chip(chip, chip_dirs())), engine=engine, memo=Memo(None)),
        model=model,
        formats=StepFormats(
            weight_format=WEIGHT_FORMATS["bf16"],
            kv_format=KV_FORMATS["bf16"],
            merge_projections=engine.merge_projections,
        ),
        draws=lambda tokens: _draws(model, tokens),
    )


def _draws(model: Model, tokens: int) -> Draws:
    moe = model.moe
    if moe is None:
        return ()
    rng = np.random.default_rng([0, tokens])
    return (
        draw_routing("uniform", tokens=tokens, n_experts=moe.n_experts, top_k=moe.top_k, rng=rng),
    )


def random_batch(rng: random.Random) -> BatchShape:
    """Return a batch with all that a scheduler knows of it."""
    count = rng.choice([0] + [rng.randint(1, _MOST_DECODES)] * 5)
    median, sigma = rng.choice((200, 500, 1000, 2000)), rng.choice((0.3, 0.5, 0.8))
    contexts = tuple(
        sorted(
            min(_MOST_CONTEXT, max(2, int(median * exp(sigma * rng.gauss(0, 1)))))
            for _ in range(count)
        )
    )
    return BatchShape(
        decodes=count,
        context=sum(contexts),
        longest=max(contexts, default=0),
        squares=sum(context * context for context in contexts),
        contexts=contexts,
        chunks=_chunks(rng, count) if count == 0 or rng.random() < 0.5 else (),
    )


def _chunks(rng: random.Random, decodes: int) -> tuple[Chunk, ...]:
    budget = rng.choice((512, 2048)) - decodes
    tokens = rng.choice((budget, rng.randint(2, budget)))
    before = rng.choice((0, 0, 0, 512, rng.randint(0, 6000)))
    if rng.random() >= 0.3:
        return (Chunk(tokens=tokens, context=tokens + before),)
    second = rng.randint(2, max(2, budget // 4))
    first = max(2, tokens - second)
    return Chunk(tokens=first, context=first + before), Chunk(tokens=second, context=second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One batch priced in both ways."""

    shape: BatchShape
    interpolated: Price
    exact: Price

    @property
    def error(self) -> float:
        """Return by how much the interpolated time is too long."""
        return self.interpolated.time_ps / self.exact.time_ps - 1


def compare(chip: str, model: str, batches: int, seed: int) -> list[Compared]:
    """Return random batches priced in both ways."""
    rng = random.Random(seed)
    runs = serve_device(chip, model)
    interpolated = InterpolatedCost(runs=runs, graph_sizes=GRAPH_SIZES)
    exact = ExactCost(runs=runs, graph_sizes=GRAPH_SIZES)
    shapes = [random_batch(rng) for _ in range(batches)]
    return [
        Compared(shape=shape, interpolated=interpolated.price(shape), exact=exact.price(shape))
        for shape in shapes
    ]


def percentile(errors: list[float], share: float) -> float:
    """Return the percentile of absolute errors, the next higher one that occurs."""
    return float(np.percentile(np.abs(errors), share, method="higher"))
