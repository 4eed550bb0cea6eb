"""What a step costs that a small model drafts for."""

from dataclasses import dataclass

from sim.serving.step_cost import BatchShape, Price, StepCost


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeCost:
    """The cost of a step and of `draft_tokens` steps of the draft model before it.

    Each of these computes one token of every sequence that decodes; prompts run through the draft
    model beside the first, as it needs a cache of its own (vLLM `EagleProposer.propose`).
    """

    target: StepCost
    draft: StepCost
    draft_tokens: int

    def price(self, shape: BatchShape) -> Price:
        """Return the cost of a step; equal shapes cost the same at all times."""
        total = self.target.price(shape)
        for step in self._drafts(shape):
            price = self.draft.price(step)
            total = Price(
                time_ps=total.time_ps + price.time_ps,
                ledger_ps=total.ledger_ps + price.ledger_ps,
                hbm_bytes=total.hbm_bytes + price.hbm_bytes,
                flop=total.flop + price.flop,
            )
        return total

    def _drafts(self, shape: BatchShape) -> list[BatchShape]:
        if not shape.decodes:
            return [BatchShape(chunks=shape.chunks)] if shape.chunks else []
        # The last token of before is new to the draft model, too.
        context = shape.context - shape.decodes * shape.decode_tokens
        longest = shape.longest - shape.decode_tokens
        return [
            BatchShape(
                decodes=shape.decodes,
                context=context + shape.decodes * number,
                longest=longest + number,
                chunks=() if number > 1 else shape.chunks,
            )
            for number in range(1, self.draft_tokens + 1)
        ]
