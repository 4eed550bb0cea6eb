"""When every token left: rebuilt from runs of steps and the times at which these ended."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvariantError
from sim.serving.record import RequestRecord, ServeRun
from sim.units import PS_PER_S

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emissions:
    """The emissions of all requests, one after the other in the order of the run.

    `times_ps` are ps since the start of the trace; those of request `i` are
    `times_ps[bounds[i]:bounds[i + 1]]`, in order. `tokens` is what each gave: 1, or more with
    speculation. An emission is what a client sees as one chunk.
    """

    times_ps: Integers
    bounds: Integers
    tokens: Integers

    def gaps_ps(self) -> Integers:
        """Return the inter-token latencies of all requests, pooled: gaps between emissions."""
        if not self.times_ps.size:
            return self.times_ps
        gaps = np.diff(self.times_ps)
        inner = self.bounds[1:-1]
        crossing = inner[(inner > 0) & (inner < self.times_ps.size)] - 1
        keep = np.ones(gaps.size, dtype=bool)
        keep[crossing] = False
        return gaps[keep]

    def gap_lists_ps(self) -> list[list[int]]:
        """Return the gaps of each request as a list of its own."""
        ends: list[int] = self.bounds.tolist()
        return [np.diff(self.times_ps[a:b]).tolist() for a, b in pairwise(ends)]

    def most_a_second(self, start_ps: int) -> int:
        """Return the most emissions in one of the seconds counted from `start_ps`.

        This is `max_output_tokens_per_s` of `vllm bench serve`, which counts chunks; with
        speculation a chunk holds several tokens.
        """
        if not self.times_ps.size:
            return 0
        return int(np.bincount((self.times_ps - start_ps) // PS_PER_S).max())


def emissions(run: ServeRun) -> Emissions:
    """Return when each request of `run` got its tokens.

    A first token that no listed step explains (a prompt computed by another replica) is an
    emission of its own. Raises InvariantError if a request names a step that its replica's log
    does not have.
    """
    clock = [np.array(log.end_ps, dtype=np.int64) for log in run.replicas]
    sizes = [times.size for times in clock]
    offsets = [0, *accumulate(sizes)]
    ends = np.concatenate([*clock, np.empty(0, dtype=np.int64)])
    runs: list[tuple[int, int]] = []
    extra: list[int] = []
    counts: list[int] = []
    for record in run.requests:
        found = _checked(record, sizes)
        at = offsets[record.replica] if found else 0
        before = len(runs)
        one = record.first_token_ps
        if one is not None and not (found and ends[at + found[0][0]] == one):
            runs.append((ends.size + len(extra),) * 2)
            extra.append(one)
        runs += [(at + first, at + last) for first, last in found]
        counts.append(sum(last - first + 1 for first, last in runs[before:]))
    times = np.concatenate([ends, np.array(extra, dtype=np.int64)])[_indices(runs)]
    bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Emissions(times_ps=times, bounds=bounds, tokens=_tokens(run, counts))


def _checked(record: RequestRecord, sizes: list[int]) -> list[tuple[int, int]]:
    runs = record.emitted
    if runs and not 0 <= runs[0][0] <= runs[-1][1] < sizes[record.replica]:
        steps = f"steps {runs[0][0]} to {runs[-1][1]}"
        raise InvariantError(f"request {record.index}: {steps} are not in the log of its replica")
    return runs


def _tokens(run: ServeRun, counts: list[int]) -> Integers:
    """Return the tokens of each emission: those listed, 1 where none are."""
    if not any(record.tokens_per_step for record in run.requests):
        return np.ones(sum(counts), dtype=np.int64)
    tokens: list[int] = []
    for record, count in zip(run.requests, counts, strict=True):
        tokens += [1] * (count - len(record.tokens_per_step)) + record.tokens_per_step
    return np.array(tokens, dtype=np.int64)


def _indices(runs: list[tuple[int, int]]) -> Integers:
    """Return all integers of the runs (first, last), run after run."""
    starts, lasts = np.array(runs, dtype=np.int64).reshape(-1, 2).T
    sizes = lasts - starts + 1
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()), dtype=np.int64)
