"""Routing draws of a point: from the scenario's seed, the same for every context of a batch."""

from collections.abc import Sequence

import numpy as np

from sim.model.routing import draw_routing
from sim.scenario.scenario import Contestant, RoutingKind

# Streams of random numbers are independent per use: this one draws routings.
_ROUTING_STREAM = 1


def routing_draws(seed: int, contestant: Contestant, tokens: int) -> tuple[tuple[int, ...], ...]:
    """Return the routing draws of `tokens` tokens; layer i uses draw i modulo their number."""
    moe = contestant.model.moe
    if moe is None:
        return ()
    routing = contestant.routing
    if routing.kind is RoutingKind.COUNTS and routing.counts is not None:
        return (scale_counts(routing.counts, tokens=tokens, top_k=moe.top_k),)
    rng = np.random.default_rng([seed, _ROUTING_STREAM, tokens])
    return tuple(
        draw_routing(
            routing.kind.value,
            tokens=tokens,
            n_experts=moe.n_experts,
            top_k=moe.top_k,
            rng=rng,
            exponent=1.0 if routing.exponent is None else routing.exponent,
        )
        for _ in range(routing.draws)
    )


def scale_counts(counts: Sequence[int], *, tokens: int, top_k: int) -> tuple[int, ...]:
    """Return given counts in proportion for a batch of `tokens`, no expert above `tokens`.

    The counts of a scenario are a measured load; every batch of its grid gets the same shape. What
    integers leave over goes to the experts with the largest remainders.

    >>> scale_counts([6, 2, 0, 0], tokens=2, top_k=2)
    (2, 1, 1, 0)
    """
    wanted = tokens * top_k
    total = sum(counts) or 1
    scaled = [min(tokens, count * wanted // total) for count in counts]
    order = sorted(range(len(counts)), key=lambda e: (-(counts[e] * wanted % total), e))
    while sum(scaled) < wanted:
        for expert in order:
            if scaled[expert] < tokens and sum(scaled) < wanted:
                scaled[expert] += 1
    return tuple(scaled)
