"""What an SM does in each phase, worked out once per kernel: granules and pipe times.

A phase's loads are cut into granules, the requests of the simulation; its pipe times are cut
alongside. Cutting is exact: the pieces sum to the whole.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Store
from sim.units import PS_PER_S, ceil_div, work_ps

PIPES = ("tensor", "vector", "sfu")

# Enough granules per SM for a smooth pipeline (see tests/properties on halving them).
_GRANULES_PER_SM = 48
_GRANULES_PER_BUFFER = 8
_FINE_PER_BUFFER = 12
_SMALLEST_BYTES = 1024
# Bytes in flight over bandwidth x latency below which requests are cut finer.
_AMPLE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Granule:
    """One request of a CTA: bytes per load, time on the port, and (pipe, time) of its work.

    `chain_ps` is the latency of its dependent instructions: the CTA cannot take the next granule
    earlier, but the pipes are free for other CTAs.
    """

    sizes: tuple[int, ...]
    total_bytes: int
    port_ps: int
    pipes_ps: tuple[tuple[str, int], ...]
    work_ps: int
    chain_ps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """A phase as one SM sees it; `key` is unique in the kernel."""

    key: int
    loads: tuple[Load, ...]
    stores: tuple[Store, ...]
    round_trips_ps: int
    granules: tuple[Granule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CtaPlan:
    """The phases of a CTA kind and its buffer in bytes."""

    phases: tuple[PhasePlan, ...]
    buffer_bytes: int


def granule_bytes(kernel: Kernel, spec: ChipSpec, scale: Fraction) -> int:
    """Return the request size for a kernel, times `scale`.

    It is the kernel's bytes per SM over a fixed count, but a small part of the buffer where the
    bytes in flight barely cover the memory latency, as there the pipeline's grain shows.
    """
    busy_sms = min(spec.sm_count, kernel.n_ctas)
    share = ceil_div(kernel.requested_bytes, busy_sms * _GRANULES_PER_SM)
    buffer = min(kind.buffer_bytes for kind in kernel.kinds)
    in_flight = buffer * min(kernel.n_ctas, spec.sm_count * kernel.ctas_per_sm)
    covered = spec.hbm_bytes_per_s * spec.hbm_latency_ps // PS_PER_S
    if in_flight < _AMPLE * covered:
        share = min(share, buffer // _FINE_PER_BUFFER)
    return max(1, int(max(_SMALLEST_BYTES, share) * scale))


def plan_kernel(kernel: Kernel, spec: ChipSpec, size_bytes: int) -> tuple[CtaPlan, ...]:
    """Return one plan per CTA kind of `kernel`, cut into granules of about `size_bytes`."""
    plans, key = [], 0
    for kind in kernel.kinds:
        largest = max(1, min(size_bytes, kind.buffer_bytes // _GRANULES_PER_BUFFER))
        phases = []
        for phase in kind.phases:
            phases.append(_plan_phase(phase, spec, key, largest))
            key += 1
        plans.append(CtaPlan(phases=tuple(phases), buffer_bytes=_buffer(kind, phases)))
    return tuple(plans)


def _buffer(kind: CtaKind, phases: list[PhasePlan]) -> int:
    largest = max((g.total_bytes for phase in phases for g in phase.granules), default=0)
    return max(kind.buffer_bytes, largest)


def _plan_phase(phase: Phase, spec: ChipSpec, key: int, largest: int) -> PhasePlan:
    n = max(1, ceil_div(phase.load_bytes, largest))
    n_loads = len(phase.loads)
    totals = (
        *(load.size_bytes for load in phase.loads),
        *phase_pipe_times(phase, spec),
        phase.steps * spec.step_latency_ps,
    )
    columns = [_pieces(total, n) for total in totals]
    port_per_s = spec.l2_port_bytes_per_clock * spec.clock_hz
    # Most granules of a phase are equal: each distinct one is made once.
    known: dict[tuple[int, ...], Granule] = {}
    granules = []
    for pieces in zip(*columns, strict=True):
        granule = known.get(pieces)
        if granule is None:
            granule = known[pieces] = _granule(pieces, n_loads, port_per_s)
        granules.append(granule)
    return PhasePlan(
        key=key,
        loads=phase.loads,
        stores=phase.stores,
        round_trips_ps=phase.round_trips * spec.l2_latency_ps,
        granules=tuple(granules),
    )


def _granule(pieces: tuple[int, ...], n_loads: int, port_per_s: int) -> Granule:
    sizes, times, chain_ps = pieces[:n_loads], pieces[n_loads:-1], pieces[-1]
    return Granule(
        sizes=sizes,
        total_bytes=sum(sizes),
        port_ps=work_ps(sum(sizes), port_per_s),
        pipes_ps=tuple((pipe, ps) for pipe, ps in zip(PIPES, times, strict=True) if ps),
        work_ps=sum(times),
        chain_ps=chain_ps,
    )


def _pieces(total: int, n: int) -> list[int]:
    """Return `n` integers that sum to `total`, as equal as they can be, evenly mixed."""
    each, rest = divmod(total, n)
    if not rest:
        return [each] * n
    edges = [total * i // n for i in range(n + 1)]
    return [after - before for before, after in pairwise(edges)]


def phase_pipe_times(phase: Phase, spec: ChipSpec) -> tuple[int, ...]:
    """Return the ps on each pipe of one SM; overlapped pipes hide behind the longest."""
    sms = spec.sm_count
    sustained = spec.sustained_fraction
    tensor = 0
    if phase.tensor_flop:
        rate = spec.tensor_flop_per_s[phase.compute] * sustained.numerator
        tensor = work_ps(phase.tensor_flop * sms * sustained.denominator, rate)
    vector = work_ps(phase.vector_flop * sms, spec.vector_flop_per_s)
    sfu = work_ps(phase.sfu_ops, spec.sfu_ops_per_clock * spec.clock_hz)
    times = (tensor, vector, sfu)
    if phase.overlapped:
        longest = times.index(max(times))
        return tuple(ps if i == longest else 0 for i, ps in enumerate(times))
    return times
