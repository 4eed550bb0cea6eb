"""What a serving engine allocates beside weights and cache, as vLLM finds it when it starts.

vLLM runs one step of `max_num_batched_tokens` tokens and samples for `max_num_seqs` sequences, and
takes the peak of that run, the weights and what is allocated outside of PyTorch off its share of
the memory (`v1/worker/gpu_worker.py`, `determine_available_memory`). The context of CUDA itself
exists before and is not counted.
"""

from typing import Final

from sim.model.architecture import Model

SAMPLER_BYTES_PER_LOGIT: Final = 2 + 4 + 4 + 8 + 8 + 4 + 8
"""The sort of top-k and top-p sampling: logits in 16 bits and in fp32, sorted keys and int64
indices, the indices that go in, and a second buffer of keys and indices. It is what vLLM logs as
peaks on H100 (max_num_seqs 1024): 4.76 GiB for Llama-3.1-8B, 5.56 for Qwen3-0.6B, 7.38 for
gpt-oss-20b, within 1.5 % (llm-d-benchmark, `config_explorer/empirical-vllm-memory-results.md`)."""

RUNTIME_BYTES: Final = int(0.13 * 2**30)
TENSOR_PARALLEL_RUNTIME_BYTES: Final = int(0.55 * 2**30)
"""What is allocated outside of PyTorch while the engine starts, on one GPU and with NCCL (same
source)."""

STREAM_VALUE_BYTES: Final = 2


def profile_peak_bytes(
    model: Model, *, max_num_batched_tokens: int, max_num_seqs: int, layer_bytes: int = 0
) -> int:
    """Return the peak of activations of vLLM's profiling run, in bytes on one GPU.

    While the last tokens are sampled, hidden states and residual stream of all tokens are still
    there; every rank samples from all of the vocabulary. `layer_bytes` is the peak inside of the
    layers, which counts only where it is larger (few sequences, many tokens).
    """
    stream = 2 * max_num_batched_tokens * model.hidden * STREAM_VALUE_BYTES
    rows = min(max_num_seqs, max_num_batched_tokens)
    return stream + max(layer_bytes, rows * model.vocab * SAMPLER_BYTES_PER_LOGIT)


def runtime_bytes(tensor_parallel: int) -> int:
    """Return what one GPU has allocated outside of PyTorch; graphs come on top, uncounted.

    Releases before 0.21 leave the memory of CUDA graphs to what `gpu_memory_utilization` spares.
    """
    return RUNTIME_BYTES if tensor_parallel == 1 else TENSOR_PARALLEL_RUNTIME_BYTES
