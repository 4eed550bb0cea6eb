"""Where the scheduler degenerates to a queue with one server, it waits as queueing theory says.

Pollaczek and Khinchine: with Poisson arrivals of rate λ and service times S, the mean wait is
λ E[S²] / (2 (1 − λ E[S])). One request runs at a time, for one token, so that its step is its
service.
"""

import math
from itertools import accumulate

import numpy as np
import pytest

from sim.serving.config import ServeConfig
from tests.serving_toy import MS, US, Toy, trace_of

REQUESTS = 12_000
BATCHES = 24
SERVICES = {
    "constant": ((1000, 1.0),),
    "short and long": ((50, 0.8), (3000, 0.2)),
}


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return a mean and its standard error by batch means: neighbours wait alike."""
    means = values.reshape(BATCHES, -1).mean(axis=1)
    return float(values.mean()), float(means.std(ddof=1) / math.sqrt(BATCHES))


@pytest.mark.parametrize("law", SERVICES)
@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_the_mean_wait_is_that_of_a_queue_with_one_server(law: str, load: float) -> None:
    tokens, chances = zip(*SERVICES[law], strict=True)
    services_ms = 1 + np.array(tokens) * (US / MS)
    first, second = (float(np.dot(chances, services_ms**power)) for power in (1, 2))
    rng = np.random.default_rng(8)
    gaps = rng.exponential(first / load, REQUESTS)
    lengths = rng.choice(tokens, REQUESTS, p=chances)
    rows = [(at, int(n), 1) for at, n in zip(accumulate(gaps), lengths, strict=True)]
    config = ServeConfig(
        max_num_seqs=1,
        max_num_batched_tokens=4000,
        async_scheduling=False,
        enable_prefix_caching=False,
    )
    run = Toy(config=config).serve(trace_of(rows))
    waits = np.array([(r.scheduled_ps or 0) - r.sent_ps for r in run.requests]) / MS
    mean, error = mean_and_error(waits)
    expected = load / first * second / (2 * (1 - load))
    assert mean == pytest.approx(expected, abs=4 * error)
    assert error < 0.1 * expected
