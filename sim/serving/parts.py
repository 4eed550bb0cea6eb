"""What a cluster is built of."""

from collections.abc import Callable
from dataclasses import dataclass

from sim.serving.kv_cache import KvCache
from sim.serving.step_cost import StepCost
from sim.units import transfer_ps


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A link that copies KV: its rate as payload and the time before the first byte."""

    bytes_per_s: int
    latency_ps: int

    def time_ps(self, size_bytes: int) -> int:
        """Return how long `size_bytes` take on an idle wire."""
        return self.latency_ps + transfer_ps(size_bytes, self.bytes_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterParts:
    """What a cluster is built of: what steps cost, a cache per rank, and its wires.

    `host` is the way to the host's memory of one rank, `peer` that from a GPU that computes prompts
    to one that decodes. `rows` tells how many rows a number of tokens is padded to. `draft` is what
    steps of the model cost that guesses for speculative decoding, None if guesses cost nothing (as
    those found in the prompt); `seed` decides which guesses hold. With `exact` batches list the
    contexts of all decodes, for a cost that asks for them.
    """

    cost: StepCost
    make_kv: Callable[[], KvCache]
    host: Wire
    peer: Wire
    rows: Callable[[int], int]
    draft: StepCost | None = None
    seed: int = 0
    exact: bool = False
