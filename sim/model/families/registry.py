"""The visible list of supported families: `model_type` of a config.json to its builder."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from sim.model.architecture import Model
from sim.model.config import Config
from sim.model.families import classic, deepseek, dense, experts, gemma4, hybrid, recurrent

BUILDERS: Final[MappingProxyType[str, Callable[[Config], Model]]] = MappingProxyType(
    {
        "bloom": classic.bloom,
        "cohere": dense.cohere,
        "dbrx": experts.dbrx,
        "deepseek_v2": deepseek.deepseek_v2,
        "deepseek_v3": deepseek.deepseek_v3,
        "deepseek_v32": deepseek.deepseek_v32,
        "falcon": classic.falcon,
        "falcon_mamba": recurrent.falcon_mamba,
        "gemma": dense.gemma,
        "gemma2": dense.gemma2,
        "gemma3": dense.gemma3,
        "gemma3_text": dense.gemma3,
        "gemma4": gemma4.gemma4,
        "gemma4_text": gemma4.gemma4,
        "gemma4_unified": gemma4.gemma4,
        "gemma4_unified_text": gemma4.gemma4,
        "glm4_moe": experts.glm4_moe,
        "glm4_moe_lite": deepseek.glm4_moe_lite,
        "gpt2": classic.gpt2,
        "gpt_neox": classic.gpt_neox,
        "gpt_oss": experts.gpt_oss,
        "gptj": classic.gptj,
        "granitemoehybrid": hybrid.granite_hybrid,
        "grok-1": experts.grok,
        "internlm": dense.internlm,
        "jamba": hybrid.jamba,
        "kimi_k2": deepseek.deepseek_v3,
        "lfm2": hybrid.lfm2,
        "llama": dense.llama,
        "mamba": recurrent.mamba,
        "mamba2": recurrent.mamba2,
        "minimax_m2": experts.minimax_m2,
        "mistral": dense.mistral,
        "mixtral": experts.mixtral,
        "nemotron_h": hybrid.nemotron_h,
        "olmo2": dense.olmo2,
        "olmoe": experts.olmoe,
        "opt": classic.opt,
        "phi": classic.phi,
        "phi3": dense.phi3,
        "phimoe": experts.phimoe,
        "qwen2": dense.qwen2,
        "qwen2_moe": experts.qwen2_moe,
        "qwen3": dense.qwen3,
        "qwen3_moe": experts.qwen3_moe,
        "qwen3_next": hybrid.qwen3_next,
        "recurrent_gemma": hybrid.recurrent_gemma,
        "rwkv6": recurrent.rwkv6,
        "rwkv7": recurrent.rwkv7,
        "starcoder2": dense.starcoder2,
        "zamba2": hybrid.zamba2,
    }
)
