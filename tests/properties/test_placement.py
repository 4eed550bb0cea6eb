"""Laws of placement: no byte is lost, a hash only permutes, an even map knows no place."""

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.hardware.address_map import InterleavedMap
from sim.hardware.gpu import Gpu
from sim.hardware.placement import KV_PAGES, KvPages, channel_bytes, runs_of
from sim.hardware.walk import Interleave
from sim.kernel.kernel import Segment
from sim.kernel.layout import KvTokens, Layout
from sim.kernel.operators import Traffic
from tests.strategies import Launch, address_maps, launches, layouts

PAGES = st.sampled_from(KV_PAGES)


@st.composite
def interleaves(draw: st.DrawFn) -> Interleave:
    return Interleave(
        channels=draw(st.integers(1, 12)),
        chunk_bytes=draw(st.sampled_from((1, 7, 256))),
        hashed=draw(st.booleans()),
    )


def placed(layout: Layout | None) -> Segment:
    return Segment(name="x", size_bytes=1000, traffic=Traffic.KV, layout=layout)


def bytes_of(layout: Layout) -> int:
    if isinstance(layout, KvTokens):
        return layout.sequences * layout.tokens * sum(layout.token_bytes)
    return len(layout.chosen) * layout.slice_bytes


@given(interleaves(), st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 900)), min_size=1))
def test_channels_hold_what_a_walk_over_every_byte_finds(
    interleave: Interleave, runs: list[tuple[int, int]]
) -> None:
    found: Counter[int] = Counter()
    for start, size in runs:
        found.update(interleave.channel_of(np.arange(start, start + size)).tolist())
    starts, sizes = (np.array(column) for column in zip(*runs, strict=True))
    held = channel_bytes(interleave, starts, sizes)
    assert held.tolist() == [found[channel] for channel in range(interleave.channels)]


@given(layouts(), interleaves(), PAGES, st.integers(0, 9))
def test_all_channels_together_hold_every_byte_of_a_segment(
    layout: Layout, interleave: Interleave, pages: KvPages, seed: int
) -> None:
    how = InterleavedMap(
        n_channels=interleave.channels,
        chunk_bytes=interleave.chunk_bytes,
        hashed=interleave.hashed,
        pages=pages,
        seed=seed,
    )
    first, second, _ = how.shares([placed(None), replace(placed(layout), name="y")])
    assert (sum(first), sum(second)) == (1000, bytes_of(layout))


@given(layouts(), PAGES)
def test_runs_do_not_overlap_and_lie_in_their_tensor(layout: Layout, pages: KvPages) -> None:
    runs = runs_of(placed(layout), pages, 0)
    order = np.argsort(runs.starts)
    starts, ends = runs.starts[order], (runs.starts + runs.sizes)[order]
    assert all(ends[:-1] <= starts[1:])
    assert starts[0] >= 0
    assert ends[-1] <= runs.extent_bytes


@given(st.integers(1, 300), st.integers(0, 10**6))
def test_a_hash_permutes_the_channels_of_every_round(channels: int, turn: int) -> None:
    interleave = Interleave(channels=channels, chunk_bytes=256)
    chunks = turn * channels + np.arange(channels)
    assert sorted(interleave.channel_of(chunks * 256).tolist()) == list(range(channels))


@settings(max_examples=20)
@given(launches(), layouts(), st.data())
def test_an_even_map_knows_no_place(launch: Launch, layout: Layout, data: st.DataObject) -> None:
    """With it no layout changes a run, and no channel is busier than another.

    Whatever the map, the busiest channel reads at least the mean.
    """
    spec, kernel, l2 = launch
    bare = replace(kernel, segments=tuple(replace(s, layout=None) for s in kernel.segments))
    laid = replace(kernel, segments=tuple(replace(s, layout=layout) for s in kernel.segments))
    run = Gpu(spec=spec).run(bare, l2)
    assert run == Gpu(spec=spec).run(laid, l2)
    assert run.busiest_bytes == sum(run.missed_bytes)
    mapped = Gpu(spec=spec, address_map=data.draw(address_maps(spec))).run(laid, l2)
    assert mapped.busiest_bytes >= sum(mapped.missed_bytes)
