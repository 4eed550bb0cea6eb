"""What an SM does in each phase, worked out once per kernel: granules and pipe times.

A phase's loads are cut into granules, the requests of the simulation; its pipe times are cut
alongside. Cutting is exact: the pieces sum to the whole.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Store
from sim.units import PS_PER_S, ceil_div, transfer_ps, work_ps

PIPES = ("tensor", "vector", "sfu")
# What a CTA holds alone, by the cause its time is charged to: the pipes, the load/store unit.
_HELD = (*PIPES, "l2_bandwidth")

# Enough granules per SM, and per CTA buffer, for a smooth pipeline (docs/decisions/0010).
_GRANULES_PER_SM = 40
_PER_BUFFER = 10
# Where an SM refills its buffers often and CTAs restart quickly, the ends of CTAs count less.
_PER_BUFFER_IF_STEADY = 5
_MANY_REFILLS = 24
_QUICK_RESTART = 2
# Where bytes in flight are below this many times bandwidth x latency, the pipeline's grain shows.
_PER_BUFFER_IF_SCARCE = 12
_AMPLE = 4
_SMALLEST_BYTES = 1024
# A loop may be enlarged where bytes in flight are this many times bandwidth x latency.
_SATURATING = 2
# The most granules of a CTA's loop where its bytes in flight saturate, of all loops that are
# simulated, and the fewest that a loop is left with.
_LONGEST_LOOP = 48
_MOST_SIMULATED = 256
# The same for a loop at the pace of HBM, whose first requests nothing hides.
_LONGEST_LOOP_OF_HBM = 64
_MOST_SIMULATED_OF_HBM = 320
_SHORTEST_LOOP = 6
# The same where no other CTA of the SM works while one waits for its first request.
_SHORTEST_LOOP_ALONE = 16
_CLEARLY = 1.5
_FEWEST_PER_BUFFER = 2


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

    It is the kernel's bytes per SM over a fixed count, but at most a small part of a CTA's buffer.
    """
    busy_sms = min(spec.sm_count, kernel.n_ctas)
    share = ceil_div(kernel.requested_bytes, busy_sms * _GRANULES_PER_SM)
    buffer = min(kind.buffer_bytes for kind in kernel.kinds)
    parts = _parts_of_buffer(kernel, spec, buffer)
    size = max(min(share, buffer // parts), min(_SMALLEST_BYTES, buffer // _FEWEST_PER_BUFFER))
    return max(1, int(size * scale))


def _in_flight(kernel: Kernel, spec: ChipSpec) -> int:
    buffer = min(kind.buffer_bytes for kind in kernel.kinds)
    return buffer * min(kernel.n_ctas, spec.sm_count * kernel.ctas_per_sm)


def _covered(spec: ChipSpec) -> int:
    return spec.hbm_bytes_per_s * spec.hbm_latency_ps // PS_PER_S


def _is_ample(kernel: Kernel, spec: ChipSpec, times: int = _AMPLE) -> bool:
    return _in_flight(kernel, spec) >= times * _covered(spec)


def _parts_of_buffer(kernel: Kernel, spec: ChipSpec, buffer_bytes: int) -> int:
    if not _is_ample(kernel, spec):
        return _PER_BUFFER_IF_SCARCE
    refills = kernel.requested_bytes // (spec.sm_count * buffer_bytes)
    restart = max(phase.round_trips for _, phase in kernel.phases())
    steady = refills >= _MANY_REFILLS and restart <= _QUICK_RESTART
    return _PER_BUFFER_IF_STEADY if steady else _PER_BUFFER


def plan_kernel(
    kernel: Kernel, spec: ChipSpec, size_bytes: int, *, simulated: int, is_long: bool = False
) -> tuple[CtaPlan, ...]:
    """Return one plan per CTA kind of `kernel`, cut into granules of about `size_bytes`.

    The more CTAs are `simulated`, the larger are the granules of long loops, and also those of a
    long grid, whose ends count little.
    """
    plans, key = [], 0
    busy_sms = min(spec.sm_count, kernel.n_ctas)
    usual = granule_bytes(kernel, spec, Fraction(1))
    beyond_hbm = is_long or _is_beyond_hbm(kernel, spec, busy_sms)
    saturates = _is_ample(kernel, spec, _SATURATING)
    shortest = _SHORTEST_LOOP if kernel.ctas_per_sm > 1 else _SHORTEST_LOOP_ALONE
    most = _longest_loop(simulated, beyond_hbm=beyond_hbm, shortest=shortest)
    for kind in kernel.kinds:
        stretch = _stretch(kind, usual, most) if saturates else 1
        smallest = max(1, min(size_bytes, kind.buffer_bytes // _FEWEST_PER_BUFFER))
        phases = []
        for phase in kind.phases:
            edges = _edges(phase.load_bytes, smallest * stretch)
            phases.append(_plan_phase(phase, spec, key, edges, busy_sms))
            key += 1
        plans.append(CtaPlan(phases=tuple(phases), buffer_bytes=_buffer(kind, phases, stretch)))
    return tuple(plans)


def _is_beyond_hbm(kernel: Kernel, spec: ChipSpec, busy_sms: int) -> bool:
    """Return whether pipes or L2 need clearly longer than HBM."""
    pipes_ps = sum(
        kind.count * sum(phase_pipe_times(phase, spec, busy_sms)) for kind, phase in kernel.phases()
    )
    distinct = sum(
        kind.count * load.size_bytes // load.sharers
        for kind, phase in kernel.phases()
        for load in phase.loads
    )
    l2_ps = transfer_ps(kernel.requested_bytes, spec.l2_bytes_per_s)
    hbm_ps = transfer_ps(distinct, spec.hbm_bytes_per_s)
    return max(pipes_ps // busy_sms, l2_ps) >= _CLEARLY * hbm_ps


def _longest_loop(simulated: int, *, beyond_hbm: bool, shortest: int) -> int:
    """Return the most requests of a CTA's loop if all loops of `simulated` CTAs count."""
    longest = _LONGEST_LOOP if beyond_hbm else _LONGEST_LOOP_OF_HBM
    most = _MOST_SIMULATED if beyond_hbm else _MOST_SIMULATED_OF_HBM
    return max(shortest, min(longest, most // simulated))


def _stretch(kind: CtaKind, size_bytes: int, most: int) -> int:
    """Return by how much the granules of a long loop, and the buffer with them, are enlarged.

    A loop that runs at the pace of its pipes or of L2 does so whatever its buffer, if bytes in
    flight are ample: larger pieces save events and move its ends only.
    """
    longest = max(phase.load_bytes for phase in kind.phases)
    return max(1, longest // (most * size_bytes))


def _buffer(kind: CtaKind, phases: list[PhasePlan], stretch: int) -> int:
    largest = max((g.total_bytes for phase in phases for g in phase.granules), default=0)
    return max(kind.buffer_bytes * stretch, largest)


def _edges(total_bytes: int, largest: int) -> list[int]:
    """Return where a loop is cut: whole requests and a rest, so that a buffer holds whole ones."""
    return [*range(0, total_bytes, largest), total_bytes] if total_bytes else [0, 1]


def _plan_phase(
    phase: Phase, spec: ChipSpec, key: int, edges: list[int], busy_sms: int
) -> PhasePlan:
    n_loads = len(phase.loads)
    pipes = phase_pipe_times(phase, spec, busy_sms)
    held = (*pipes, phase.port_steps * spec.step_latency_ps)
    chain_ps = phase.steps * spec.step_latency_ps + (sum(pipes) if phase.in_order else 0)
    totals = (*(load.size_bytes for load in phase.loads), *held, chain_ps)
    columns = [_pieces(total, edges) for total in totals]
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
        pipes_ps=tuple((pipe, ps) for pipe, ps in zip(_HELD, times, strict=True) if ps),
        work_ps=sum(times),
        chain_ps=chain_ps,
    )


def _pieces(total: int, edges: list[int]) -> list[int]:
    """Return integers that sum to `total`, in proportion to the stretches between `edges`."""
    last = edges[-1]
    cuts = [total * edge // last for edge in edges]
    return [after - before for before, after in pairwise(cuts)]


def phase_pipe_times(phase: Phase, spec: ChipSpec, busy_sms: int | None = None) -> tuple[int, ...]:
    """Return the ps on each pipe of one of `busy_sms` SMs (None: all of the chip).

    Overlapped pipes hide behind the longest.
    """
    sms = spec.sm_count
    tensor = 0
    if phase.tensor_flop:
        sustained = spec.sustained(phase.compute, busy_sms or sms)
        rate = spec.tensor_flop_per_s[phase.compute] * sustained.numerator
        tensor = work_ps(phase.tensor_flop * sms * sustained.denominator, rate)
    vector = work_ps(phase.vector_flop * sms, spec.vector_flop_per_s)
    vector += work_ps(phase.issue_clocks, spec.clock_hz)
    sfu = work_ps(phase.sfu_ops, spec.sfu_ops_per_clock * spec.clock_hz)
    times = (tensor, vector, sfu)
    if phase.overlapped:
        longest = times.index(max(times))
        return tuple(ps if i == longest else 0 for i, ps in enumerate(times))
    return times
