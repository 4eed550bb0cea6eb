"""`sim.serving.trace_rows`: what counts as a number of a trace."""

from decimal import Decimal

import pytest

from sim.serving.trace_rows import MAX_TOKENS, Reading, csv_cells, json_object, objects, table
from sim.units import PS_PER_S


def told(reading: Reading) -> list[str]:
    return [str(problem) for problem in reading.problems]


@pytest.mark.parametrize(
    ("value", "tokens"),
    [(5, 5), ("5", 5), ("0005", 5), (" 5", 5), (Decimal("5.0"), 5), ("5.0", 5), ("5e2", 500)],
)
def test_an_integer_may_be_written_in_many_ways(value: object, tokens: int) -> None:
    """Tables of pandas write 5.0 where a column has holes."""
    assert Reading("f").tokens("n", value, 1) == tokens


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "f:0: n: is missing"),
        ("", "f:0: n: is missing"),
        (True, "f:0: n = true: is not an integer"),
        ([1], "f:0: n = [1]: is not an integer"),
        ("²", "f:0: n = ²: is not an integer"),
        ("1.5", "f:0: n = 1.5: is not an integer"),
        (Decimal("NaN"), "f:0: n = NaN: is not an integer"),
        (Decimal("Infinity"), "f:0: n = Infinity: is not an integer"),
        (-3, "f:0: n = -3: is too small (expected 1 or more)"),
        (Decimal("-1e999999"), "f:0: n = -1E+999999: is too small (expected 1 or more)"),
        (MAX_TOKENS + 1, "f:0: n = 1000000001: is too large (expected at most 1000000000)"),
        ("9" * 99, f"f:0: n = {'9' * 60}...: is too large (expected at most 1000000000)"),
        ("1e999999", "f:0: n = 1e999999: is too large (expected at most 1000000000)"),
    ],
)
def test_what_is_no_number_of_tokens_is_told(value: object, message: str) -> None:
    """With the value as written."""
    reading = Reading("f")
    assert reading.tokens("n", value, 1) is None
    assert told(reading) == [message]


def test_times_are_exact_to_the_picosecond() -> None:
    """A binary float could not tell a picosecond of a clock since 1970."""
    read = Reading("f").time_ps
    assert read("t", Decimal("1787267980.082740300001"), PS_PER_S) == 1787267980082740300001
    assert read("t", 27, 10**9) == 27 * 10**9
    assert read("t", "0.1", PS_PER_S) == 10**11
    assert read("t", "1e-13", PS_PER_S) == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "f:0: t: is missing"),
        (False, "f:0: t = false: is not a number"),
        ("soon", "f:0: t = soon: is not a number"),
        ("1e99999999999999999999", "f:0: t = 1e99999999999999999999: is not a number"),
        (Decimal("-Infinity"), "f:0: t = -Infinity: is not finite"),
        ("sNaN", "f:0: t = sNaN: is not finite"),
        ("-0.001", "f:0: t = -0.001: is too small (expected 0 or more)"),
        ("1e999", "f:0: t = 1e999: is too large (expected at most 1000000000000000)"),
    ],
)
def test_what_is_no_time_is_told(value: object, message: str) -> None:
    """With the value as written."""
    reading = Reading("f")
    assert reading.time_ps("t", value, PS_PER_S) is None
    assert told(reading) == [message]


def test_a_prompt_has_no_more_hashes_than_blocks() -> None:
    """The last block may be partly filled."""
    reading = Reading("f")
    assert reading.hashes("h", [7, "8", -9], 1025) == (7, 8, -9)
    assert reading.hashes("h", [7, 8, 9], 1024) is None
    assert told(reading) == [
        "f:0: h: has 3 blocks of 512 tokens (expected at most 2 for 1024 input tokens)"
    ]


@pytest.mark.parametrize("value", ["x", "-", "1.0", True, None, "1" * 41])
def test_a_hash_is_an_integer(value: object) -> None:
    """Whatever else is told."""
    reading = Reading("f")
    assert reading.hashes("h", [1, value], 9999) is None
    assert "is not a hash (expected integers)" in told(reading)[0]


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "5", '{"a": 1', "[" * 100_000, '{"a": ' + "9" * 5000 + "}"]
)
def test_what_is_no_object_is_none(text: str) -> None:
    """No text raises, however odd."""
    assert json_object(text) is None


def test_lines_are_counted_blank_ones_too() -> None:
    """A Problem names the line that an editor shows."""
    reading = Reading("f")
    found = [(reading.line, each) for each in objects(['{"a": 0.1}', " ", "oops", "{}"], reading)]
    assert found == [(1, {"a": Decimal("0.1")}), (4, {})]
    assert told(reading) == ["f:3: is not a JSON object (expected one JSON object a line)"]


def test_columns_may_stand_in_any_order_among_others() -> None:
    """Optional ones are left out if they are not there."""
    reading = Reading("f")
    lines = ["who, b ,a\n", '"x, y", 2 ,1', "z,4"]
    assert list(table(lines, reading, ["a", "b"], ["c"])) == [["1", "2"]]
    assert list(table(lines, Reading("f"), ["a"], ["who"])) == [["1", "x, y"]]
    assert told(reading) == ["f:3: has 2 fields (expected 3 as in the header)"]


def test_a_quote_that_is_not_closed_spoils_its_row_only() -> None:
    """Rows cannot span lines."""
    assert csv_cells('a,"b,c') == ["a", "b,c"]
    assert csv_cells('"' + "x" * 200_000 + '"') == []
