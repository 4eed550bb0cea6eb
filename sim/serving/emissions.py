"""When every token left: rebuilt from runs of steps and the times at which these ended."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvariantError
from sim.serving.record import ReplicaLog, RequestRecord, ServeRun
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

    A run of steps gives a token at the end of its first step, and then at the end of each step
    that decodes: steps of prompts alone, in between, give none. A first token that no listed step
    explains (a prompt computed by another replica) is an emission of its own. Raises
    InvariantError if a request names a step that its replica's log does not have, or if its
    emissions do not rise or do not make up its output.
    """
    clock = _Clock(run.replicas)
    slices: list[tuple[int, int]] = []
    counts: list[int] = []
    for record in run.requests:
        before = len(slices)
        slices += clock.slices(record)
        counts.append(sum(end - start for start, end in slices[before:]))
    times = clock.times_ps()[_indices(slices)]
    bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    found = Emissions(times_ps=times, bounds=bounds, tokens=_tokens(run, counts))
    _check(run, found)
    return found


class _Clock:
    """The ends of all steps that decode, replica after replica, and after them other times."""

    def __init__(self, logs: tuple[ReplicaLog, ...]) -> None:
        self.ends = [list(log.end_ps) for log in logs]
        decoding = [np.array(log.decodes, dtype=np.int64) > 0 for log in logs]
        self._decoding_ps = [
            np.array(log.end_ps, dtype=np.int64)[where]
            for log, where in zip(logs, decoding, strict=True)
        ]
        offsets = [0, *accumulate(ends.size for ends in self._decoding_ps)]
        # The place of the first decoding step after each step.
        self._after: list[list[int]] = [
            (offset + np.cumsum(where)).tolist()
            for offset, where in zip(offsets, decoding, strict=False)
        ]
        self._size = offsets[-1]
        self._others: list[int] = []

    def slices(self, record: RequestRecord) -> list[tuple[int, int]]:
        """Return where the emissions of a request are in `times_ps`, as (start, end)."""
        runs, one = record.emitted, record.first_token_ps
        if not runs:
            return [] if one is None else [self._other(one)]
        ends, after = self.ends[record.replica], self._after[record.replica]
        if not 0 <= runs[0][0] <= runs[-1][1] < len(ends):
            steps = f"steps {runs[0][0]} to {runs[-1][1]}"
            message = f"request {record.index}: {steps} are not in the log of its replica"
            raise InvariantError(message)
        found = []
        if one is not None and ends[runs[0][0]] != one:
            found.append(self._other(one))
        before_ps = record.sent_ps if one is None else one
        for first, last in runs:
            if ends[first] < before_ps:
                message = f"request {record.index}: step {first} ends before the token before it"
                raise InvariantError(message)
            found += [self._other(ends[first]), (after[first], after[last])]
            before_ps = ends[last]
        return found

    def times_ps(self) -> Integers:
        """Return all times that slices have named so far."""
        return np.concatenate([*self._decoding_ps, np.array(self._others, dtype=np.int64)])

    def _other(self, time_ps: int) -> tuple[int, int]:
        place = self._size + len(self._others)
        self._others.append(time_ps)
        return place, place + 1


def _check(run: ServeRun, found: Emissions) -> None:
    """Raise InvariantError unless the emissions of each request make up its output."""
    given = np.concatenate([[0], np.cumsum(found.tokens)])[found.bounds]
    for record, tokens in zip(run.requests, np.diff(given).tolist(), strict=True):
        if record.emitted and tokens != record.output_tokens:
            made = f"its steps gave {tokens} tokens"
            raise InvariantError(f"request {record.index}: {made}, not {record.output_tokens}")


def _tokens(run: ServeRun, counts: list[int]) -> Integers:
    """Return the tokens of each emission: those listed, 1 where none are."""
    if not any(record.tokens_per_step for record in run.requests):
        return np.ones(sum(counts), dtype=np.int64)
    tokens: list[int] = []
    for record, count in zip(run.requests, counts, strict=True):
        tokens += [1] * (count - len(record.tokens_per_step)) + record.tokens_per_step
    return np.array(tokens, dtype=np.int64)


def _indices(slices: list[tuple[int, int]]) -> Integers:
    """Return all integers of the slices, one after the other."""
    starts, ends = np.array(slices, dtype=np.int64).reshape(-1, 2).T
    sizes = ends - starts
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()), dtype=np.int64)
