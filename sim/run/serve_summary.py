"""`summary.json`: the numbers of a serving run that a person or a script asks for first."""

from dataclasses import asdict
from math import isinf

from sim.measure.causes import CAUSES, REQUEST_CAUSES
from sim.run.serve_measured import compared
from sim.run.serve_result import SERVE_SCHEMA_VERSION, Served
from sim.serving.metrics import Spread

PS_PER_MS = 1e9


def summary(one: Served) -> dict[str, object]:
    """Return the content of `summary.json`; `measured` is null without measured times.

    Ledgers are ps over all finished requests and over all steps of all replicas, by cause;
    latencies are ms.
    """
    return {
        "schema_version": SERVE_SCHEMA_VERSION,
        "info": _info(one),
        "headline": asdict(one.headline),
        "latencies_ms": {
            "ttft": _milliseconds(one.ttft),
            "tpot": _milliseconds(one.tpot),
            "itl": _milliseconds(one.itl),
            "e2e": _milliseconds(one.e2e),
        },
        "request_causes_ps": dict(zip(REQUEST_CAUSES, one.request_causes_ps, strict=False)),
        "step_causes_ps": dict(zip(CAUSES, one.step_causes_ps, strict=False)),
        "replicas": [_replica(one, index) for index in range(len(one.run.replicas))],
        "events": one.run.events,
        "measured": _measured(one),
    }


def _info(one: Served) -> dict[str, object]:
    info = asdict(one.info)
    if isinf(one.info.request_rate):
        info["request_rate"] = "inf"
    return info


def _milliseconds(values: Spread) -> dict[str, float]:
    names = ("mean", "std", "least", "p50", "p90", "p95", "p99", "most")
    times = {name: getattr(values, name) / PS_PER_MS for name in names}
    return {"count": values.count, **times}


def _replica(one: Served, index: int) -> dict[str, object]:
    log = one.run.replicas[index]
    steps = len(log.end_ps)
    busy_ps = sum(log.end_ps) - sum(log.start_ps)
    return {
        "role": log.role,
        "gpus": log.gpus,
        "steps": steps,
        "busy_ps": busy_ps,
        "prefill_tokens": sum(log.prefill_tokens),
        "generated": sum(log.generated),
        "kv_blocks_total": log.kv_blocks_total,
        "kv_blocks_peak": max(log.kv_blocks, default=0),
        "kv_blocks_mean": sum(log.kv_blocks) / steps if steps else 0.0,
        "hbm_bytes": sum(log.hbm_bytes),
        "flop": sum(log.flop),
        "requests": sum(r.replica == index for r in one.run.requests),
    }


def _measured(one: Served) -> dict[str, object] | None:
    rows = compared(one)
    if not rows:
        return None
    return {
        row.name: {
            "unit": row.unit,
            "measured": row.measured,
            "simulated": row.simulated,
            "error_percent": 100 * row.error,
        }
        for row in rows
    }
