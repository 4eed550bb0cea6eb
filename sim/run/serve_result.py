"""What a serving run is told about: its setting, its numbers, and a sweep over request rates."""

from dataclasses import dataclass

from sim.errors import InvariantError
from sim.serving.config import ServeConfig, Slo
from sim.serving.emissions import Emissions, emissions
from sim.serving.metrics import (
    Headline,
    Latencies,
    Spread,
    cause_totals,
    headline,
    latencies,
    spread,
    step_totals,
)
from sim.serving.record import ServeRun
from sim.serving.request import Trace

SERVE_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeInfo:
    """The setting of one contestant's run.

    `request_rate` is in requests a second, infinite where all are sent at once or at the times
    of a trace; `peak_bytes_per_s` and `peak_flop_per_s` are those of one GPU. `skipped` counts
    requests of the trace's source that were left out. `date` is that of the trace or empty,
    never today's: two runs of one scenario must write the same bytes.
    """

    scenario: str
    title: str
    contestant: str
    model: str
    chip: str
    chip_title: str
    engine: str
    config: ServeConfig
    seed: int
    trace: str
    request_rate: float
    peak_bytes_per_s: int
    peak_flop_per_s: int
    burstiness: float = 1.0
    max_concurrency: int | None = None
    slo: Slo | None = None
    skipped: int = 0
    notes: tuple[str, ...] = ()
    version: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A run with its numbers: made once by `served`, read by files, tables and figures.

    `ttft`, `tpot`, `itl` and `e2e` are spreads in ps. `request_causes_ps` are ps of all finished
    requests by REQUEST_CAUSES, `step_causes_ps` those of all steps by CAUSES; empty if none is.
    """

    info: ServeInfo
    run: ServeRun
    trace: Trace
    times: Latencies
    emitted: Emissions
    headline: Headline
    ttft: Spread
    tpot: Spread
    itl: Spread
    e2e: Spread
    request_causes_ps: tuple[int, ...]
    step_causes_ps: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One contestant at one request rate (requests a second); latencies in ps.

    `holds` tells whether the SLO held, None if there is none.
    """

    contestant: str
    rate: float
    output_tokens_per_s: float
    ttft_p50_ps: float
    ttft_p99_ps: float
    tpot_p50_ps: float
    tpot_p99_ps: float
    holds: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Points by contestant and rate, and the highest rate found for each contestant.

    A contestant whose lowest rate failed has None in `max_rate`; one that was not searched for
    is not in it.
    """

    points: tuple[SweepPoint, ...]
    max_rate: dict[str, float | None]
    slo: Slo | None = None


def served(info: ServeInfo, run: ServeRun, trace: Trace) -> Served:
    """Return `run` with its numbers.

    Raises InvariantError if it is no run of `trace`, or if its tokens do not add up.
    """
    if [r.index for r in run.requests] != [r.index for r in trace.requests]:
        raise InvariantError(f"{info.contestant}: its run has other requests than {trace.name}")
    times, emitted = latencies(run), emissions(run)
    return Served(
        info=info,
        run=run,
        trace=trace,
        times=times,
        emitted=emitted,
        headline=headline(run, times, emitted, info.slo),
        ttft=spread(times.ttft_ps),
        tpot=spread(times.tpot_ps),
        itl=spread(emitted.gaps_ps()),
        e2e=spread(times.e2e_ps),
        request_causes_ps=cause_totals(run),
        step_causes_ps=step_totals(run),
    )


def sweep_point(one: Served, holds: bool | None = None) -> SweepPoint:
    """Return `one` as a point of a sweep, at its own request rate."""
    return SweepPoint(
        contestant=one.info.contestant,
        rate=one.info.request_rate,
        output_tokens_per_s=one.headline.output_tokens_per_s,
        ttft_p50_ps=one.ttft.p50,
        ttft_p99_ps=one.ttft.p99,
        tpot_p50_ps=one.tpot.p50,
        tpot_p99_ps=one.tpot.p99,
        holds=holds,
    )
