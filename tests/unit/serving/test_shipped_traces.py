"""The traces in `scenarios/traces`: found by name, and what their publishers say they are."""

import gzip
from pathlib import Path

import pytest

from sim.resources import find_trace, named_traces, trace_dirs
from sim.serving.request import Trace
from sim.serving.trace import read_trace
from sim.units import PS_PER_S

MS = 10**9
MEASURED = "vllm_rtx4090_llama-3.1-8b"


def shipped(name: str) -> Trace:
    return read_trace(find_trace(name, trace_dirs()))


@pytest.mark.parametrize(
    ("name", "requests", "input_tokens", "output_tokens", "last_ps"),
    [
        ("azure2023_code", 8819, 18_059_974, 245_896, 3_435_948_056_000_000),
        ("azure2023_conversation", 19_366, 22_361_870, 4_088_665, 3_501_721_937_000_000),
        ("mooncake_conversation_1000", 1000, 13_732_944, 349_357, 330 * PS_PER_S),
        (MEASURED, 300, 257_239, 195_753, 29_100_521_300_000),
    ],
)
def test_a_shipped_trace_is_whole(
    name: str, requests: int, input_tokens: int, output_tokens: int, last_ps: int
) -> None:
    """Counts, sums and spans are those of the published files; nothing is skipped."""
    trace = shipped(name)
    assert trace.name == name
    assert not trace.skipped
    assert len(trace.requests) == requests
    assert sum(r.input_tokens for r in trace.requests) == input_tokens
    assert sum(r.output_tokens for r in trace.requests) == output_tokens
    assert trace.requests[-1].arrival_ps == last_ps


def test_every_shipped_trace_is_tested_here_and_attributed() -> None:
    """A trace without a source and a licence is not shipped."""
    folder = trace_dirs()[-1]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    names = named_traces([folder])
    assert list(names) == [
        "azure2023_code", "azure2023_conversation", "mooncake_conversation_1000", MEASURED,
    ]  # fmt: skip
    assert all(f"`{name}`" in readme for name in names)


def test_the_conversations_of_mooncake_share_prefixes() -> None:
    """Every prompt has a hash for each of its blocks of 512 tokens."""
    trace = shipped("mooncake_conversation_1000")
    assert trace.prefix_block_tokens == 512
    assert all(len(r.prefix) == -(-r.input_tokens // 512) for r in trace.requests)
    assert trace.requests[1].prefix[:2] == (0, 14)


def test_the_measured_run_answers_as_its_publisher_says() -> None:
    """Mean TTFT 65,456.6 ms, TPOT 32.4 ms and latency 86,578.3 ms from the queue on.

    So says its `summary.txt`. On average a request had then been under way for 29.8 ms.
    """
    trace = shipped(MEASURED)
    assert trace.measured is not None
    queued, first = trace.measured.queued_ps, trace.measured.first_token_ps
    last, n = trace.measured.last_token_ps, len(trace.requests)
    assert round((sum(first) - sum(queued)) / n / MS, 1) == 65_456.6
    assert round((sum(last) - sum(queued)) / n / MS, 1) == 86_578.3
    arrivals = [r.arrival_ps for r in trace.requests]
    assert round((sum(queued) - sum(arrivals)) / n / MS, 1) == 29.8
    assert min(q - a for q, a in zip(queued, arrivals, strict=True)) == 0
    tpot_ps = [
        (end - start) / (r.output_tokens - 1)
        for r, start, end in zip(trace.requests, first, last, strict=True)
    ]
    assert round(sum(tpot_ps) / n / MS, 1) == 32.4


def test_the_measured_run_states_its_settings() -> None:
    """All of them."""
    settings = shipped(MEASURED).settings
    assert settings is not None
    assert (settings.kv_blocks, settings.block_tokens, settings.max_num_seqs) == (2588, 16, 256)
    assert None not in [getattr(settings, name) for name in type(settings).__slots__]


def test_compressed_traces_do_not_depend_on_when_they_were_made() -> None:
    """No time and no name in the header of gzip: the same bytes from the same text."""
    for path in Path(trace_dirs()[-1]).glob("*.gz"):
        header = path.read_bytes()[:10]
        assert header[3] == 0, "a name in the header"
        assert header[4:8] == bytes(4), "a time in the header"
        assert gzip.decompress(path.read_bytes())
