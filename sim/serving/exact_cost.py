"""The cost of a step as the device runs it: the very batch, without interpolation.

A second way to the same numbers, to check the first: every batch is new to the device, so that a
step takes it a quarter of a second instead of some microseconds.
"""

from collections import Counter
from dataclasses import dataclass

from sim.model.mixed import Group
from sim.serving.interpolated_cost import padded, spread_of_shape
from sim.serving.lengths import unequal
from sim.serving.step_cost import BatchShape, DeviceRuns, Price, price_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactCost:
    """Prices steps by running them; `graph_sizes` are captured token counts.

    Decodes have the contexts of `BatchShape.contexts`; without them, or with several new tokens
    each, those that usually have their mean and spread.
    """

    runs: DeviceRuns
    graph_sizes: tuple[int, ...]

    def price(self, shape: BatchShape) -> Price:
        """Return the cost of a step; equal shapes cost the same at all times."""
        rows = shape.rows or padded(shape.tokens, self.graph_sizes)
        return price_of(self.runs.whole(groups_of(shape), rows))


def groups_of(shape: BatchShape) -> tuple[Group, ...]:
    """Return the sequences of a batch: decodes by context, shortest first, then each chunk."""
    chunks = (Group(count=1, q_len=c.tokens, context=c.context) for c in shape.chunks)
    return (*_decodes(shape), *chunks)


def _decodes(shape: BatchShape) -> tuple[Group, ...]:
    if not shape.decodes:
        return ()
    mean = shape.context / shape.decodes
    new = shape.decode_tokens
    if new > 1:
        return (Group(count=shape.decodes, q_len=new, context=max(new, round(mean))),)
    if not shape.contexts:
        return unequal(shape.decodes, mean, spread_of_shape(shape))
    by_context = sorted(Counter(shape.contexts).items())
    return tuple(Group(count=count, q_len=1, context=context) for context, count in by_context)
