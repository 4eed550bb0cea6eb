"""The short causal convolution before a recurrence, with its little state."""

from dataclasses import dataclass

from sim.kernel.operators import StateUpdate, Tensor
from sim.model.emitter import Emitter
from sim.model.parameters import PLAIN_BYTES, Vector

CHANNELS_PER_CTA = 256
"""Channels that one CTA of a per-channel recurrent kernel owns (mamba_ssm
`selective_state_update` uses blocks of 4 to 64; the Triton `causal_conv1d_update` of vLLM and
SGLang 256, the CUDA kernel 64 with four times as many CTAs on an SM)."""


def channel_blocks(channels: int) -> int:
    """Return how many blocks of channels a per-channel recurrence is divided into."""
    return -(-channels // CHANNELS_PER_CTA)


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalConv:
    """A depthwise convolution over `kernel` tokens of `channels`, followed by SiLU if `silu`.

    The state is the `kernel - 1` tokens before, 16 bits each (vLLM `mamba_utils.py`,
    `MambaStateShapeCalculator`).
    """

    channels: int
    kernel: int
    bias: bool
    silu: bool = True

    def vector(self) -> Vector:
        """Return weights and bias; too small to be quantised."""
        return Vector(name="conv.weight", size=self.channels * (self.kernel + self.bias))

    def state_bytes(self, batch: int) -> int:
        """Return the size of the convolution states of `batch` sequences."""
        return batch * self.channels * (self.kernel - 1) * PLAIN_BYTES

    def emit(self, emitter: Emitter, source: Tensor, *, part: str) -> Tensor:
        """Append the convolution of `source`: a state update in decode, one pass in prefill."""
        shape = emitter.shape
        out = emitter.activation("conv_out", self.channels)
        state = emitter.state("conv_state", self.state_bytes(shape.batch))
        weight = emitter.stored(self.vector())
        values = shape.tokens * self.channels
        flop = values * (2 * self.kernel + 2 * self.silu)
        sfu = values * self.silu
        if not shape.is_decode:
            emitter.elementwise(
                "conv",
                "conv",
                part=part,
                reads=(source, weight, state),
                writes=(out, state),
                flop=flop,
                sfu=sfu,
            )
            return out
        emitter.add(
            StateUpdate(
                name="conv",
                part=part,
                batch=shape.batch,
                n_heads=channel_blocks(self.channels),
                state=state,
                inputs=(source, weight),
                outputs=(out,),
                vector_flop=flop,
                sfu_ops=sfu,
            )
        )
        return out
