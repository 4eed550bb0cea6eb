"""`sim.serving.trace_csv`: the project's own form, read and written."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from sim.serving.request import Request, Trace
from sim.serving.trace import read_trace
from sim.serving.trace_csv import read_csv, write_csv
from sim.serving.trace_cut import MAX_SPAN_PS
from sim.serving.trace_rows import Reading, Row


def test_a_row_is_a_request() -> None:
    """Seconds are decimals, exact to the picosecond."""
    lines = ["arrival_s,input_tokens,output_tokens", "0.000000000001,5,0", "12.5,1,9"]
    assert read_csv(lines, Reading("f")) == [Row(1, 5, 0), Row(12_500_000_000_000, 1, 9)]


def test_hashes_are_separated_by_spaces() -> None:
    """A prompt may have none."""
    lines = ["prefix,arrival_s,input_tokens,output_tokens", "4 -1  7,0,1025,1", ",0,5,1"]
    reading = Reading("f")
    assert read_csv(lines, reading) == [Row(0, 1025, 1, (4, -1, 7)), Row(0, 5, 1)]
    assert reading.prefix_block_tokens == 512


def test_the_column_of_hashes_tells_the_length_of_a_block() -> None:
    """`prefix_64`: 64 tokens."""
    reading = Reading("f")
    lines = ["arrival_s,input_tokens,output_tokens,prefix_64", "0,65,1,1 2", "0,64,1,1 2"]
    assert read_csv(lines, reading) == [Row(0, 65, 1, (1, 2))]
    assert reading.prefix_block_tokens == 64
    assert [str(problem) for problem in reading.problems] == [
        "f:3: prefix: has 2 blocks of 64 tokens (expected at most 1 for 64 input tokens)"
    ]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "arrival_s,input_tokens,output_tokens,prefx",
            "f:1: prefx: unknown column (did you mean 'prefix'?)",
        ),
        (
            "arrival,input_tokens,output_tokens",
            "f:1: arrival_s: is missing from the header (expected columns arrival_s, input_tokens, "
            "output_tokens; did you mean 'arrival'?)",
        ),
    ],
)
def test_a_misspelt_column_is_told(header: str, message: str) -> None:
    """Hashes must not be lost in silence."""
    with pytest.raises(InputError) as caught:
        read_csv([header, "0,1,1,"], Reading("f"))
    assert str(caught.value) == message


def test_other_columns_are_ignored() -> None:
    """Results of a run can be replayed."""
    lines = ["index,arrival_s,input_tokens,output_tokens,prefix_hit_tokens", "0,1,2,3,1"]
    assert read_csv(lines, Reading("f")) == [Row(10**12, 2, 3)]


def test_what_is_written_is_plain(tmp_path: Path) -> None:
    """No exponents, no zeros at the end, no column that says nothing."""
    requests = (
        Request(index=0, arrival_ps=0, input_tokens=3, output_tokens=0),
        Request(index=1, arrival_ps=1, input_tokens=3, output_tokens=1),
        Request(index=2, arrival_ps=2_500 * 10**12, input_tokens=3, output_tokens=1),
    )
    write_csv(Trace(name="t", requests=requests), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == (
        "arrival_s,input_tokens,output_tokens\n0,3,0\n0.000000000001,3,1\n2500,3,1\n"
    )


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Return a trace with any arrivals, lengths and prefixes that fit their prompts."""
    block_tokens = draw(st.sampled_from([1, 16, 512, 1000]))
    arrivals = sorted(draw(st.lists(st.integers(0, MAX_SPAN_PS), max_size=8)))
    requests = []
    for index, arrival_ps in enumerate(arrivals):
        input_tokens = draw(st.integers(1, 10**6))
        blocks = -(-input_tokens // block_tokens)
        prefix = draw(st.lists(st.integers(-(2**64), 2**64), max_size=min(4, blocks)))
        request = Request(
            index=index,
            arrival_ps=arrival_ps,
            input_tokens=input_tokens,
            output_tokens=draw(st.integers(0, 10**6)),
            prefix=tuple(prefix),
        )
        requests.append(request)
    if not any(request.prefix for request in requests):
        block_tokens = 512
    return Trace(name="t", requests=tuple(requests), prefix_block_tokens=block_tokens)


@given(traces())
def test_what_is_written_reads_the_same(tmp_path_factory: pytest.TempPathFactory, t: Trace) -> None:
    """Nothing is lost, not a picosecond."""
    path = tmp_path_factory.mktemp("written") / "t.csv"
    write_csv(t, path)
    assert read_trace(path) == t
