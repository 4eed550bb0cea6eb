"""Rows of decode_e2e.csv: whole decode steps by published engines, on one GPU or shared by several.

Each engine is one profile of `scenarios/engines`, shared by all its rows. A row whose time holds
the prefill gets the prefill simulated and added. The `value` of a row is in its own `metric`.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Final

import numpy as np

from analysis.validate.case import Row, UnpredictableError, number
from analysis.validate.roofline import bytes_of, roofline_us
from sim.errors import InputError
from sim.hardware.gpu import Gpu
from sim.hardware.spec import ChipSpec
from sim.kernel.engine import Engine
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.model.architecture import Model
from sim.model.importer import load_model
from sim.model.parallel import shard
from sim.model.routing import draw_routing
from sim.model.step import StepGraph, build_step
from sim.resources import engine_dirs, model_dirs
from sim.run.device import Device
from sim.run.memo import Memo
from sim.run.step import run_step
from sim.scenario.engines import load_engine
from sim.units import PS_PER_S

# Apple's GPUs, which llama.cpp drives through Metal.
_APPLE: Final = re.compile(r"M\d")
# How engines of the table begin, and the profile that describes them.
_ENGINES: Final = (
    ("gpt-fast", "gpt_fast"),
    ("LMDeploy", "lmdeploy"),
    ("TensorRT-LLM v0.7", "tensorrt_llm_xqa"),
    ("TensorRT-LLM", "tensorrt_llm"),
    ("ThunderKittens", "megakernel"),
    ("llama.cpp no CUDA graph", "llama_cpp_2024_stream"),
    ("llama.cpp CUDA graph", "llama_cpp_2024"),
    ("llama.cpp", "llama_cpp"),
    ("vLLM", "vllm"),
    ("MLC-LLM", "mlc_llm"),
    ("llm-awq", "eager"),
)
# Profiles whose CUDA graphs are for a single token, and what runs several.
_WITHOUT_GRAPH: Final = MappingProxyType({"llama_cpp": "llama_cpp_stream"})
# Weight formats whose name in the table is not the format's own; None: not stated precisely.
_FORMATS: Final = MappingProxyType(
    {
        "int4-awq-g128": "int4",
        "int4-g32": "int4_g32",
        "MXFP4(moe)": "mxfp4_q8",
        "Q4_0": "q4_0",
        "Q4_0(QAT)": "q4_0_qat",
        "Q2_K_M": "q2_k_m",
        "Q4_K": "q4_k",
        "Q4_K_M": "q4_k_m",
        "Q8_0": "q8_0",
    }
)
_MODELS: Final = MappingProxyType(
    {
        "deepseek-r1-0528-671b": "deepseek-r1",
        "deepseek-r1-671b": "deepseek-r1",
        "deepseek-v3-671b": "deepseek-v3",
        "rwkv-7-7.2b": "rwkv7-g1-7.2b",
        "llama-8b": "llama-3.1-8b",
        "llama-8b(gqa)": "llama-3.1-8b",
        "llama-3-8b": "llama-3.1-8b",
        "llama-3-70b": "llama-3.1-70b",
        "llama-2-7b(mha)": "llama-2-7b",
        "mixtral-8x7b": "mixtral-8x7b-v0.1",
        "qwen2.5-coder-7b": "qwen2.5-7b",
        "qwen2.5-14b (deepseek-r1-distill)": "qwen2.5-14b",
        "qwen3-coder-30b-a3b": "qwen3-30b-a3b",
    }
)
# llama-bench and llama-batched-bench feed random token ids. What a model makes of them routes to
# few experts: from 4 to 32 sequences their steps grow by half of what uniform routing would read.
# One Zipf exponent fits gpt-oss-20b, gpt-oss-120b and Qwen3-30B-A3B on DGX Spark (build 7941).
# Routers with a correction bias, which training moves until the load is balanced (DeepSeek-V3,
# arXiv 2412.19437, section 2.1.2), are taken as uniform: Nemotron-3-Super grows as such.
_RANDOM_TOKENS_EXPONENT: Final = 1.4
# Microbatch of llama.cpp by default, and of the runs published in its folder `benches`.
_MICROBATCH: Final = 512
_BENCHES_MICROBATCH: Final = 2048
_ROUTING_SEED: Final = 0
_DRAWS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCase:
    """One decode step of `batch` sequences that bring `q_len` tokens each.

    A router's choice follows a Zipf law of `exponent`, 0 for uniform. If `prompt_len` is not 0, the
    time is that of a whole run: the prefill and `output_len - 1` decode steps at the middle
    context. `metric` is step_ms, tok_s_total or tok_s_per_user. `gpus` share the model by tensor
    parallelism; a roofline then is of one of them.
    """

    model: str
    engine: Engine
    weights: str
    kv: str
    batch: int
    q_len: int
    context: int
    metric: str
    exponent: float = 0.0
    window_slack: int = 0
    prompt_len: int = 0
    output_len: int = 0
    gpus: int = 1

    def predicted(self, chip: ChipSpec, memo: Memo) -> float:
        """Return the simulated value in the row's metric."""
        device = Device(gpu=Gpu(spec=chip), engine=self.engine, memo=memo)
        step_s = run_step(self._decode(), device).time_ps / PS_PER_S
        if not self.prompt_len:
            return self._in_metric(step_s)
        prefill_s = run_step(self._prefill(), device).time_ps / PS_PER_S
        run_s = prefill_s + (self.output_len - 1) * step_s
        return self._in_metric(run_s / self.output_len)

    def roofline(self, chip: ChipSpec) -> float:
        """Return the roofline value in the row's metric, prefill left out."""
        total_us = sum(roofline_us(op, chip) for _, op in self._decode().operators())
        return self._in_metric(total_us / 1e6)

    def moved_bytes(self) -> int:
        """Return the bytes of a decode step."""
        return sum(bytes_of(op) for _, op in self._decode().operators())

    def _decode(self) -> StepGraph:
        return self._step(q_len=self.q_len, context=self.context)

    def _prefill(self) -> StepGraph:
        return self._step(q_len=self.prompt_len, context=self.prompt_len)

    def _step(self, *, q_len: int, context: int) -> StepGraph:
        model = shard(_model(self.model), tensor=self.gpus)
        return build_step(
            model,
            batch=self.batch,
            q_len=q_len,
            context=context,
            weight_format=WEIGHT_FORMATS[self.weights],
            kv_format=KV_FORMATS[self.kv],
            merge_projections=self.engine.merge_projections,
            routing_draws=_draws(model, self.exponent, self.batch * q_len),
            window_slack=self.window_slack,
        )

    def _in_metric(self, step_s: float) -> float:
        match self.metric:
            case "step_ms":
                return 1000 * step_s
            case "tok_s_total":
                return self.batch * self.q_len / step_s
            case "tok_s_per_user":
                return 1 / step_s
        raise UnpredictableError(f"no metric {self.metric}")


def step_case(row: Row) -> StepCase:
    """Return what a row timed. Raises UnpredictableError for what we cannot tell or do not have."""
    if number(row, "n_gpus") != 1:
        raise UnpredictableError("several GPUs")
    return _case(row)


def shared_step_case(row: Row) -> StepCase:
    """Return what a row timed on GPUs that share a model by tensor parallelism and nothing else.

    Raises UnpredictableError as `step_case`, and for other kinds of sharing.
    """
    gpus = number(row, "n_gpus")
    if row["parallelism"] != f"TP{gpus}":
        raise UnpredictableError(f"no parallelism {row['parallelism']}")
    return replace(_case(row), gpus=gpus)


def _case(row: Row) -> StepCase:
    # One sequence that brings several tokens: llama.cpp's pp test with a small microbatch.
    together = "MICROBATCH" in row["notes"]
    tokens = number(row, "batch")
    in_run = row["prefill_in_time"].startswith("yes")
    q_len = tokens if together else 1
    return StepCase(
        model=_model_name(row["model"]),
        engine=_engine(_engine_name(row, tokens)),
        weights=_weights(row["weight_format"], row["engine"]),
        kv="fp8" if row["kv_dtype"].startswith("fp8") else "bf16",
        batch=1 if together else tokens,
        q_len=q_len,
        context=max(q_len, number(row, "context_mid") or number(row, "output_len") // 2 or 64),
        metric=row["metric"],
        exponent=_RANDOM_TOKENS_EXPONENT if row["engine"].startswith("llama.cpp") else 0.0,
        window_slack=_window_slack(row, together, tokens),
        prompt_len=number(row, "prompt_len") if in_run else 0,
        output_len=number(row, "output_len") if in_run else 0,
    )


def _window_slack(row: Row, together: bool, tokens: int) -> int:
    """Return what llama.cpp's cache of a windowed layer holds beyond the window: a microbatch.

    `llama_kv_cache_iswa` sizes it so; the CUDA kernels read all of it and mask.
    """
    if not row["engine"].startswith("llama.cpp") or _APPLE.match(row["gpu"]):
        return 0
    if together:
        return tokens
    return _BENCHES_MICROBATCH if "benches/" in row["source"] else _MICROBATCH


def _engine_name(row: Row, tokens: int) -> str:
    text = row["engine"]
    if text.startswith("llama.cpp") and _APPLE.match(row["gpu"]):
        return "llama_cpp_metal"
    for start, name in _ENGINES:
        if text.startswith(start):
            return _WITHOUT_GRAPH.get(name, name) if tokens > 1 else name
    raise UnpredictableError(f"no engine profile for {text}")


def _weights(text: str, engine: str) -> str:
    # gpt-fast quantises every linear layer, others leave the head alone.
    name = _FORMATS.get(text, text.lower())
    if name == "int8" and engine.startswith("gpt-fast"):
        name = "int8_linear"
    if name not in WEIGHT_FORMATS:
        raise UnpredictableError(f"no weight format {text}")
    return name


def _model_name(text: str) -> str:
    name = text.lower().removesuffix("-instruct")
    name = _MODELS.get(name, name)
    try:
        _model(name)
    except InputError:
        raise UnpredictableError(f"no model configuration of {text}") from None
    return name


@cache
def _model(name: str) -> Model:
    return load_model(name, search_dirs=model_dirs())


@cache
def _engine(name: str) -> Engine:
    return load_engine(name, engine_dirs())


def _draws(model: Model, exponent: float, tokens: int) -> tuple[tuple[int, ...], ...]:
    if model.moe is None:
        return ()
    routing = "zipf" if exponent and not model.moe.correction_bias else "uniform"
    rng = np.random.default_rng([_ROUTING_SEED, tokens])
    return tuple(
        draw_routing(
            routing,
            tokens=tokens,
            n_experts=model.moe.n_experts,
            top_k=model.moe.top_k,
            rng=rng,
            exponent=exponent,
        )
        for _ in range(_DRAWS)
    )
