"""Prices from parts of steps whose time is known on paper."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.model.mixed import Group
from sim.serving.chunk_cost import attended, whole_tiles
from sim.serving.exact_cost import ExactCost, groups_of
from sim.serving.interpolated_cost import InterpolatedCost, like, padded
from sim.serving.step_cost import COLUMNS, BatchShape, Chunk, Price
from tests.unit.serving.fake_device import FakeDevice, attended_ps

SIZES = (1, 2, 4, *range(8, 513, 8))
counts, means, spreads = st.integers(1, 200), st.integers(20, 20_000), st.floats(0.0, 1.2)


def cost(device: FakeDevice | None = None) -> InterpolatedCost:
    """Return prices from a device in closed form."""
    return InterpolatedCost(runs=device or FakeDevice(), graph_sizes=SIZES)


def decodes(count: int, mean: int, spread: float = 0.0) -> BatchShape:
    """Return decodes of that mean and spread."""
    squares = round(count * mean * mean * (1 + spread * spread))
    return BatchShape(decodes=count, context=count * mean, longest=mean, squares=squares)


def exact(shape: BatchShape) -> Price:
    """Return the price of the usual batch of that shape, run as one."""
    return ExactCost(runs=FakeDevice(), graph_sizes=SIZES).price(shape)


@given(counts, means, spreads)
def test_work_that_is_linear_in_tokens_is_priced_exactly(
    count: int, mean: int, spread: float
) -> None:
    shape = decodes(count, mean, spread)
    assert cost().price(shape).time_ps == pytest.approx(exact(shape).time_ps, rel=0.02)


@given(counts, means, spreads, st.lists(st.tuples(st.integers(2, 900), st.integers(0, 9000))))
def test_causes_sum_to_the_time_and_none_is_negative(
    count: int, mean: int, spread: float, chunks: list[tuple[int, int]]
) -> None:
    parts = tuple(Chunk(tokens=tokens, context=tokens + before) for tokens, before in chunks)
    for mixes in (False, True):
        price = cost(FakeDevice(mixes=mixes)).price(
            decodes(count, mean, spread)._replace(chunks=parts)
        )
        assert price.time_ps == price.ledger_ps.sum()
        assert min(price.ledger_ps) >= 0
        assert price.hbm_bytes >= 0


@given(st.lists(st.tuples(counts, means, spreads), min_size=2, max_size=8))
def test_prices_do_not_depend_on_what_was_asked_before(
    questions: list[tuple[int, int, float]],
) -> None:
    forth, back = cost(), cost()
    shapes = [decodes(*question) for question in questions]
    first = [forth.price(shape) for shape in shapes]
    last = [back.price(shape) for shape in reversed(shapes)]
    assert [price.time_ps for price in first] == [price.time_ps for price in last[::-1]]


@given(counts, means, spreads)
def test_price_and_columns_agree(count: int, mean: int, spread: float) -> None:
    asked = cost()
    shape = decodes(count, mean, spread)
    assert asked.price(shape).time_ps == pytest.approx(asked.columns(shape)[:-2].sum(), abs=20)


@given(counts, means, st.integers(1, 50), st.integers(1, 2000))
def test_more_sequences_and_more_context_cost_more(
    count: int, mean: int, more: int, longer: int
) -> None:
    asked = cost()
    price = asked.price(decodes(count, mean)).time_ps
    assert asked.price(decodes(count + more, mean)).time_ps >= price
    assert asked.price(decodes(count, mean + longer)).time_ps >= price


@given(st.integers(2, 3000), st.integers(1, 500), st.integers(0, 9000))
def test_a_longer_chunk_costs_at_least_as_much_within_a_tile(
    tokens: int, more: int, before: int
) -> None:
    asked = cost()
    short = asked.price(BatchShape(chunks=(Chunk(tokens, tokens + before),)))
    long = asked.price(BatchShape(chunks=(Chunk(tokens + more, tokens + more + before),)))
    assert long.time_ps >= short.time_ps * 0.99


def test_the_same_shape_asks_the_device_once() -> None:
    device = FakeDevice()
    asked = cost(device)
    shape = decodes(12, 700, 0.4)._replace(chunks=(Chunk(300, 300), Chunk(64, 900)))
    asked.price(shape)
    known = len(device.asked)
    asked.price(shape)
    assert len([q for q in device.asked[known:] if q[0] == "sequences"]) == 0  # type: ignore[index]


def test_flop_of_a_chunk_are_its_own_and_not_those_of_its_tiles() -> None:
    shape = BatchShape(chunks=(Chunk(450, 1450),))
    pairs = attended(450, 1450)
    assert cost().price(shape).flop == pytest.approx(pairs + 1000 * padded(450, SIZES), rel=0.001)


def test_chunks_that_fill_the_device_add_up() -> None:
    """Twice the same chunk is one grid of both; two unlike ones lie between twice either."""
    asked = cost()
    small, large = Chunk(128, 128), Chunk(512, 4096)
    both = asked.columns(BatchShape(chunks=(small, large)))
    groups = [Group(count=1, q_len=c.tokens, context=c.context) for c in (small, large)]
    assert both[COLUMNS.index("hbm_bandwidth")] == pytest.approx(
        sum(map(attended_ps, groups)), rel=0.05
    )


def test_of_chunks_that_leave_room_the_longest_counts() -> None:
    """On a device that runs any number of sequences at once, copies cost nothing."""

    def at_once(group: Group) -> float:
        return 1000.0 * group.context

    asked = cost(FakeDevice(of_group=at_once))
    long = Chunk(128, 8192)
    alone = asked.columns(BatchShape(chunks=(long,)))
    both = asked.columns(BatchShape(chunks=(long, Chunk(128, 128))))
    at = COLUMNS.index("hbm_bandwidth")
    assert both[at] == alone[at] == pytest.approx(8192e3)


def test_rows_between_captured_sizes_are_padded() -> None:
    assert cost().price(decodes(9, 50)).flop == cost().price(decodes(9, 50)._replace(rows=16)).flop


@given(st.integers(1, 40_000))
def test_rows_stand_for_rows_of_about_their_number(rows: int) -> None:
    assert rows * 0.97 - 8 <= like(rows) <= rows * 1.13 + 16


@given(st.integers(1, 100_000))
def test_a_chunk_is_rounded_up_by_at_most_a_quarter_and_a_tile(tokens: int) -> None:
    assert tokens <= whole_tiles(tokens) <= tokens * 1.25 + 32


def test_unknown_squares_are_guessed_from_the_longest() -> None:
    shape = decodes(30, 1000)._replace(squares=0, longest=2500)
    known = decodes(30, 1000, 0.55)
    assert cost().price(shape).time_ps == pytest.approx(cost().price(known).time_ps, rel=0.01)


def test_several_new_tokens_a_sequence_are_priced_as_such() -> None:
    shape = BatchShape(decodes=8, context=8 * 1000, longest=1000, decode_tokens=4)
    group = Group(count=8, q_len=4, context=1000)
    seen = cost().columns(shape)[COLUMNS.index("hbm_bandwidth")]
    assert seen == pytest.approx(attended_ps(group))


def test_the_very_batch_is_run_by_its_contexts() -> None:
    shape = BatchShape(
        decodes=3, context=70, longest=50, contexts=(10, 10, 50), chunks=(Chunk(5, 9),)
    )
    assert groups_of(shape) == (
        Group(count=2, q_len=1, context=10),
        Group(count=1, q_len=1, context=50),
        Group(count=1, q_len=5, context=9),
    )


def test_without_contexts_the_usual_ones_are_run() -> None:
    groups = groups_of(decodes(20, 400, 0.5))
    assert sum(group.count for group in groups) == 20
    assert len(groups) > 1


def test_the_very_batch_of_several_new_tokens_is_one_group() -> None:
    shape = BatchShape(decodes=2, context=60, longest=40, decode_tokens=3)
    assert groups_of(shape) == (Group(count=2, q_len=3, context=30),)
