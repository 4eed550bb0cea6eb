"""`sim.cli_table`: tables for people, within 80 columns."""

from dataclasses import replace

from sim.cli_table import (
    WIDTH,
    aligned,
    camping_sentence,
    cause_table,
    dram_table,
    in_columns,
    point_table,
    result_text,
    spread,
    wrapped,
)
from sim.run.result import SCHEMA_VERSION, ChipInfo, ContestantInfo, MemoryNeed, PointResult, Result


def point(**changes: object) -> PointResult:
    made = PointResult(
        contestant="dense",
        batch=1,
        context=512,
        memory=MemoryNeed(
            weights_bytes=60,
            kv_bytes=1,
            state_bytes=0,
            activations_bytes=0,
            capacity_bytes=80,
        ),
        step_ps=21_000_000_000,
        roofline_ps=1,
        tokens_per_s=47.6,
        mbu=0.931,
        mfu=0.01,
        flop=1,
        channel_imbalance=1.0,
        bound="hbm_bandwidth",
        ledger_ps={"hbm_bandwidth": 3, "launch": 1},
        traffic=(),
        operators=(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def result(*points: PointResult) -> Result:
    return Result(
        schema_version=SCHEMA_VERSION,
        name="r",
        title="A title",
        version="0",
        seed=0,
        phase="decode",
        chip=ChipInfo(
            name="c",
            title="A chip",
            peak_bytes_per_s=1,
            memory_bytes=80,
            l2_bytes=1,
            sm_count=1,
            tensor_flop_per_s={},
            notes=(),
        ),
        engine="cuda_graph",
        contestants=(),
        batches=tuple(dict.fromkeys(p.batch for p in points)),
        contexts=tuple(dict.fromkeys(p.context for p in points)),
        points=points,
        answer=("One sentence.", "Another."),
    )


TOO_LARGE = MemoryNeed(
    weights_bytes=99 * 10**9,
    kv_bytes=0,
    state_bytes=0,
    activations_bytes=0,
    capacity_bytes=80 * 10**9,
)


def test_a_result_is_told_as_a_table_and_an_answer() -> None:
    """Each contestant is named once; a point that does not fit tells what it needs."""
    moe = point(contestant="a mixture of experts", batch=2, memory=TOO_LARGE, step_ps=0)
    assert result_text(result(point(), point(batch=2), moe)).split("\n") == [
        "A title",
        "A chip, engine cuda_graph, decode",
        "",
        "contestant          batch  context   step  tokens/s  MBU  most time goes to",
        "dense                   1      512  21 ms        48  93%  hbm_bandwidth 75%",
        "                        2      512  21 ms        48  93%  hbm_bandwidth 75%",
        "a mixture of expe…      2      512      -         -    -  needs 99 GB",
        "",
        "Where the time goes at batch 2, context 512:",
        "",
        "% of the step  dense",
        "hbm_bandwidth   75.0",
        "launch          25.0",
        "sum            100.0",
        "step           21 ms",
        "",
        "One sentence.",
        "Another.",
    ]


def test_what_was_not_simulated_of_a_model_is_told() -> None:
    """A mechanism that a model has and the simulation has not is named under the answer."""
    told = replace(result(point()), contestants=(contestant("No indexer.", "No MTP."),))
    assert result_text(told).split("\n")[-2:] == [
        "dense, not simulated: No indexer.",
        "dense, not simulated: No MTP.",
    ]


def contestant(*notes: str) -> ContestantInfo:
    return ContestantInfo(
        name="dense",
        model="m",
        family="dense",
        weight_format="bf16",
        kv_format="bf16",
        parameters=1,
        active_parameters=1,
        weights_bytes=1,
        kv_bytes_per_token=1,
        notes=notes,
    )


def test_the_shares_of_a_step_are_rounded_to_a_sum_of_a_hundred() -> None:
    """Three equal causes are 33.4, 33.3 and 33.3 per cent: the table adds up."""
    thirds = {"tensor": 1, "launch": 1, "tail": 1}
    assert cause_table(result(point(ledger_ps=thirds)))[2:] == [
        "% of the step  dense",
        "tensor          33.4",
        "launch          33.3",
        "tail            33.3",
        "sum            100.0",
        "step           21 ms",
    ]


def test_a_result_in_which_nothing_fits_has_no_table_of_causes() -> None:
    """There is no step whose time could be told."""
    assert cause_table(result(point(memory=TOO_LARGE, step_ps=0))) == []


def test_a_large_grid_is_thinned_and_says_so() -> None:
    """Five batches and three contexts, first and last among them."""
    grid = [point(batch=b, context=c) for b in (1, 2, 4, 8, 16, 32, 64) for c in (1, 2, 3, 4)]
    lines = point_table(result(*grid))
    assert len(lines) == 1 + 15 + 2
    assert lines[-1] == "15 of 28 points; all are in points.csv."
    assert lines[1].split()[1:3] == ["1", "1"]
    assert lines[15].split()[0:2] == ["64", "4"]


def test_no_line_is_wider_than_80_columns() -> None:
    """The longest name, the largest numbers, the longest cause."""
    wide = point(
        contestant="x" * 40,
        batch=99_999,
        context=1_048_576,
        step_ps=123_000_000_000,
        tokens_per_s=1_234_567.0,
        mbu=1.0,
        ledger_ps={"hbm_bandwidth": 1},
    )
    assert max(map(len, point_table(result(wide)))) <= WIDTH


def test_columns_line_up() -> None:
    """Numbers to the right, words to the left, no spaces at the end of a line."""
    assert aligned([("a", "1"), ("bcd", "23")], left={0}) == ["a     1", "bcd  23"]
    assert aligned([("a", "bcd"), ("ab", "c")], left={1}) == [" a  bcd", "ab  c"]


def test_names_fill_columns_downwards() -> None:
    """As many columns as fit; nothing for no names."""
    assert in_columns([]) == []
    assert in_columns(["a" * 30, "b", "c"]) == [f"{'a' * 30}  c", "b"]


def test_values_are_spread_evenly() -> None:
    """All of them if they are few."""
    assert spread([1, 2], 3) == (1, 2)
    assert spread([1, 2, 4, 8, 16], 2) == (1, 16)


def test_text_is_wrapped_behind_what_stands_before() -> None:
    """An empty text leaves the front alone."""
    assert wrapped("a b", first="x  ", rest="   ") == ["x  a b"]
    assert wrapped("", first="x") == ["x"]


def test_uneven_channels_are_told_where_they_are_worst() -> None:
    """Nothing is said of channels that are even within one per cent."""
    points = [point(channel_imbalance=1.009), point(batch=8, channel_imbalance=1.304)]
    some = result(*points)
    assert camping_sentence(some) == (
        "HBM channels are uneven: the busiest reads up to 1.30 times the mean of all "
        "(dense, batch 8, context 512)."
    )
    assert camping_sentence(result(points[0])) == ""


def test_what_banks_do_is_shown_where_it_was_simulated() -> None:
    """A column a contestant, a cause a line, each column 100; nothing of channels with a rate."""
    assert dram_table(result(point())) == []
    looked_at = [
        point(contestant="a", dram_ps={"data": 3, "idle": 1}),
        point(contestant="b", dram_ps={"data": 1, "faw": 1}),
    ]
    assert dram_table(result(*looked_at))[2:] == [
        "% of the channels' time      a      b",
        "data                      75.0   50.0",
        "idle                      25.0    0.0",
        "faw                        0.0   50.0",
        "sum                      100.0  100.0",
    ]
