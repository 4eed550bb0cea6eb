"""The CSV tables of a serving run: requests, time series, steps."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from sim.errors import InvariantError
from sim.measure.causes import CAUSES, REQUEST_CAUSES
from sim.run.serve_result import Served
from sim.serving.record import Outcome, RequestRecord, ServeRun
from sim.serving.series import Series, series

Cell = str | int | None

REQUEST_COLUMNS: Final = (
    "index", "arrival_ps", "sent_ps", "outcome", "replica", "input_tokens", "output_tokens",
    "queue_ps", "prefill_ps", "decode_ps", "ttft_ps", "tpot_ps", "e2e_ps", "preemptions",
    "prefix_hit_tokens", "reason", *(f"cause_{cause}_ps" for cause in REQUEST_CAUSES),
)  # fmt: skip
SERIES_COLUMNS: Final = (
    "start_ps", "end_ps", "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
    "prompt_tokens_per_s", "generation_tokens_per_s", "mbu", "mfu",
    *(f"stall_{cause}" for cause in CAUSES),
)  # fmt: skip
STEP_COLUMNS: Final = (
    "replica", "role", "step", "start_ps", "end_ps", "decodes", "prefill_tokens", "generated",
    "running", "waiting", "kv_blocks", "hbm_bytes", "flop",
)  # fmt: skip


def check_causes(run: ServeRun) -> None:
    """Raise InvariantError unless the causes of every finished request sum to its life."""
    done = [r for r in run.requests if r.outcome is Outcome.FINISHED]
    for record in done:
        if len(record.causes_ps) != len(REQUEST_CAUSES) or record.finished_ps is None:
            counts = f"{len(record.causes_ps)} causes instead of {len(REQUEST_CAUSES)}"
            raise InvariantError(f"request {record.index}: it has no end or {counts}")
        life_ps = record.finished_ps - record.sent_ps
        if sum(record.causes_ps) != life_ps:
            raise InvariantError(
                f"request {record.index}: its causes sum to {sum(record.causes_ps)} ps "
                f"but it took {life_ps} ps"
            )
        if min(record.causes_ps) < 0:
            names = [n for n, ps in zip(REQUEST_CAUSES, record.causes_ps, strict=True) if ps < 0]
            raise InvariantError(f"request {record.index}: {', '.join(names)} below 0 ps")


def requests_csv(one: Served) -> str:
    """Return `requests.csv`: a row per request, times in ps, causes that sum to `e2e_ps`.

    `queue_ps`, `prefill_ps` and `decode_ps` sum to `e2e_ps` too; a rejected request has none of
    them, one that asked for no token has no `ttft_ps`, and one below two tokens no `tpot_ps`.
    Raises InvariantError if causes do not sum.
    """
    check_causes(one.run)
    arrived = [request.arrival_ps for request in one.trace.requests]
    rows = map(_request_cells, one.run.requests, arrived)
    return _csv(REQUEST_COLUMNS, rows)


def timeseries_csv(one: Served) -> str:
    """Return `timeseries.csv`: a few hundred buckets; levels are means, stalls are shares.

    Names are those of vLLM's metrics where it has one; `kv_cache_usage_perc` is from 0 to 1 as
    there.
    """
    return _csv(SERIES_COLUMNS, _series_rows(series_of(one)))


def series_of(one: Served) -> Series:
    """Return the time series of a run against the peak rates of its chip."""
    return series(one.run, one.info.peak_bytes_per_s, one.info.peak_flop_per_s)


def steps_csv(run: ServeRun) -> str:
    """Return `steps.csv`: every step of every replica."""
    return _csv(STEP_COLUMNS, _step_rows(run))


def _request_cells(r: RequestRecord, arrival_ps: int) -> tuple[Cell, ...]:
    start = (r.index, arrival_ps, r.sent_ps, r.outcome.value, r.replica, r.input_tokens)
    if r.finished_ps is None or r.scheduled_ps is None:
        empty = (None,) * (len(REQUEST_CAUSES))
        return (
            *start, r.output_tokens, *empty[:6], r.preemptions, r.prefix_hit_tokens, r.reason,
            *empty,
        )  # fmt: skip
    first_ps = r.finished_ps if r.first_token_ps is None else r.first_token_ps
    gaps, decode_ps = r.output_tokens - 1, r.finished_ps - first_ps
    return (
        *start, r.output_tokens, r.scheduled_ps - r.sent_ps, first_ps - r.scheduled_ps, decode_ps,
        None if r.first_token_ps is None else first_ps - r.sent_ps,
        (decode_ps + gaps // 2) // gaps if gaps > 0 else None, r.finished_ps - r.sent_ps,
        r.preemptions, r.prefix_hit_tokens, r.reason, *r.causes_ps,
    )  # fmt: skip


def _series_rows(found: Series) -> Iterator[Sequence[str]]:
    edges = found.edges_ps.round().astype(np.int64).tolist()
    columns = (
        found.running, found.waiting, found.kv, found.prompt_tokens_per_s,
        found.output_tokens_per_s, found.mbu, found.mfu, *found.stalls,
    )  # fmt: skip
    for bucket, values in enumerate(np.stack(columns, axis=1).tolist()):
        bounds = (str(edges[bucket]), str(edges[bucket + 1]))
        yield (*bounds, *(f"{value:.6g}" for value in values))


def _step_rows(run: ServeRun) -> Iterator[tuple[Cell, ...]]:
    for index, log in enumerate(run.replicas):
        columns = (
            log.start_ps, log.end_ps, log.decodes, log.prefill_tokens, log.generated, log.running,
            log.waiting, log.kv_blocks, log.hbm_bytes, log.flop,
        )  # fmt: skip
        for step, values in enumerate(zip(*columns, strict=True)):
            yield (index, log.role, step, *values)


def _csv(columns: tuple[str, ...], rows: Iterable[Sequence[Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
