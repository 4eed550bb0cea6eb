"""Strategies for the serving engine: toy clusters of every setting, and traces that strain them."""

from dataclasses import replace

from hypothesis import strategies as st

from sim.serving.config import ServeConfig, Speculation
from sim.serving.policy import POLICIES
from sim.serving.request import Trace
from sim.serving.router import ROUTERS
from tests.serving_toy import FULL, PREFIX_TOKENS, STATE, US, WINDOW, Row, Toy, ToyCost, trace_of

GROUPS = ((FULL,), (FULL, WINDOW), (WINDOW,), (STATE, FULL), (STATE,), ())
PREFIXES = ((), (1,), (1, 2), (1, 2, 3), (1, 4), (5, 2))
PLENTY = 10_000


def _ms(us: int) -> float:
    return us / 1000


speculations = st.builds(
    Speculation,
    draft_tokens=st.integers(1, 5),
    acceptance=st.sampled_from(((0.0,), (1.0,), (0.6,), (0.9, 0.5, 0.2))),
)


# A cache that holds one of the longest requests, and not much beside it.
_TIGHT_BLOCKS = 14


@st.composite
def configs(draw: st.DrawFn, **settings: object) -> ServeConfig:
    """Draw a configuration in which `settings` are as given."""
    replicas = draw(st.sampled_from((1, 1, 2, 3)))
    config = ServeConfig(
        policy=draw(st.sampled_from(sorted(POLICIES))),
        router=draw(st.sampled_from(sorted(ROUTERS))),
        replicas=replicas,
        prefill_replicas=draw(st.integers(0, replicas - 1)),
        data_parallel=draw(st.sampled_from((1, 1, 2))),
        max_num_seqs=draw(st.sampled_from((1, 2, 8, 64))),
        max_num_batched_tokens=draw(st.sampled_from((1, 7, 32, 512))),
        max_model_len=draw(st.sampled_from((None, None, 45))),
        enable_prefix_caching=draw(st.booleans()),
        preemption=draw(st.sampled_from(("recompute", "swap"))),
        async_scheduling=draw(st.booleans()),
        speculation=draw(st.none() | speculations),
    )
    return replace(config, **settings)


@st.composite
def toys(draw: st.DrawFn, *, blocks: int | None = None, **settings: object) -> Toy:
    """Draw a cluster; caches are from one block to far too many unless `blocks` says how large."""
    return Toy(
        config=draw(configs(**settings)),
        blocks=blocks or draw(st.sampled_from((1, 8, 13, 16, 20, 30, 500))),
        groups=draw(st.sampled_from(GROUPS)),
        draft=draw(st.none() | st.just(ToyCost(step_ps=50 * US))),
        seed=draw(st.integers(0, 3)),
    )


@st.composite
def tight_toys(draw: st.DrawFn, **settings: object) -> Toy:
    """Draw a cluster that throws sequences out if it is busy."""
    groups = draw(st.sampled_from(((FULL,), (FULL,), (FULL, WINDOW), (STATE, FULL))))
    given = {"max_num_seqs": 64, "max_model_len": None} | settings
    return Toy(
        config=draw(configs(**given)),
        blocks=_TIGHT_BLOCKS * len(groups) + draw(st.integers(0, 5)),
        groups=groups,
        seed=draw(st.integers(0, 3)),
    )


_arrivals = st.sampled_from((0.0, 0.0, 1.0, 1.01, 2.0)) | st.integers(0, 40_000).map(_ms)


@st.composite
def traces(draw: st.DrawFn, *, open_loop: bool = False, least: int = 0) -> Trace:
    """Draw a trace of `least` requests or more: alone, together, in bursts that nobody serves."""
    row = st.tuples(
        _arrivals,
        st.sampled_from((1, 3, 4, 8, 9, 16, 20)),
        st.sampled_from((0, 1, 2, 12, 20, 30)),
    )
    size = draw(st.sampled_from((0, 1, 2, 4, 8, 16)))
    rows = draw(st.lists(row, min_size=max(size, least), max_size=max(size, least)))
    return _trace_of(draw, rows, open_loop=open_loop)


@st.composite
def busy_traces(
    draw: st.DrawFn, *, inputs: tuple[int, ...] = (3, 4, 8, 9), burst: bool = False
) -> Trace:
    """Draw a trace of many requests that grow long, with `burst` all at once."""
    row = st.tuples(
        st.just(0.0) if burst else _arrivals,
        st.sampled_from(inputs),
        st.sampled_from((1, 12, 20, 25)),
    )
    return _trace_of(draw, draw(st.lists(row, min_size=8, max_size=12)), open_loop=True)


def _trace_of(draw: st.DrawFn, rows: list[Row], *, open_loop: bool) -> Trace:
    rows = sorted(rows, key=lambda row: row[0])
    prefixes = [
        draw(st.sampled_from(PREFIXES))[: -(-inputs // PREFIX_TOKENS)] for _, inputs, _ in rows
    ]
    concurrency = None if open_loop else draw(st.sampled_from((None, None, 1, 3)))
    return trace_of(rows, prefixes=prefixes, concurrency=concurrency)
