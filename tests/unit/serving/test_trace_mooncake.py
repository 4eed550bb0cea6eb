"""`sim.serving.trace_mooncake`: JSON lines with prefix hashes."""

from sim.serving.trace_mooncake import read_mooncake
from sim.serving.trace_rows import Reading, Row


def test_times_are_milliseconds_and_hashes_are_optional() -> None:
    """The clock is the trace's own: it need not start at 0."""
    lines = [
        '{"timestamp": 27482, "input_length": 1025, "output_length": 52, "hash_ids": [46, 47, 2]}',
        '{"timestamp": 30535.5, "input_length": 6472, "output_length": 0}',
        '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": null, "more": 1}',
    ]
    reading = Reading("f")
    assert read_mooncake(lines, reading) == [
        Row(27_482_000_000_000, 1025, 52, (46, 47, 2)),
        Row(30_535_500_000_000, 6472, 0),
        Row(0, 1, 1),
    ]
    assert not reading.problems


def test_everything_that_is_wrong_in_a_row_is_told() -> None:
    """A row with a mistake is left out."""
    lines = [
        '{"timestamp": NaN, "input_length": 0}',
        '{"timestamp": 1, "input_length": 9, "output_length": 1, "hash_ids": 5}',
        '{"timestamp": 1, "input_length": 9, "output_length": 1, "hash_ids": ["a"]}',
    ]
    reading = Reading("f")
    assert read_mooncake(lines, reading) == []
    assert [str(problem) for problem in reading.problems] == [
        "f:1: timestamp = NaN: is not finite",
        "f:1: input_length = 0: is too small (expected 1 or more)",
        "f:1: output_length: is missing",
        "f:2: hash_ids = 5: is not a list (expected integers)",
        "f:3: hash_ids = a: is not a hash (expected integers)",
    ]
