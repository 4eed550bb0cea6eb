"""The tables and cards of a serving report, as text cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from typing import Final

from analysis.page import TINT
from analysis.style import REQUEST_COLOURS, mixed
from sim.measure.causes import REQUEST_CAUSES
from sim.run.serve_answer import mean_request_ps
from sim.run.serve_measured import compared, digits
from sim.run.serve_result import Served, ServeInfo, Sweep
from sim.serving.metrics import Spread
from sim.units import format_rate, format_time

"""Strength of a cause's colour in the table when it takes the whole time."""
PS_PER_MS: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of text with a note under it."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def tables(results: Sequence[Served], sweep: Sweep | None) -> list[Table]:
    """Return the tables of a report; those without a row are left out."""
    found = (_counts(results), _latencies(results), _measured(results), _sweep(sweep))
    return [table for table in found if table.rows]


def card(one: Served) -> dict[str, object]:
    """Return what the card of a contestant says."""
    info, config = one.info, one.info.config
    gpus = sum(log.gpus for log in one.run.replicas)
    roles = f", {config.prefill_replicas} of them for prompts" if config.prefill_replicas else ""
    facts = {
        "model": info.model,
        "chip": f"{info.chip_title}, {format_rate(info.peak_bytes_per_s)} peak",
        "replicas": f"{config.replicas}{roles}, {gpus} GPU{'s' * (gpus > 1)} in all, router "
        f"{config.router}",
        "parallel": f"tensor {config.tensor_parallel}, data {config.data_parallel}, expert "
        f"{'on' if config.expert_parallel else 'off'}",
        "policy": config.policy,
        "batch": f"at most {config.max_num_seqs} sequences, "
        f"{config.max_num_batched_tokens:,} tokens a step",
        "KV cache": f"{_blocks(one)} blocks of {config.block_tokens} tokens, prefix caching "
        f"{'on' if config.enable_prefix_caching else 'off'}",
        "traffic": _traffic(info),
        "SLO": _slo(info),
    }
    return {"name": info.contestant, "facts": facts, "notes": info.notes}


def ledger_rows(results: Sequence[Served]) -> list[dict[str, object]]:
    """Return a row per contestant: per cent of the mean request's time, and a tint, per cause."""
    causes = used_causes(results)
    rows: list[dict[str, object]] = []
    for one in results:
        times = mean_request_ps(one)
        whole = sum(times.values()) or 1.0
        shares = [(cause, times.get(cause, 0.0) / whole) for cause in causes]
        rows.append(
            {
                "name": one.info.contestant,
                "mean": format_time(int(one.e2e.mean)),
                "shares": [
                    (f"{100 * s:.1f}", mixed(REQUEST_COLOURS[c], TINT * s)) for c, s in shares
                ],
            }
        )
    return rows


def used_causes(results: Sequence[Served]) -> list[str]:
    """Return the causes that any request is charged for, in their order."""
    spent = [mean_request_ps(one) for one in results]
    return [cause for cause in REQUEST_CAUSES if any(times.get(cause) for times in spent)]


def _counts(results: Sequence[Served]) -> Table:
    head = (
        "contestant", "finished", "failed", "requests/s", "good requests/s", "output tokens/s",
        "all tokens/s", "most at once", "preemptions", "prefix hits", "KV peak", "duration",
    )  # fmt: skip
    rows = []
    for one in results:
        h = one.headline
        good = "no SLO" if h.goodput is None else f"{h.goodput:.2f}"
        rows.append(
            (
                one.info.contestant, f"{h.completed:,}", f"{h.failed:,}", f"{h.requests_per_s:.2f}",
                good, f"{h.output_tokens_per_s:,.0f}", f"{h.total_tokens_per_s:,.0f}",
                f"{h.most_concurrent:,}", f"{h.preemptions:,}", f"{h.prefix_hit:.0%}",
                f"{h.kv_peak:.0%}", format_time(h.duration_ps),
            )
        )  # fmt: skip
    note = "Good requests kept every limit of the SLO; prefix hits are prompt tokens found cached."
    return Table(head=head, rows=tuple(rows), note=note)


def _latencies(results: Sequence[Served]) -> Table:
    names = (("TTFT", "ttft"), ("TPOT", "tpot"), ("ITL", "itl"), ("E2E", "e2e"))
    rows: list[tuple[str, ...]] = []
    for one in results:
        for name, field in names:
            values: Spread = getattr(one, field)
            if values.count:
                times = (values.mean, values.p50, values.p90, values.p95, values.p99, values.most)
                cells = (f"{time / PS_PER_MS:,.2f}" for time in times)
                rows.append((one.info.contestant, name, *cells, f"{values.count:,}"))
    head = ("contestant", "latency (ms)", "mean", "median", "p90", "p95", "p99", "most", "values")
    note = "ITL are the gaps between tokens of all requests; TPOT is their mean per request."
    return Table(head=head, rows=tuple(rows), note=note)


def _measured(results: Sequence[Served]) -> Table:
    rows = [
        (
            one.info.contestant, row.name, row.unit, digits(row.measured),
            digits(row.simulated), f"{100 * row.error:+.1f} %",
        )
        for one in results
        for row in compared(one)
    ]  # fmt: skip
    head = ("contestant", "against a real run", "unit", "measured", "simulated", "error")
    note = "Measured latencies are counted from the arrival of a request in the trace."
    return Table(head=head, rows=tuple(rows), note=note)


def _sweep(sweep: Sweep | None) -> Table:
    rows = [
        (
            p.contestant, f"{p.rate:.4g}", f"{p.output_tokens_per_s:,.0f}",
            *(f"{t / PS_PER_MS:,.1f}" for t in (p.ttft_p50_ps, p.ttft_p99_ps)),
            *(f"{t / PS_PER_MS:,.2f}" for t in (p.tpot_p50_ps, p.tpot_p99_ps)),
            {None: "no SLO", True: "kept", False: "broken"}[p.holds],
        )
        for p in (sweep.points if sweep else ())
    ]  # fmt: skip
    head = (
        "contestant", "requests/s", "output tokens/s", "TTFT median (ms)", "TTFT p99 (ms)",
        "TPOT median (ms)", "TPOT p99 (ms)", "SLO",
    )  # fmt: skip
    found = [
        f"{name} keeps the SLO up to {rate:.3g} requests/s"
        if rate is not None
        else f"{name} keeps it at no rate tried"
        for name, rate in (sweep.max_rate.items() if sweep else ())
    ]
    return Table(head=head, rows=tuple(rows), note=f"{'; '.join(found)}." if found else "")


def _blocks(one: Served) -> str:
    counts = sorted({log.kv_blocks_total for log in one.run.replicas}) or [0]
    return " or ".join(f"{count:,}" for count in counts)


def _traffic(info: ServeInfo) -> str:
    rate = (
        "as the trace has it" if isinf(info.request_rate) else f"{info.request_rate:g} requests/s"
    )
    most = f", at most {info.max_concurrency} in flight" if info.max_concurrency else ""
    skipped = f", {info.skipped:,} requests skipped" if info.skipped else ""
    return f"{info.trace}, {rate}{most}{skipped}"


def _slo(info: ServeInfo) -> str:
    if info.slo is None:
        return "none"
    limits = (("TTFT", info.slo.ttft_ps), ("TPOT", info.slo.tpot_ps), ("E2E", info.slo.e2e_ps))
    return ", ".join(f"{name} {format_time(t)}" for name, t in limits if t is not None) or "none"
