"""`serve.json`: what `vllm bench serve --save-result` writes, key for key and in its order.

Keys and definitions are those of vllm/benchmarks/serve.py (vLLM, commit 009e6d4a): latencies are
ms, those in arrays seconds; `itls` are gaps between chunks, `queue_times` what the client itself
held a request back to keep its concurrency. A request that failed has zeros in the arrays.
"""

from itertools import chain
from math import isinf
from typing import Final

from sim.run.serve_result import Served
from sim.serving.metrics import Spread
from sim.serving.record import Outcome, RequestRecord
from sim.units import PS_PER_S

BACKEND: Final = "tokenstall"
PS_PER_MS: Final = 1e9


def bench_result(one: Served, *, detailed: bool = False) -> dict[str, object]:
    """Return the content of `serve.json` in the order in which vLLM writes it."""
    shown = chain(
        _setting(one).items(),
        _totals(one).items(),
        _arrays(one, detailed=detailed).items(),
        _peaks(one).items(),
        _latency("ttft", one.ttft).items(),
        _latency("tpot", one.tpot).items(),
        _latency("itl", one.itl).items(),
    )
    return dict(shown)


def _setting(one: Served) -> dict[str, object]:
    info = one.info
    return {
        "date": info.date,
        "endpoint_type": BACKEND,
        "backend": BACKEND,
        "label": info.contestant,
        "model_id": info.model,
        "tokenizer_id": info.model,
        "num_prompts": len(one.run.requests),
        "request_rate": "inf" if isinf(info.request_rate) else info.request_rate,
        "burstiness": info.burstiness,
        "max_concurrency": info.max_concurrency,
    }


def _totals(one: Served) -> dict[str, object]:
    head = one.headline
    return {
        "duration": head.duration_ps / PS_PER_S,
        "completed": head.completed,
        "failed": head.failed,
        "total_input_tokens": head.input_tokens,
        "total_output_tokens": head.output_tokens,
        "request_throughput": head.requests_per_s,
        "request_goodput": head.goodput,
        "output_throughput": head.output_tokens_per_s,
        "total_token_throughput": head.total_tokens_per_s,
    }


def _arrays(one: Served, *, detailed: bool) -> dict[str, object]:
    records = one.run.requests
    arrived = [request.arrival_ps for request in one.trace.requests]
    found: dict[str, object] = {
        "latencies": [_seconds(r, r.finished_ps) for r in records],
        "queue_times": [
            (r.sent_ps - at) / PS_PER_S for r, at in zip(records, arrived, strict=True)
        ],
    }
    if not detailed:
        return found
    done = [r.outcome is Outcome.FINISHED for r in records]
    gaps = one.emitted.gap_lists_ps()
    return {
        "input_lens": [r.input_tokens for r in records],
        "output_lens": [r.output_tokens if ok else 0 for r, ok in zip(records, done, strict=True)],
        "ttfts": [_seconds(r, r.first_token_ps) for r in records],
        "itls": [[gap / PS_PER_S for gap in row] for row in gaps],
        "latencies": found["latencies"],
        "start_times": [r.sent_ps / PS_PER_S for r in records],
        "queue_times": found["queue_times"],
        "generated_texts": [""] * len(records),
        "errors": [r.reason for r in records],
    }


def _peaks(one: Served) -> dict[str, object]:
    return {
        "max_output_tokens_per_s": float(one.headline.most_tokens_per_s),
        "max_concurrent_requests": one.headline.most_concurrent,
        "rtfx": 0.0,
    }


def _latency(name: str, values: Spread) -> dict[str, object]:
    return {
        f"mean_{name}_ms": values.mean / PS_PER_MS,
        f"median_{name}_ms": values.p50 / PS_PER_MS,
        f"std_{name}_ms": values.std / PS_PER_MS,
        f"p99_{name}_ms": values.p99 / PS_PER_MS,
    }


def _seconds(record: RequestRecord, at_ps: int | None) -> float:
    return 0.0 if at_ps is None else (at_ps - record.sent_ps) / PS_PER_S
