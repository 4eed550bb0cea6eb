"""`sim.run.explain`: where the time of one request went, in sentences."""

from pathlib import Path

import pytest

import sim.cli as command_line
from sim.errors import InputError
from sim.run.explain import explain
from sim.run.serve_result import Served, served
from sim.run.serve_write import write_serve
from sim.serving.config import Slo
from sim.serving.record import Outcome, RequestRecord, ServeRun
from tests.strategies_serve import PS_PER_S, info, toy_served, trace_of

MS = 10**9


def causes(**times: int) -> tuple[int, ...]:
    from sim.measure.causes import REQUEST_CAUSES  # noqa: PLC0415

    return tuple(times.get(name, 0) for name in REQUEST_CAUSES)


def by_hand(slo: Slo | None = None) -> Served:
    """Return a run of three usual requests, one that waited long, and a rejected one."""
    usual = [
        RequestRecord(
            index=i, sent_ps=0, input_tokens=100, output_tokens=11, scheduled_ps=100 * MS,
            first_token_ps=400 * MS, finished_ps=1400 * MS,
            causes_ps=causes(queue=100 * MS, tensor=300 * MS, hbm_bandwidth=1000 * MS),
        )
        for i in range(3)
    ]  # fmt: skip
    slow = RequestRecord(
        index=3, sent_ps=0, input_tokens=5120, output_tokens=11, scheduled_ps=1900 * MS,
        first_token_ps=2400 * MS, finished_ps=5400 * MS, preemptions=2, prefix_hit_tokens=2560,
        causes_ps=causes(
            queue=1900 * MS, tensor=500 * MS, preempted=1800 * MS, hbm_bandwidth=1200 * MS
        ),
    )  # fmt: skip
    gone = RequestRecord(
        index=4, sent_ps=0, input_tokens=9, output_tokens=1, outcome=Outcome.REJECTED,
        reason="longer than max_model_len",
    )  # fmt: skip
    run = ServeRun(requests=(*usual, slow, gone), replicas=(), events=0)
    trace = trace_of([(0, r.input_tokens, r.output_tokens) for r in run.requests])
    return served(info(slo=slo), run, trace)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_serve(by_hand(Slo(ttft_ps=PS_PER_S, tpot_ps=200 * MS)), tmp_path / "x")
    return tmp_path / "x"


def test_a_request_that_waited_is_explained(folder: Path) -> None:
    assert explain(folder, "3") == [
        "Request 3 of Toy-8B had 5,120 input tokens, 2,560 of them found in the prefix cache; it "
        "asked for 11 output tokens and was preempted 2 times.",
        "Its first token came after 2.4 s (median 400 ms); then one every 300 ms (median 100 ms); "
        "it was done after 5.4 s (median 1.4 s).",
        "1.9 s of its 2.4 s TTFT it waited in the queue (median 100 ms); 500 ms went from there "
        "to the first token (median 300 ms).",
        "Where its 5.4 s went, by cause:",
        "- queue, 1.9 s, 35 % (median 100 ms): waiting to be admitted: batch full, no room for "
        "its KV, a step running.",
        "- preempted, 1.8 s, 33 % (median 0 ps): thrown out of the KV cache, waiting to come back.",
        "- HBM bandwidth, 1.2 s, 22 % (median 1 s): waiting for data while the HBM channels are "
        "saturated.",
        "It broke the SLO of 1 s on TTFT by 1.4 s: 1.4 s less in the queue would have been enough.",
        "It broke the SLO of 200 ms on TPOT by 100 ms, 1 s over all its tokens: 1 s less thrown "
        "out of the cache would have been enough.",
    ]


def test_a_request_that_did_not_wait_kept_the_slo(folder: Path) -> None:
    assert explain(folder, "0")[-1] == "It kept the SLO (TTFT 1 s, TPOT 200 ms)."


def test_without_an_slo_there_is_none_to_break(tmp_path: Path) -> None:
    write_serve(by_hand(), tmp_path)
    assert explain(tmp_path, "3")[-1] == "There was no SLO to keep."


def test_a_rejected_request_is_told_with_its_reason(folder: Path) -> None:
    assert explain(folder, "4") == [
        "Request 4 of Toy-8B had 9 input tokens; it asked for 1 output tokens.",
        "It was rejected: longer than max_model_len.",
    ]


def test_the_slowest_can_be_asked_for_by_what_it_is_the_worst_of(folder: Path) -> None:
    for name in ("slowest", "slowest-ttft", "slowest-tpot"):
        assert explain(folder, name)[0].startswith("Request 3 ")


def test_a_first_token_that_did_not_wait_is_blamed_on_the_prompt(tmp_path: Path) -> None:
    write_serve(by_hand(Slo(ttft_ps=150 * MS)), tmp_path)
    assert explain(tmp_path, "0")[-1] == (
        "It broke the SLO of 150 ms on TTFT by 250 ms: 250 ms less on computing its prompt would "
        "have been enough."
    )


def test_a_limit_that_no_single_cause_explains_is_told(tmp_path: Path) -> None:
    write_serve(by_hand(Slo(e2e_ps=100 * MS)), tmp_path)
    assert explain(tmp_path, "3")[-1] == (
        "It broke the SLO of 100 ms on E2E by 5.3 s: time in the queue would have to shrink "
        "most, but even without its 1.9 s it would have been too slow."
    )


@pytest.mark.parametrize(
    ("place", "request_name", "contestant", "message"),
    [
        ("x", "812", None, r"x: --request = 812: no such request \(expected 0 to 4, slowest or"),
        ("x", "slow", None, r"did you mean 'slowest'\?"),
        ("xx", "1", None, r"xx: no such folder \(did you mean '.*x'\?\)"),
        ("x", "1", "Toy-8", r"x: no contestant 'Toy-8' .*; did you mean 'Toy-8B'\?"),
    ],
)
def test_what_does_not_exist_is_told_with_what_does(
    folder: Path, place: str, request_name: str, contestant: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        explain(folder.parent / place, request_name, contestant)


def test_a_folder_of_something_else_is_no_serving_result(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a serving result"):
        explain(tmp_path, "1")
    (tmp_path / "summary.json").write_text('{"schema_version": 99}')
    with pytest.raises(InputError, match="is not a serving result of this version"):
        explain(tmp_path, "1")


def test_one_of_several_contestants_has_to_be_named(tmp_path: Path) -> None:
    for name in ("dense", "moe"):
        write_serve(toy_served(5, name=f"{name} 8B"), tmp_path / name)
    message = r"holds 2 contestants \(expected --contestant with one of dense 8B, moe 8B\)"
    with pytest.raises(InputError, match=message):
        explain(tmp_path, "1")
    for name in ("moe", "moe 8B"):
        assert explain(tmp_path, "1", name)[0].startswith("Request 1 of moe 8B had ")


def test_the_command_prints_within_80_columns_and_ends_with_2_on_a_wrong_request(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for request_name, code in (("3", 0), ("99", 2)):
        with pytest.raises(SystemExit) as caught:
            command_line.main(["explain", str(folder), "--request", request_name])
        assert caught.value.code == code
    out, err = capsys.readouterr()
    assert max(map(len, out.split("\n"))) <= 80
    assert "\n- queue, 1.9 s, 35 %" in out
    assert "no such request" in err
