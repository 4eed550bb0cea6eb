"""`sim.serving.series`: a run in buckets loses nothing."""

from array import array

import numpy as np
import pytest
from hypothesis import given

from sim.measure.causes import CAUSES
from sim.serving.record import ReplicaLog, RequestRecord, ServeRun
from sim.serving.request import Trace
from sim.serving.series import series, stall_shares
from tests.strategies_serve import PS_PER_S, serve_runs

S = PS_PER_S


def two_steps() -> ServeRun:
    """Return a replica that steps from 0 to 2 s and, after an idle second, from 3 to 4 s."""
    log = ReplicaLog(
        kv_blocks_total=10,
        start_ps=array("q", [0, 3 * S]),
        end_ps=array("q", [2 * S, 4 * S]),
        prefill_tokens=array("q", [100, 0]),
        decodes=array("q", [0, 1]),
        generated=array("q", [1, 1]),
        running=array("q", [1, 2]),
        waiting=array("q", [3, 0]),
        kv_blocks=array("q", [5, 10]),
        hbm_bytes=array("q", [200, 50]),
        flop=array("q", [0, 400]),
        ledger_at=[(2 * S, (S, S, *[0] * 11)), (4 * S, (2 * S, S, *[0] * 11))],
    )
    sent = RequestRecord(index=0, sent_ps=0, input_tokens=100, output_tokens=2)
    return ServeRun(requests=(sent,), replicas=(log,), events=2)


def test_two_steps_in_four_seconds_by_hand() -> None:
    found = series(two_steps(), 100.0, 1000.0, buckets=4)
    assert (found.edges_ps / S).tolist() == [0, 1, 2, 3, 4]
    assert found.prompt_tokens_per_s.tolist() == [50, 50, 0, 0]
    assert found.output_tokens_per_s.tolist() == [0.5, 0.5, 0, 1]
    assert found.running.tolist() == [1, 1, 0, 2]
    assert found.waiting.tolist() == [3, 3, 0, 0]
    assert found.kv.tolist() == [0.5, 0.5, 0, 1]
    assert found.mbu.tolist() == [1, 1, 0, 0.5]
    assert found.mfu.tolist() == [0, 0, 0, 0.4]
    assert found.stalls[:2].tolist() == [[0.5, 0.5, 1, 1], [0.5, 0.5, 0, 0]]


def test_a_run_without_steps_is_flat() -> None:
    empty = ServeRun(requests=(), replicas=(ReplicaLog(),), events=0)
    found = series(empty, 1.0, 1.0, buckets=3)
    assert found.running.tolist() == [0, 0, 0]
    assert found.stalls.shape == (len(CAUSES), 3)
    assert not found.stalls.any()
    assert not stall_shares(ServeRun(requests=(), replicas=(), events=0), found.edges_ps).any()


@given(serve_runs())
def test_sums_over_buckets_are_sums_over_steps_and_stalls_are_shares(
    case: tuple[Trace, ServeRun],
) -> None:
    _, run = case
    found = series(run, 3.35e12, 989e12, buckets=50)
    width_s = (found.edges_ps[1] - found.edges_ps[0]) / S
    tokens = sum(sum(log.generated) for log in run.replicas)
    assert found.output_tokens_per_s.sum() * width_s == pytest.approx(tokens, abs=1e-3)
    whole = found.stalls.sum(axis=0)
    assert np.all((np.abs(whole - 1) < 1e-9) | (whole == 0))
    assert np.all(found.kv <= 1 + 1e-9)
