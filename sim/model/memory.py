"""Memory: what a model, its caches and one step of it occupy."""

from sim.kernel.formats import KvFormat, WeightFormat
from sim.kernel.operators import Traffic
from sim.model.architecture import Model
from sim.model.step import StepGraph


def weights_bytes(model: Model, weight_format: WeightFormat) -> int:
    """Return the size of all stored weights: what the lowered tensors hold, each once.

    A table that is embedding and head at once counts once, a block that layers share too. Merged
    projections are counted apart, which can differ by the rounding of one byte per matrix.
    """
    return sum(
        parameter.tensor(weight_format).size_bytes for parameter in model.stored_parameters()
    )


def kv_bytes(model: Model, kv_format: KvFormat, *, batch: int, context: int) -> int:
    """Return the size of the KV cache of `batch` sequences of `context` tokens.

    A windowed layer keeps its window only, a latent-attention layer one latent vector a token.
    """
    return sum(
        component.kv_bytes(kv_format, batch=batch, context=context)
        for component in model.components()
    )


def state_bytes(model: Model, *, batch: int) -> int:
    """Return the size of the convolution (16 bits) and recurrent (fp32) states, 0 if none."""
    return sum(component.state_bytes(batch) for component in model.components())


def activation_bytes(step: StepGraph) -> int:
    """Return the size of the activation buffers of a step, each name once at its largest.

    An upper estimate: buffers that are never alive together could share memory.
    """
    sizes: dict[str, int] = {}
    for _, operator in step.operators():
        for tensor in (*operator.reads(), *operator.writes()):
            if tensor.traffic is Traffic.ACTIVATIONS:
                sizes[tensor.name] = max(sizes.get(tensor.name, 0), tensor.size_bytes)
    return sum(sizes.values())
