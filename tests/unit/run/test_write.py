"""`sim.run.write`: what a run leaves on disk, whole or not at all."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sim.errors import InputError, InvariantError
from sim.measure.causes import CAUSES
from sim.run.result import Result
from sim.run.write import read_result, write_result, write_whole
from tests.strategies_result import DENSE, LONG, MOE, SSM, result


@pytest.fixture(scope="module")
def small() -> Result:
    return result((DENSE, MOE), batches=(1, 16, 64), contexts=(1024, 16384))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_written_reads_back_equal(tmp_path: Path) -> None:
    for written in (result((DENSE, MOE, SSM)), result((LONG,), (256,), (65536,))):
        write_result(written, tmp_path)
        assert read_result(tmp_path / "result.json") == written


def test_two_writes_give_the_same_bytes(small: Result, tmp_path: Path) -> None:
    first = write_result(small, tmp_path / "a")
    second = write_result(result((DENSE, MOE), (1, 16, 64), (1024, 16384)), tmp_path / "b")
    assert [p.name for p in first] == [p.name for p in second]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_the_order_of_a_ledger_does_not_change_the_bytes(small: Result, tmp_path: Path) -> None:
    turned = tuple(
        replace(p, ledger_ps=dict(reversed(list(p.ledger_ps.items())))) for p in small.points
    )
    write_result(small, tmp_path / "a")
    write_result(replace(small, points=turned), tmp_path / "b")
    for name in ("result.json", "ledger.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_each_ledger_row_has_all_causes_in_order_and_sums_to_its_step(
    small: Result, tmp_path: Path
) -> None:
    write_result(small, tmp_path)
    found = rows(tmp_path / "ledger.csv")
    assert list(found[0]) == [
        "contestant",
        "batch",
        "context",
        "step_ps",
        *(f"{c}_ps" for c in CAUSES),
    ]
    assert len(found) == sum(p.fits for p in small.points)
    for row in found:
        assert sum(int(row[f"{cause}_ps"]) for cause in CAUSES) == int(row["step_ps"])


def test_a_ledger_one_picosecond_off_is_refused_before_any_file_is_written(
    small: Result, tmp_path: Path
) -> None:
    point = small.points[0]
    wrong = replace(point, ledger_ps=point.ledger_ps | {"tail": point.ledger_ps["tail"] + 1})
    with pytest.raises(InvariantError, match=r"batch 1, context 1024: the ledger sums to \d+ ps"):
        write_result(replace(small, points=(wrong, *small.points[1:])), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_cause_is_refused(small: Result, tmp_path: Path) -> None:
    wrong = replace(small.points[0], ledger_ps={"gremlins": small.points[0].step_ps})
    with pytest.raises(InvariantError, match="unknown causes in the ledger: gremlins"):
        write_result(replace(small, points=(wrong,)), tmp_path)


def test_points_that_do_not_fit_have_empty_cells_and_a_note(small: Result, tmp_path: Path) -> None:
    write_result(small, tmp_path)
    misfits = [row for row in rows(tmp_path / "points.csv") if row["fits"] == "false"]
    assert len(misfits) == sum(not p.fits for p in small.points) > 0
    for row in misfits:
        assert row["step_ps"] == row["tokens_per_s"] == row["bound"] == row["hbm_bytes"] == ""
        assert int(row["needs_bytes"]) > int(row["capacity_bytes"])
        assert row["note"].startswith("does not fit: needs ")
        assert "of 80.0 GB: weights " in row["note"]


def test_points_that_fit_have_every_cell_and_no_note(small: Result, tmp_path: Path) -> None:
    write_result(small, tmp_path)
    fitting = [row for row in rows(tmp_path / "points.csv") if row["fits"] == "true"]
    assert all(value for row in fitting for key, value in row.items() if key != "note")
    assert {row["note"] for row in fitting} == {""}
    assert float(fitting[0]["tokens_per_s"]) == small.points[0].tokens_per_s


def test_traffic_and_operators_have_a_row_for_each_record(small: Result, tmp_path: Path) -> None:
    write_result(small, tmp_path)
    traffic, operators = rows(tmp_path / "traffic.csv"), rows(tmp_path / "operators.csv")
    assert len(traffic) == sum(len(p.traffic) for p in small.points)
    assert len(operators) == sum(len(p.operators) for p in small.points)
    hbm = sum(int(row["size_bytes"]) for row in traffic if row["level"] == "hbm")
    points = rows(tmp_path / "points.csv")
    assert hbm == sum(int(row["hbm_bytes"]) for row in points if row["hbm_bytes"])


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write_whole(tmp_path / "points.csv", b"old")

    def full_disk(source: Path, _: Path) -> None:
        assert source.parent == tmp_path
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(InputError, match=r"points\.csv: cannot be written: No space left"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_a_file_is_told_without_a_traceback(small: Result, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        write_result(small, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a tokenstall result: the top level is no object"),
        ("{}", "is not a tokenstall result: it has no schema_version"),
        (
            '{"schema_version": 99}',
            r"schema_version = 99: this result was written by another .*2\)",
        ),
    ],
)
def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_result(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_result(tmp_path / "result.json")


def test_all_problems_of_a_damaged_result_are_told_at_once(small: Result, tmp_path: Path) -> None:
    write_result(small, tmp_path)
    path = tmp_path / "result.json"
    data = json.loads(path.read_text())
    data["seed"] = "seven"
    data["chip"]["colour"] = "green"
    del data["chip"]["name"]
    data["points"][1]["ledger_ps"]["host"] = 1.5
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        read_result(path)
    assert [(p.key, p.message) for p in caught.value.problems] == [
        ("seed", "expected an integer"),
        ("chip.name", "is missing"),
        ("chip.colour", "is not a key of a result"),
        ("points[1].ledger_ps.host", "expected an integer"),
    ]


def test_causes_of_banks_are_a_table_of_their_own(small: Result, tmp_path: Path) -> None:
    """Only where some point has them; what a point lacks is 0, and reading gives them back."""
    write_result(small, tmp_path)
    assert not (tmp_path / "dram.csv").exists()
    first, *others = small.points
    looked = replace(first, dram_ps={"idle": 5, "data": 7})
    banked = replace(small, points=(looked, *others))
    write_result(banked, tmp_path)
    head, row, *_ = (tmp_path / "dram.csv").read_text().splitlines()
    assert head == "contestant,batch,context,data_ps,idle_ps"
    assert row == f"{first.contestant},{first.batch},{first.context},7,5"
    assert read_result(tmp_path / "result.json") == banked
