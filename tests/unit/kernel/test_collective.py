"""`sim.kernel.collective`: what every rank sends, in which order."""

import pytest

from sim.kernel.collective import (
    Collective,
    Op,
    Wait,
    direct,
    multicast,
    one_shot,
    ring,
    shards,
    two_shot,
)


def asked(op: Op, size_bytes: int, ranks: int, per_node: int | None = None) -> Collective:
    return Collective(op=op, ranks=ranks, per_node=per_node or ranks, size_bytes=size_bytes)


def test_a_ring_passes_each_shard_from_rank_to_rank() -> None:
    """Ten bytes on 3 ranks: shards of 4, 3 and 3; in step s rank r sends shard r - s."""
    plan = ring(asked(Op.ALL_GATHER, 10, 3))
    assert [step.link_bytes for step in plan.steps] == [(4, 3, 3), (3, 4, 3)]
    assert all(step.waits is Wait.PREVIOUS and step.hops == 1 for step in plan.steps)


@pytest.mark.parametrize(
    ("op", "steps", "sent"),
    [(Op.ALL_REDUCE, 6, 60), (Op.ALL_GATHER, 3, 30), (Op.REDUCE_SCATTER, 3, 30)],
)
def test_an_all_reduce_goes_round_twice(op: Op, steps: int, sent: int) -> None:
    """n - 1 steps to reduce and n - 1 to gather, all shards in each."""
    plan = ring(asked(op, 10, 4))
    assert len(plan.steps) == steps
    assert plan.sent_bytes == sent


def test_rings_over_nodes_leave_each_node_once() -> None:
    """Two nodes of 4: a quarter of a rank's shard leaves, in two of 14 steps waits the network."""
    plan = ring(asked(Op.ALL_REDUCE, 8000, 8, 4))
    assert {(step.link_bytes[0], step.network_bytes[0]) for step in plan.steps} == {(750, 250)}
    assert [step.network_hops for step in plan.steps] == [1] * 2 + [0] * 12
    assert [step.hops for step in plan.steps] == [0] * 2 + [1] * 12


def test_one_shot_sends_the_whole_vector_to_all() -> None:
    """Three peers, one step."""
    (step,) = one_shot(asked(Op.ALL_REDUCE, 100, 4), hops=2).steps
    assert step.link_bytes == (300,) * 4
    assert (step.hops, step.peers, step.waits) == (2, 3, Wait.ALL)


def test_two_shot_sends_as_much_as_a_ring_in_two_steps() -> None:
    """2S(n-1) bytes of all ranks, also when the vector cannot be cut evenly."""
    what = asked(Op.ALL_REDUCE, 101, 4)
    plan = two_shot(what, hops=4)
    assert len(plan.steps) == 2
    assert plan.sent_bytes == ring(what).sent_bytes == 2 * 101 * 3


def test_multicast_sends_the_vector_and_one_shard() -> None:
    """S(1 + 1/n) bytes a rank."""
    plan = multicast(asked(Op.ALL_REDUCE, 80, 8), hops=1)
    assert plan.steps[0].link_bytes == (90,) * 8
    assert plan.multicast


def test_an_all_to_all_keeps_the_own_part_and_a_send_none() -> None:
    """Of 800 bytes on 8 ranks in 2 nodes 300 stay in the node, 400 leave, 100 are the rank's."""
    (step,) = direct(asked(Op.ALL_TO_ALL, 800, 8, 4), hops=1).steps
    assert (step.link_bytes[0], step.network_bytes[0], step.peers) == (300, 400, 3)
    (step,) = direct(asked(Op.SEND_RECV, 800, 2, 1), hops=1).steps
    assert (step.link_bytes[0], step.network_bytes[0]) == (0, 800)


def test_what_an_algorithm_cannot_do_is_refused() -> None:
    """One-shot over nodes, or for a gather; an all-reduce at once; odd groups."""
    for what in (asked(Op.ALL_REDUCE, 8, 4, 2), asked(Op.ALL_GATHER, 8, 4)):
        for shape in (one_shot, two_shot, multicast):
            with pytest.raises(ValueError, match="not an all-reduce within a node"):
                shape(what, hops=1)
    with pytest.raises(ValueError, match="all_reduce is not sent at once"):
        direct(asked(Op.ALL_REDUCE, 8, 4), hops=1)
    with pytest.raises(ValueError, match=r"per_node\(=3\) must divide 4"):
        asked(Op.ALL_REDUCE, 8, 4, 3)
    with pytest.raises(ValueError, match=r"ranks\(=1\) must be 2 or more"):
        asked(Op.ALL_REDUCE, 8, 1)


def test_shards_differ_by_one_byte_at_most() -> None:
    """Also when there are fewer bytes than parts."""
    assert shards(3, 5) == (1, 1, 1, 0, 0)
    assert sum(shards(1001, 7)) == 1001
