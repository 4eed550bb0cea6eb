"""Law: whatever the policy, L2 conserves bytes and never overflows, and pinned bytes stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvariantError
from sim.hardware.residency import EMPTY_L2, L2Policy, Residency
from sim.kernel.kernel import Load, Segment
from sim.kernel.operators import Traffic

CAPACITY = 1000
TRAFFIC = (Traffic.KV, Traffic.WEIGHTS, Traffic.ACTIVATIONS)
SIZES = st.integers(1, 1500)
MOVES = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 400), st.booleans()), max_size=30)
POLICIES = st.builds(
    L2Policy,
    lru=st.booleans(),
    pinned=st.frozensets(st.sampled_from(TRAFFIC)),
    pinned_bytes=st.integers(0, 1200),
)


def three(*sizes: int) -> list[Segment]:
    """Return a KV, a weight and an activation tensor of these sizes."""
    named = zip("kwa", sizes, TRAFFIC, strict=True)
    return [Segment(name=name, size_bytes=size, traffic=t) for name, size, t in named]


@given(st.tuples(SIZES, SIZES, SIZES), MOVES, POLICIES)
def test_bytes_are_conserved_and_fit_and_pinned_ones_stay(
    sizes: tuple[int, int, int], moves: list[tuple[int, int, bool]], policy: L2Policy
) -> None:
    """After every move: no overflow, dirty bytes accounted for, no pinned byte lost to others."""
    cache = Residency(CAPACITY, three(*sizes), EMPTY_L2, policy)
    for index, size, is_write in moves:
        before = [entry.resident for entry in cache.entries]
        if is_write:
            cache.write(index, min(size, sizes[index]))
        else:
            assert 0 <= cache.read(Load(segment=index, size_bytes=size), size) <= size
        entries = cache.entries
        assert cache.total == sum(entry.resident for entry in entries) <= CAPACITY
        assert all(0 <= e.dirty <= e.resident <= e.size for e in entries)
        assert cache.made_dirty == cache.written_back_bytes + sum(e.dirty for e in entries)
        pinned = [e.resident for e in entries if e.traffic in policy.pinned]
        assert sum(pinned) <= policy.pinned_bytes or not pinned
        if entries[index].traffic not in policy.pinned:
            assert all(
                e.resident == was
                for e, was in zip(entries, before, strict=True)
                if e.traffic in policy.pinned
            )


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        (L2Policy(), [0, 600, 400]),
        (L2Policy(lru=True), [300, 600, 100]),
        (L2Policy(pinned=frozenset({Traffic.KV}), pinned_bytes=300), [300, 300, 400]),
        (L2Policy(pinned=frozenset({Traffic.KV}), pinned_bytes=200), [200, 400, 400]),
    ],
)
def test_weights_evict_whom_the_policy_names(policy: L2Policy, left: list[int]) -> None:
    """Activations, then KV, then weights come; 300 bytes too many are read."""
    order = L2Policy(lru=True)
    k, w, a = three(300, 600, 400)
    first = Residency(CAPACITY, [a, k], EMPTY_L2, order)
    first.read(Load(segment=0, size_bytes=400), 400)
    first.read(Load(segment=1, size_bytes=300), 300)
    second = Residency(CAPACITY, [w], first.state(), policy)
    assert second.read(Load(segment=0, size_bytes=600), 600) == 600
    resident = {entry.name: entry.resident_bytes for entry in second.state()}
    assert [resident.get(name, 0) for name in "kwa"] == left


def test_a_negative_region_is_refused() -> None:
    """A size below zero is a mistake of the caller."""
    with pytest.raises(InvariantError, match="cannot pin -1"):
        L2Policy(pinned_bytes=-1)
