"""The tables that the command line prints of serving runs: plain text within 80 columns."""

from collections.abc import Sequence
from math import isinf, isnan
from typing import Final

from sim.cli_table import MAX_COLUMNS, aligned, cut, tenths, wrapped
from sim.measure.causes import REQUEST_CAUSES
from sim.run.serve_answer import REQUEST_LABELS, serve_answer
from sim.run.serve_measured import compared, digits
from sim.run.serve_result import Served, Sweep
from sim.units import format_time

_COUNTS: Final = ("contestant", "done", "failed", "req/s", "tok/s")
_LATENCIES: Final = (
    "contestant", "TTFT mean", "p99", "TPOT mean", "p99", "E2E mean", "p99",
)  # fmt: skip


def serve_text(results: Sequence[Served]) -> str:
    """Return title, tables and answer of one contestant's run or of several.

    All are of one scenario; there must be at least one.
    """
    lines = [*wrapped(results[0].info.title), *_setting(results[0]), "", *count_table(results)]
    lines += ["", *latency_table(results)]
    for table in (cause_table(results), measured_table(results)):
        if table:
            lines += ["", *table]
    lines += ["", *(line for sentence in serve_answer(results) for line in wrapped(sentence))]
    notes = [f"{one.info.contestant}: {note}" for one in results for note in one.info.notes]
    if notes:
        lines += ["", *(line for note in notes for line in wrapped(note, rest="  "))]
    return "\n".join(lines)


def count_table(results: Sequence[Served]) -> list[str]:
    """Return a row per contestant: requests, rates and what became of the KV cache.

    "good/s" are requests a second that kept the SLO, left out where there is none; "hit" is the
    share of prompt tokens found in the prefix cache, "KV" how full the cache got.
    """
    has_slo = any(one.headline.goodput is not None for one in results)
    goods = ("good/s",) if has_slo else ()
    rows = [(*_COUNTS, *goods, "preempted", "hit", "KV")]
    for one in results:
        head = one.headline
        good = () if not has_slo else ("-" if head.goodput is None else f"{head.goodput:.2f}",)
        rows.append(
            (
                cut(one.info.contestant),
                str(head.completed),
                str(head.failed),
                f"{head.requests_per_s:.2f}",
                f"{head.output_tokens_per_s:.0f}",
                *good,
                str(head.preemptions),
                f"{head.prefix_hit:.0%}",
                f"{head.kv_peak:.0%}",
            )
        )
    return aligned(rows, left={0})


def latency_table(results: Sequence[Served]) -> list[str]:
    """Return a row per contestant: mean and 99th percentile of each latency."""
    rows: list[tuple[str, ...]] = [_LATENCIES]
    for one in results:
        pairs = ((s.mean, s.p99) if s.count else None for s in (one.ttft, one.tpot, one.e2e))
        cells = [format_time(int(t)) if pair else "-" for pair in pairs for t in pair or (0, 0)]
        rows.append((cut(one.info.contestant), *cells))
    return aligned(rows, left={0})


def cause_table(results: Sequence[Served]) -> list[str]:
    """Return where the mean request's time goes, in per cent by cause; each column sums to 100.0.

    The columns are the first few contestants of which a request took time.
    """
    shown = [one for one in results if sum(one.request_causes_ps)][:MAX_COLUMNS]
    if not shown:
        return []
    shares = [
        tenths(dict(zip(REQUEST_CAUSES, one.request_causes_ps, strict=True))) for one in shown
    ]
    rows = [("% of its time", *(cut(one.info.contestant) for one in shown))]
    rows += [
        (REQUEST_LABELS[cause], *(f"{share[cause] / 10:.1f}" for share in shares))
        for cause in REQUEST_CAUSES
        if any(share[cause] for share in shares)
    ]
    rows.append(("sum", *(f"{sum(share.values()) / 10:.1f}" for share in shares)))
    rows.append(("mean request", *(format_time(int(one.e2e.mean)) for one in shown)))
    return ["Where the mean request's time goes:", "", *aligned(rows, left={0})]


def measured_table(results: Sequence[Served]) -> list[str]:
    """Return the simulated runs beside the measured ones, or nothing where none was measured."""
    rows: list[tuple[str, ...]] = []
    for one in results:
        for row in compared(one):
            values = (digits(row.measured), digits(row.simulated), f"{100 * row.error:+.1f} %")
            rows.append((cut(one.info.contestant), row.name, row.unit, *values))
    if not rows:
        return []
    head = ("contestant", "", "unit", "measured", "simulated", "error")
    return ["Simulated against measured:", "", *aligned([head, *rows], left={0, 1, 2})]


def sweep_table(sweep: Sweep) -> list[str]:
    """Return a row per contestant and rate, and the highest rates that keep the SLO."""
    rows: list[tuple[str, ...]] = [
        ("contestant", "req/s", "tok/s", "TTFT p50", "p99", "TPOT p50", "p99", "SLO")
    ]
    for point in sweep.points:
        latencies = (point.ttft_p50_ps, point.ttft_p99_ps, point.tpot_p50_ps, point.tpot_p99_ps)
        rows.append(
            (
                cut(point.contestant),
                f"{point.rate:.3g}",
                f"{point.output_tokens_per_s:.0f}",
                *("-" if isnan(ps) else format_time(round(ps)) for ps in latencies),
                {True: "held", False: "broken", None: "-"}[point.holds],
            )
        )
    lines = aligned(rows, left={0, len(rows[0]) - 1})
    for contestant, rate in sweep.max_rate.items():
        told = "not even the lowest rate" if rate is None else f"up to {rate:.3g} requests/s"
        lines += ["", *wrapped(f"{contestant} keeps the SLO at {told}.")]
    return lines


def _setting(one: Served) -> list[str]:
    info = one.info
    rate = "" if isinf(info.request_rate) else f" at {info.request_rate:g} requests/s"
    replicas = info.config.replicas
    many = f", {replicas} replicas by {info.config.router}" if replicas > 1 else ""
    limits = [
        f"{name} {format_time(limit)}"
        for name, limit in (
            ("TTFT", info.slo.ttft_ps),
            ("TPOT", info.slo.tpot_ps),
            ("E2E", info.slo.e2e_ps),
        )
        if limit is not None
    ] if info.slo else []  # fmt: skip
    slo = f", SLO {', '.join(limits)}" if limits else ""
    skipped = f", {info.skipped} requests skipped" if info.skipped else ""
    return wrapped(
        f"{info.chip_title}, engine {info.engine}, policy {info.config.policy}{many}; "
        f"{info.trace}{rate}{slo}{skipped}"
    )
