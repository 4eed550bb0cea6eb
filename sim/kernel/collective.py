"""Collectives: what each rank sends to whom in which order. No time and no hardware in here.

A `Collective` is asked for, an algorithm makes a `Schedule` of it: steps in which every rank sends
some bytes and then waits for the bytes of others. Integers throughout: the bytes sent by all ranks
sum exactly to the volume of the algorithm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sim.units import ceil_div


class Op(StrEnum):
    """What a collective does with the data of its ranks."""

    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"
    REDUCE_SCATTER = "reduce_scatter"
    ALL_TO_ALL = "alltoall"
    SEND_RECV = "send_recv"
    DISPATCH = "dispatch"
    COMBINE = "combine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One collective over `ranks` GPUs, `per_node` of them in each node.

    `size_bytes` is the largest buffer of one rank: the vector of an all-reduce, the gathered output
    of an all-gather, the input of a reduce-scatter or all-to-all, the message of a send,
    all copies of a rank's tokens of an expert dispatch or combine.
    """

    op: Op
    ranks: int
    per_node: int
    size_bytes: int

    def __post_init__(self) -> None:
        """Refuse what is no collective."""
        if self.ranks < 2 or self.size_bytes < 0:  # noqa: PLR2004 - nobody to talk to
            raise ValueError(f"{self.op}: ranks(={self.ranks}) must be 2 or more, bytes 0 or more")
        if not 1 <= self.per_node <= self.ranks or self.ranks % self.per_node:
            raise ValueError(f"{self.op}: per_node(={self.per_node}) must divide {self.ranks}")

    @property
    def nodes(self) -> int:
        """Return how many nodes take part."""
        return self.ranks // self.per_node


class Wait(StrEnum):
    """Whose bytes a rank needs before its next step."""

    PREVIOUS = "previous"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Every rank sends, then waits.

    `link_bytes` and `network_bytes` are what each rank sends inside and out of its node, at the
    same time. They are seen `hops` link latencies and `network_hops` network latencies later; every
    hop goes to `peers` ranks. Then a rank waits for the bytes of `waits`.
    """

    link_bytes: tuple[int, ...]
    network_bytes: tuple[int, ...]
    waits: Wait
    hops: int
    network_hops: int = 0
    peers: int = 1

    @property
    def sent_bytes(self) -> int:
        """Return the bytes that all ranks send."""
        return sum(self.link_bytes) + sum(self.network_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The steps of an algorithm; each rank also copies `local_bytes` within its own memory.

    With `multicast` the switch copies and adds; a link without it cannot run this.
    """

    name: str
    ranks: int
    per_node: int
    steps: tuple[Step, ...]
    local_bytes: int
    multicast: bool = False

    @property
    def sent_bytes(self) -> int:
        """Return the bytes that all ranks send in all steps."""
        return sum(step.sent_bytes for step in self.steps)


def shards(size_bytes: int, parts: int) -> tuple[int, ...]:
    """Return `size_bytes` cut into `parts` that differ by one byte at most, larger ones first.

    >>> shards(10, 4)
    (3, 3, 2, 2)
    """
    return tuple(ceil_div(size_bytes - index, parts) for index in range(parts))


def ring(what: Collective) -> Schedule:
    """Return the ring: n−1 steps to gather or to reduce, both for an all-reduce.

    In each step a rank passes a shard of S/n to the next (Patarasuk and Yuan, 2009). With several
    nodes there are as many rings as a node has ranks, and each leaves the node at another rank: a
    rank sends one `per_node`-th of its shards to the network. Of the steps one in `per_node`
    crosses nodes.
    """
    passes = 2 if what.op is Op.ALL_REDUCE else 1
    cut = shards(what.size_bytes, what.ranks)
    crossings = passes * (what.nodes - 1)
    return Schedule(
        name="ring",
        ranks=what.ranks,
        per_node=what.per_node,
        steps=tuple(
            _ring_step(what, cut, index, crosses=index < crossings)
            for index in range(passes * (what.ranks - 1))
        ),
        local_bytes=what.size_bytes,
    )


def _ring_step(what: Collective, cut: Sequence[int], index: int, *, crosses: bool) -> Step:
    sent = tuple(cut[(rank - index) % what.ranks] for rank in range(what.ranks))
    away = tuple(size // what.per_node if what.nodes > 1 else 0 for size in sent)
    return Step(
        link_bytes=tuple(size - out for size, out in zip(sent, away, strict=True)),
        network_bytes=away,
        waits=Wait.PREVIOUS,
        hops=0 if crosses else 1,
        network_hops=1 if crosses else 0,
    )


def one_shot(what: Collective, *, hops: int) -> Schedule:
    """Return the one-shot all-reduce: every rank gets the whole vector of every other.

    S(n−1) bytes a rank. `hops` one-way trips: 2 if peers push data with flags, 4 if they read
    between two barriers.
    """
    _check_within_node(what)
    return _at_once("one-shot", what, [what.size_bytes * (what.ranks - 1)] * what.ranks, hops)


def two_shot(what: Collective, *, hops: int) -> Schedule:
    """Return the two-shot all-reduce: every rank sums one shard, then all gather the sums.

    S(n−1)/n bytes a rank and step; `hops` trips in each of the two.
    """
    _check_within_node(what)
    cut = shards(what.size_bytes * (what.ranks - 1), what.ranks)
    once = _at_once("two-shot", what, cut, hops)
    return replace(once, steps=once.steps * 2)


def multicast(what: Collective, *, hops: int) -> Schedule:
    """Return the all-reduce by the switch (NVLS, multimem): S(1+1/n) bytes a rank.

    Each rank reads its shard summed by the switch, which takes that shard from all ranks, and
    stores the sum once for the switch to copy: out of a rank go S and S/n bytes.
    """
    _check_within_node(what)
    cut = [what.size_bytes + shard for shard in shards(what.size_bytes, what.ranks)]
    return replace(_at_once("multicast", what, cut, hops), multicast=True)


def direct(what: Collective, *, hops: int, network_hops: int = 1) -> Schedule:
    """Return an all-to-all, or a send, in one step: every peer gets its part at once.

    Parts are equal; what a rank keeps for itself is not sent.
    """
    if what.op not in (Op.ALL_TO_ALL, Op.SEND_RECV, Op.DISPATCH, Op.COMBINE):
        raise ValueError(f"{what.op} is not sent at once")
    parts = 1 if what.op is Op.SEND_RECV else what.ranks
    sent = what.size_bytes * (what.ranks - 1) // parts
    return _at_once("direct", what, [sent] * what.ranks, hops, network_hops)


def _check_within_node(what: Collective) -> None:
    if what.nodes > 1 or what.op is not Op.ALL_REDUCE:
        raise ValueError(f"not an all-reduce within a node: {what}")


def _at_once(
    name: str, what: Collective, sent: Sequence[int], hops: int, network_hops: int = 0
) -> Schedule:
    """Return one step in which each rank sends `sent` to all peers in equal parts."""
    peers, strangers = what.ranks - 1, what.ranks - what.per_node
    away = tuple(size * strangers // peers for size in sent)
    step = Step(
        link_bytes=tuple(size - out for size, out in zip(sent, away, strict=True)),
        network_bytes=away,
        waits=Wait.ALL,
        hops=hops,
        network_hops=network_hops if strangers else 0,
        peers=what.per_node - 1,
    )
    return Schedule(
        name=name,
        ranks=what.ranks,
        per_node=what.per_node,
        steps=(step,),
        local_bytes=what.size_bytes,
    )
