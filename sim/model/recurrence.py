"""A recurrence with a matrix state per head, as one decode step or as a chunked scan.

Recurrent states are fp32: SGLang's default (`configs/mamba_utils.py`), llama.cpp's recurrent
cache, flash-linear-attention's kernels and NVIDIA's Nemotron-H configurations
(`mamba_ssm_cache_dtype: float32`). vLLM's `mamba_ssm_cache_dtype = auto` follows the model's 16
bits unless the model asks for more, which halves these bytes.
"""

from dataclasses import dataclass

from sim.kernel.operators import ChunkedScan, StateUpdate, Tensor
from sim.model.emitter import Emitter

STATE_VALUE_BYTES = 4
"""Size of a value of a recurrent state: fp32 (see above)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """The arithmetic of a recurrence; every number is per token and sequence.

    `n_heads` slices of the state run independently; `state_values` counts all of them;
    `step_flop` and `sfu_ops` are the vector work of one token; in prefill `scan_tensor_flop` of
    tensor work and `scan_vector_flop` replace `step_flop`, over chunks of `chunk` tokens;
    `key_dim` is the width of the keys of a delta rule.
    """

    name: str
    n_heads: int
    state_values: int
    step_flop: int
    sfu_ops: int
    chunk: int
    scan_tensor_flop: int
    scan_vector_flop: int
    key_dim: int | None = None

    def state_bytes(self, batch: int) -> int:
        """Return the size of the recurrent states of `batch` sequences."""
        return batch * self.state_values * STATE_VALUE_BYTES

    def emit(
        self, emitter: Emitter, inputs: tuple[Tensor, ...], out: Tensor, *, part: str
    ) -> Tensor:
        """Append the state update (decode) or the chunked scan (prefill) and return `out`."""
        shape = emitter.shape
        state = emitter.state("state", self.state_bytes(shape.batch))
        if shape.is_decode:
            emitter.add(
                StateUpdate(
                    name=self.name,
                    part=part,
                    batch=shape.batch,
                    n_heads=self.n_heads,
                    state=state,
                    inputs=inputs,
                    outputs=(out,),
                    vector_flop=shape.tokens * self.step_flop,
                    sfu_ops=shape.tokens * self.sfu_ops,
                )
            )
            return out
        emitter.add(
            ChunkedScan(
                name=self.name,
                part=part,
                batch=shape.batch,
                n_heads=self.n_heads,
                q_len=shape.q_len,
                chunk=self.chunk,
                state=state,
                inputs=inputs,
                outputs=(out,),
                tensor_flop=shape.tokens * self.scan_tensor_flop,
                vector_flop=shape.tokens * self.scan_vector_flop,
                sfu_ops=shape.tokens * self.sfu_ops,
                key_dim=self.key_dim,
            )
        )
        return out
