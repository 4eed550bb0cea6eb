"""Routers: pure functions that choose the replica for a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# A prefix is followed to its replica unless that has so many more requests than the idlest.
_MOST_AHEAD: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterView:
    """What a router may know: how many requests went before, and for each replica its load.

    `loads` are requests waiting or running; `hit_tokens(replica)` is how much of the request's
    prompt the replica has cached.
    """

    routed: int
    loads: Sequence[int]
    hit_tokens: Callable[[int], int]


def round_robin(view: RouterView) -> int:
    """Choose each in turn."""
    return view.routed % len(view.loads)


def least_loaded(view: RouterView) -> int:
    """Choose the replica with the fewest requests, the first of equals."""
    return min(range(len(view.loads)), key=lambda replica: view.loads[replica])


def prefix_aware(view: RouterView) -> int:
    """Choose the replica that has most of the prompt, unless it is far busier than the idlest."""
    idlest = least_loaded(view)
    limit = view.loads[idlest] + _MOST_AHEAD
    hits = {
        replica: view.hit_tokens(replica)
        for replica, load in enumerate(view.loads)
        if load <= limit
    }
    best = max(hits, key=lambda replica: (hits[replica], -view.loads[replica]))
    return best if hits[best] else idlest


ROUTERS: Final = MappingProxyType(
    {"round_robin": round_robin, "least_loaded": least_loaded, "prefix_aware": prefix_aware}
)
