"""Routing draws of a point: from the scenario's seed, the same for every context of a batch."""

import numpy as np

from sim.model.moe import Moe
from sim.model.routing import draw_routing
from sim.model.step import Draws
from sim.scenario.scenario import Contestant, Routing

# Streams of random numbers are independent per use: this one draws routings.
_ROUTING_STREAM = 1


def routing_draws(seed: int, contestant: Contestant, tokens: int) -> Draws:
    """Return the routing draws of `tokens` tokens; layer i uses draw i modulo their number.

    A model without experts has none. Raises ValueError for given counts that do not add up.
    """
    return drawn(contestant.routing, contestant.model.moe, tokens, seed=seed)


def drawn(routing: Routing, moe: Moe | None, tokens: int, *, seed: int) -> Draws:
    """Return draws of `routing` for a layer of experts, none without one."""
    if moe is None:
        return ()
    rng = np.random.default_rng([seed, _ROUTING_STREAM, tokens])
    return tuple(
        draw_routing(
            routing.kind.value if routing.counts is None else routing.counts,
            tokens=tokens,
            n_experts=moe.n_experts,
            top_k=moe.top_k,
            rng=rng,
            exponent=1.0 if routing.exponent is None else routing.exponent,
        )
        for _ in range(routing.draws if routing.counts is None else 1)
    )
