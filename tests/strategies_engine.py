"""Strategies for the serving engine: toy clusters of every setting, and traces that strain them."""

from dataclasses import replace

from hypothesis import strategies as st

from sim.serving.config import ServeConfig, Speculation
from sim.serving.policy import POLICIES
from sim.serving.request import Trace
from sim.serving.router import ROUTERS
from tests.serving_toy import FULL, PREFIX_TOKENS, STATE, US, WINDOW, Toy, ToyCost, trace_of

GROUPS = ((FULL,), (FULL, WINDOW), (WINDOW,), (STATE, FULL), (STATE,), ())
PREFIXES = ((), (1,), (1, 2), (1, 2, 3), (1, 4), (5, 2))
PLENTY = 10_000

speculations = st.builds(
    Speculation,
    draft_tokens=st.integers(1, 5),
    acceptance=st.sampled_from(((0.0,), (1.0,), (0.6,), (0.9, 0.5, 0.2))),
)


@st.composite
def configs(draw: st.DrawFn, **settings: object) -> ServeConfig:
    """Draw a configuration in which `settings` are as given."""
    replicas = draw(st.integers(1, 3))
    config = ServeConfig(
        policy=draw(st.sampled_from(sorted(POLICIES))),
        router=draw(st.sampled_from(sorted(ROUTERS))),
        replicas=replicas,
        prefill_replicas=draw(st.integers(0, replicas - 1)),
        data_parallel=draw(st.sampled_from((1, 1, 2))),
        max_num_seqs=draw(st.sampled_from((1, 2, 3, 8, 64))),
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
def traces(draw: st.DrawFn, *, open_loop: bool = False) -> Trace:
    """Draw a trace: arrivals alone, together, and in bursts that no toy can keep up with."""
    row = st.tuples(
        st.sampled_from((0.0, 0.0, 1.0, 1.01, 2.0))
        | st.integers(0, 40_000).map(lambda us: us / 1e3),
        st.sampled_from((1, 3, 4, 8, 9, 16, 20, 40)),
        st.sampled_from((0, 1, 2, 5, 20, 30)),
    )
    rows = sorted(draw(st.lists(row, max_size=25)), key=lambda row: row[0])
    prefixes = [
        draw(st.sampled_from(PREFIXES))[: -(-inputs // PREFIX_TOKENS)] for _, inputs, _ in rows
    ]
    concurrency = None if open_loop else draw(st.sampled_from((None, None, 1, 3)))
    return trace_of(rows, prefixes=prefixes, concurrency=concurrency)
