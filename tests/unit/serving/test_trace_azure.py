"""`sim.serving.trace_azure`: CSV with timestamps of seven decimals."""

import pytest

from sim.errors import InputError
from sim.serving.trace_azure import read_azure
from sim.serving.trace_rows import Reading, Row

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"


def test_times_are_exact_and_count_from_the_first_request() -> None:
    """Seven decimals are 100 ns; the first request need not be the first row."""
    lines = [
        HEADER,
        "2023-11-16 18:17:04.0319600,3180,8",
        "2023-11-16 18:17:03.9799601,4808,10",
        "2023-11-17 00:00:00,1,0",
    ]
    assert read_azure(lines, Reading("f")) == [
        Row(51_999_900_000, 3180, 8),
        Row(0, 4808, 10),
        Row(20_576_020_039_900_000, 1, 0),
    ]


@pytest.mark.parametrize(
    "stamp",
    [
        "2024-05-10 00:00:01.5",
        "2024-05-10T00:00:01.500000",
        "2024-05-10 00:00:01.500000+00:00",
        "2024-05-10 00:00:01.5Z",
        "2024-05-10 02:00:01.5+0200",
        "2024-05-09 23:30:01.5 -00:30",
    ],
)
def test_a_zone_may_follow(stamp: str) -> None:
    """The files of 2024 have one; a time without one is in UTC."""
    lines = [HEADER, "2024-05-10 00:00:00.0000000,1,1", f"{stamp},2,2"]
    assert read_azure(lines, Reading("f"))[1] == Row(1_500_000_000_000, 2, 2)


@pytest.mark.parametrize("stamp", ["yesterday", "2023-02-30 00:00:00", "2023-11-16 24:00:01"])
def test_what_is_no_time_is_told(stamp: str) -> None:
    """Dates that do not exist too."""
    reading = Reading("f")
    assert read_azure([HEADER, f"{stamp},0,1"], reading) == []
    assert [str(problem) for problem in reading.problems] == [
        "f:2: ContextTokens = 0: is too small (expected 1 or more)",
        f"f:2: TIMESTAMP = {stamp}: is not a time (expected as 2023-11-16 18:17:03.9799600)",
    ]


def test_a_column_that_is_missing_is_told_with_the_nearest_one() -> None:
    """Nothing can be read then."""
    with pytest.raises(InputError) as caught:
        read_azure(["TIMESTAMP,ContextToken,Generated"], Reading("f"))
    columns = "expected columns TIMESTAMP, ContextTokens, GeneratedTokens"
    assert str(caught.value).splitlines() == [
        f"f:1: ContextTokens: is missing from the header ({columns}; did you mean 'ContextToken'?)",
        f"f:1: GeneratedTokens: is missing from the header ({columns}; did you mean 'Generated'?)",
    ]
