"""The cost of a step by running the very batch on the device, for checks and small traces."""

from collections import Counter
from dataclasses import dataclass

from sim.model.mixed import Group
from sim.serving.interpolated_cost import padded
from sim.serving.step_cost import BatchShape, DeviceRuns, Price, price_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactCost:
    """Prices steps by device runs of exactly their sequences; `graph_sizes` as elsewhere."""

    runs: DeviceRuns
    graph_sizes: tuple[int, ...]

    def price(self, shape: BatchShape) -> Price:
        """Return the cost of a step; without `contexts` its decodes are of equal length."""
        contexts = shape.contexts
        if len(contexts) != shape.decodes:
            contexts = (max(1, round(shape.context / max(1, shape.decodes))),) * shape.decodes
        groups = [
            Group(count=count, q_len=shape.decode_tokens, context=context)
            for context, count in sorted(Counter(contexts).items())
        ]
        groups += [Group(count=1, q_len=c.tokens, context=c.context) for c in shape.chunks]
        rows = shape.rows or padded(shape.tokens, self.graph_sizes)
        return price_of(self.runs.whole(tuple(groups), rows))
