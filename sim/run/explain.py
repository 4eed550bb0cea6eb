"""Why one request of a serving run was slow, in plain sentences from the written files."""

from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Final

from sim.errors import InputError, Problem, nearest
from sim.measure.causes import REQUEST_CAUSES
from sim.run.serve_answer import REQUEST_LABELS, spent
from sim.run.serve_read import Row, Written, read_served
from sim.units import format_time

SLOWEST: Final = MappingProxyType(
    {"slowest": "e2e_ps", "slowest-ttft": "ttft_ps", "slowest-tpot": "tpot_ps"}
)
"""Requests that can be named, and what they are the worst of."""
NAMED: Final = 3
"""Causes that get a sentence."""
LEAST: Final = 0.02
"""A cause with a smaller share of the time is not named."""
LIMITS: Final = (("TTFT", "ttft_ps"), ("TPOT", "tpot_ps"), ("E2E", "e2e_ps"))


def explain(folder: Path, request: str, contestant: str | None = None) -> list[str]:
    """Return sentences on `request` (an index, or one of SLOWEST) of the run in `folder`.

    Raises InputError if there is no such run or request.
    """
    written = read_served(folder, contestant)
    row = _row(written, request)
    if row["outcome"] != "finished":
        return [_what(written, row), f"It was rejected: {row['reason'] or 'no reason was given'}."]
    middle = _middle(written)
    where = f"Where its {format_time(_ps(row, 'e2e_ps'))} went, by cause:"
    lines = [_what(written, row), _when(row, middle), *_first_token(row, middle)]
    return [*lines, where, *_causes(row, middle), *_slo(written, row)]


def _row(written: Written, request: str) -> Row:
    rows = written.rows
    if rows and request in SLOWEST:
        return max(rows, key=lambda row: _ps(row, SLOWEST[request]))
    by_index = {row["index"]: row for row in rows}
    if request in by_index:
        return by_index[request]
    names = " or ".join(SLOWEST)
    problem = Problem(
        file=str(written.folder),
        key="--request",
        value=request,
        message="no such request",
        expected=f"{rows[0]['index']} to {rows[-1]['index']}, {names}" if rows else None,
        nearest=nearest(request, tuple(SLOWEST)),
    )
    raise InputError([problem])


def _ps(row: Row, column: str) -> int:
    return int(row[column] or 0)


def _middle(written: Written) -> dict[str, int]:
    """Return the median of every time over the finished requests that have it."""
    done = [row for row in written.rows if row["outcome"] == "finished"]
    columns = [name for name in done[0] if name.endswith("_ps")]
    values = {name: [int(row[name]) for row in done if row[name]] for name in columns}
    return {name: int(median(found)) if found else 0 for name, found in values.items()}


def _what(written: Written, row: Row) -> str:
    hit, thrown = _ps(row, "prefix_hit_tokens"), _ps(row, "preemptions")
    found = f", {hit:,} of them found in the prefix cache" if hit else ""
    text = (
        f"Request {row['index']} of {written.contestant} had {_ps(row, 'input_tokens'):,} input "
        f"tokens{found}; it asked for {_ps(row, 'output_tokens'):,} output tokens"
    )
    times = "once" if thrown == 1 else f"{thrown} times"
    return f"{text} and was preempted {times}." if thrown else f"{text}."


def _when(row: Row, middle: dict[str, int]) -> str:
    parts = []
    if row["ttft_ps"]:
        parts.append(f"its first token came after {_beside(row, middle, 'ttft_ps')}")
    if row["tpot_ps"]:
        parts.append(f"then one every {_beside(row, middle, 'tpot_ps')}")
    parts.append(f"it was done after {_beside(row, middle, 'e2e_ps')}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _beside(row: Row, middle: dict[str, int], column: str) -> str:
    time_ps, usual_ps = _ps(row, column), middle[column]
    return f"{format_time(time_ps)} (median {format_time(usual_ps)})"


def _first_token(row: Row, middle: dict[str, int]) -> list[str]:
    """Say how the time to the first token splits into queue and prompt."""
    if not row["ttft_ps"]:
        return []
    whole_ps, queue_ps = _ps(row, "ttft_ps"), _ps(row, "queue_ps")
    prefill_ps = _ps(row, "prefill_ps")
    whole = f"of its {format_time(whole_ps)} TTFT"
    waited = f"it waited in the queue (median {format_time(middle['queue_ps'])})"
    prompt = f"from there to the first token (median {format_time(middle['prefill_ps'])})"
    if not queue_ps:
        return [f"It did not wait in the queue: all {whole} went {prompt}."]
    return [f"{format_time(queue_ps)} {whole} {waited}; {format_time(prefill_ps)} went {prompt}."]


def _largest(row: Row) -> list[tuple[str, int]]:
    times = [(cause, _ps(row, f"cause_{cause}_ps")) for cause in REQUEST_CAUSES]
    least = LEAST * _ps(row, "e2e_ps")
    return sorted((t for t in times if t[1] > least), key=lambda t: -t[1])[:NAMED]


def _causes(row: Row, middle: dict[str, int]) -> list[str]:
    whole = max(1, _ps(row, "e2e_ps"))
    return [
        f"- {REQUEST_LABELS[cause]}, {format_time(time_ps)}, {100 * time_ps / whole:.0f} % "
        f"(median {format_time(middle[f'cause_{cause}_ps'])}): {REQUEST_CAUSES[cause]}."
        for cause, time_ps in _largest(row)
    ]


def _slo(written: Written, row: Row) -> list[str]:
    limits: dict[str, Any] | None = written.summary["info"]["slo"]
    if not limits:
        return ["There was no SLO to keep."]
    broken = [
        _broken(row, name, column, int(limits[column]))
        for name, column in LIMITS
        if limits[column] is not None and _ps(row, column) > limits[column]
    ]
    if broken:
        return broken
    told = [f"{n} {format_time(limits[c])}" for n, c in LIMITS if limits[c] is not None]
    return [f"It kept the SLO ({', '.join(told)})."]


def _broken(row: Row, name: str, column: str, limit_ps: int) -> str:
    """Say by how much a limit was broken, and which cause would have to shrink by that."""
    over_ps = _ps(row, column) - limit_ps
    text = f"It broke the SLO of {format_time(limit_ps)} on {name} by {format_time(over_ps)}"
    if column == "tpot_ps":
        over_ps *= max(1, _ps(row, "output_tokens") - 1)
        text += f", {format_time(over_ps)} over all its tokens"
    way, size_ps = _to_shrink(row, column)
    if size_ps >= over_ps:
        return f"{text}: {format_time(over_ps)} less {way} would have been enough."
    return (
        f"{text}: time {way} would have to shrink most, but even without its "
        f"{format_time(size_ps)} it would have been too slow."
    )


def _to_shrink(row: Row, column: str) -> tuple[str, int]:
    """Return where most of a latency went, as a phrase, and its ps.

    Causes are known for the whole life of a request, not by phase: TTFT blames the queue, the
    waiting of the prompt or its computation; TPOT the largest cause but those before the prompt.
    """
    times = {cause: _ps(row, f"cause_{cause}_ps") for cause in REQUEST_CAUSES}
    if column == "ttft_ps":
        prefill_ps = _ps(row, "prefill_ps")
        waits_ps = min(times["prefill_wait"], prefill_ps)
        ways = {
            spent("queue"): _ps(row, "queue_ps"),
            spent("prefill_wait"): waits_ps,
            "on computing its prompt": prefill_ps - waits_ps,
        }
    else:
        if column == "tpot_ps":
            del times["queue"], times["prefill_wait"]
        ways = {spent(cause): ps for cause, ps in times.items()}
    way = max(ways, key=lambda name: ways[name])
    return way, ways[way]
