"""`sim.serving.trace`: formats are found, bad rows told, requests sorted."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.serving.request import Request, Trace
from sim.serving.trace import READERS, read_trace
from sim.units import PS_PER_S

HEADER = "arrival_s,input_tokens,output_tokens\n"
KNOWN = (
    "mooncake (JSON lines of timestamp, input_length, output_length, hash_ids); "
    "azure (CSV of TIMESTAMP, ContextTokens, GeneratedTokens); "
    "vllm (measured run: JSON lines of input_toks, output_toks, arrival_time, ...); "
    "csv (CSV of arrival_s, input_tokens, output_tokens and maybe prefix)"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the current one, so that messages have short paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(text: str, name: str = "mine.csv") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def complaint(path: str, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        read_trace(path, **options)  # type: ignore[arg-type]
    return str(caught.value)


SAMPLES = {
    "mooncake": '{"timestamp": 1500, "input_length": 7, "output_length": 3}\n',
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,7,3\n",
    "vllm": json.dumps(
        {
            "input_toks": 7, "output_toks": 3, "arrival_time": 9, "queued_ts": 1,
            "scheduled_ts": 2, "first_token_ts": 3, "last_token_ts": 4,
        }
    ) + "\n",
    "csv": HEADER + "1.5,7,3\n",
}  # fmt: skip


def test_every_format_has_a_sample() -> None:
    """A new reader must be added to the tests of this file."""
    assert set(SAMPLES) == set(READERS)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_format_is_found_by_its_content(name: str) -> None:
    """The name of the file does not matter, and a stated format reads the same."""
    path = written(SAMPLES[name], "trace.txt")
    trace = read_trace(path)
    assert [(r.input_tokens, r.output_tokens) for r in trace.requests] == [(7, 3)]
    assert trace == read_trace(path, format=name)
    assert (trace.measured is None) == (name != "vllm")


@pytest.mark.parametrize("name", ["mooncake", "vllm"])
def test_bad_lines_before_the_first_good_one_do_not_hide_the_format(name: str) -> None:
    """A trace whose head is broken is still read, and its head told."""
    trace = read_trace(written('{"timesta\n\n' + SAMPLES[name]), on_bad_row="skip")
    assert len(trace.requests) == 1
    assert [str(problem) for problem in trace.skipped] == [
        "mine.csv:1: is not a JSON object (expected one JSON object a line)"
    ]


def test_an_unknown_format_is_told_with_those_that_are_known() -> None:
    """Both where the content says nothing and where the name is wrong."""
    path = written("when,what\n1,2\n")
    assert complaint(path) == f"mine.csv:1: is no trace of a known format (expected {KNOWN})"
    assert complaint(path, format="mooncacke") == (
        "mine.csv: format = mooncacke: unknown trace format "
        "(expected one of mooncake, azure, vllm, csv; did you mean 'mooncake'?)"
    )


@pytest.mark.parametrize("text", ["", "\n  \n", "\ufeff\r\n", HEADER])
def test_a_file_without_rows_is_a_trace_without_requests(text: str) -> None:
    """Nothing happened; that is no mistake."""
    assert read_trace(written(text)) == Trace(name="mine", requests=())
    assert read_trace(written(text), format="csv") == Trace(name="mine", requests=())


def test_requests_are_sorted_by_arrival_and_ties_keep_their_order() -> None:
    """Time may go backwards in a file."""
    trace = read_trace(written(HEADER + "2,1,0\n1,2,0\n2,3,0\n1,4,0\n"))
    assert trace.requests == tuple(
        Request(index=index, arrival_ps=seconds * PS_PER_S, input_tokens=tokens, output_tokens=0)
        for index, (seconds, tokens) in enumerate([(1, 2), (1, 4), (2, 1), (2, 3)])
    )


BAD = HEADER + "0,0,-1\n1,5,2\nnan,2.5,x\n\n-1,5,,\n3,99999999999,1e99\n"
TOLD = [
    "mine.csv:2: input_tokens = 0: is too small (expected 1 or more)",
    "mine.csv:2: output_tokens = -1: is too small (expected 0 or more)",
    "mine.csv:4: arrival_s = nan: is not finite",
    "mine.csv:4: input_tokens = 2.5: is not an integer",
    "mine.csv:4: output_tokens = x: is not an integer",
    "mine.csv:6: has 4 fields (expected 3 as in the header)",
    "mine.csv:7: input_tokens = 99999999999: is too large (expected at most 1000000000)",
    "mine.csv:7: output_tokens = 1e99: is too large (expected at most 1000000000)",
]


def test_stop_tells_everything_that_is_wrong() -> None:
    """All problems of all rows, each with its line."""
    assert complaint(written(BAD)).splitlines() == TOLD


def test_skip_leaves_bad_rows_out_and_tells_one_problem_of_each() -> None:
    """So their number is that of the rows left out."""
    trace = read_trace(written(BAD), on_bad_row="skip")
    assert [(r.index, r.input_tokens) for r in trace.requests] == [(0, 5)]
    assert [str(p) for p in trace.skipped] == [TOLD[0], TOLD[2], TOLD[5], TOLD[6]]


def test_many_problems_are_counted_and_not_listed() -> None:
    """Nobody reads a thousand lines."""
    told = complaint(written(HEADER + "x,1,1\n" * 1021)).splitlines()
    assert told[19:] == [
        "mine.csv:21: arrival_s = x: is not a number",
        "mine.csv: and 1,001 more problems",
    ]
    assert len(read_trace("mine.csv", on_bad_row="skip").skipped) == 1021


def test_gzip_is_read_and_damage_is_told() -> None:
    """By content, whatever the name."""
    packed = gzip.compress((HEADER + "1,2,3\n").encode(), mtime=0)
    Path("mine.csv.gz").write_bytes(packed)
    assert read_trace("mine.csv.gz").name == "mine"
    assert len(read_trace("mine.csv.gz").requests) == 1
    for damaged in (packed[:-9], packed[:12] + b"\xff" * 9 + packed[21:]):
        Path("mine.csv.gz").write_bytes(damaged)
        assert complaint("mine.csv.gz") == "mine.csv.gz: is damaged: cannot decompress"


def test_bad_bytes_spoil_their_row_only() -> None:
    """They are told with their line."""
    Path("mine.csv").write_bytes(HEADER.encode() + b"1,\xff,3\n2,2,3\n")
    trace = read_trace("mine.csv", on_bad_row="skip")
    assert len(trace.requests) == 1
    assert str(trace.skipped[0]) == "mine.csv:2: input_tokens = \ufffd: is not an integer"


def test_a_path_that_cannot_be_read_is_told_with_the_nearest_one() -> None:
    """Misspelt files and folders without a run."""
    written(HEADER)
    Path("folder").mkdir()
    assert complaint("mime.csv") == "mime.csv: no such file (did you mean 'mine.csv'?)"
    assert complaint("nowhere/mine.csv") == "nowhere/mine.csv: no such file"
    assert complaint("folder") == "folder: is no measured run: there is no requests.jsonl"
    assert complaint("x" * 300) == f"{'x' * 300}: cannot be read: File name too long"
    assert complaint("mine.csv/x") == "mine.csv/x: cannot be read: Not a directory"


def test_a_clock_that_starts_long_before_the_requests_is_refused() -> None:
    """Times since 1970 would leave 64 bits."""
    assert complaint(written(HEADER + "0,1,1\n7776000,1,1\n7776001,1,1\n1700000000,1,1\n")) == (
        "mine.csv: its last request arrives 19,675 days after its start (expected at most 90)"
    )
    assert len(read_trace(written(HEADER + "0,1,1\n7776000,1,1\n")).requests) == 2


cells = st.one_of(
    st.integers(-2, 10**12).map(str),
    st.sampled_from(
        ["", "1e5", "nan", "-0", "1.5", '"', '"1"', "null", "[]", "{}", "true", "1e99"]
    ),
    st.text(max_size=3),
)
json_rows = st.dictionaries(
    st.sampled_from([*READERS["mooncake"].fields, *READERS["vllm"].fields]), cells
).map(lambda row: "{" + ", ".join(f'"{key}": {cell}' for key, cell in row.items()) + "}")
csv_rows = st.lists(cells, min_size=3, max_size=4).map(",".join)


@given(
    st.sampled_from([*READERS]),
    st.lists(st.one_of(json_rows, csv_rows, st.text(max_size=20))),
    st.sampled_from([read.encode() for read in SAMPLES.values()] + [b"", b"\xff\x00"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_makes_a_reader_fall_over(name: str, rows: list[str], head: bytes) -> None:
    """It is told, or read; then every line is a request, a skipped row or the header."""
    Path("any").write_bytes(head + "\n".join(rows).encode("utf-8", errors="replace"))
    for form in (name, None):
        try:
            trace = read_trace("any", format=form, on_bad_row="skip")
        except InputError:
            continue
        assert [r.index for r in trace.requests] == list(range(len(trace.requests)))
        assert all(r.input_tokens >= 1 and r.output_tokens >= 0 for r in trace.requests)
        text = Path("any").read_bytes().decode("utf-8-sig", errors="replace")
        lines = [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
        header_lines = len(lines) - len(trace.requests) - len(trace.skipped)
        assert header_lines in {0, 1}
