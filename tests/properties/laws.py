"""The laws that every run obeys, as functions that raise AssertionError where one is broken.

They work everything out from the kernel, the chip, the result and the recorded services, never
from the simulator's own counters of the same thing.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction

import networkx as nx

from sim.hardware.address_map import AddressMap, EvenMap
from sim.hardware.dispatch import dispatch
from sim.hardware.gpu import Gpu, KernelRun
from sim.hardware.hbm import Hbm
from sim.hardware.plan import phase_pipe_times
from sim.hardware.residency import EMPTY_L2, L2State
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import CtaKind, Kernel
from sim.measure.causes import CAUSES
from sim.measure.probe import RecordingProbe, Service
from sim.units import PS_PER_S, ceil_div, transfer_ps, work_ps

Services = Sequence[Service]


def recorded(
    gpu: Gpu, kernel: Kernel, l2: L2State = EMPTY_L2
) -> tuple[KernelRun, tuple[Service, ...]]:
    """Return a run and every service that its probe saw."""
    probe = RecordingProbe()
    run = gpu.run(kernel, l2, probe)
    return run, tuple(probe.services)


def served_by_hbm(services: Services) -> int:
    """Return the bytes that all channels moved."""
    return sum(s.amount for s in services if s.server.startswith("hbm"))


def requests_are_hits_or_misses(kernel: Kernel, run: KernelRun, services: Services) -> None:
    """What CTAs ask for is hit or missed; misses and write-backs are what HBM moved."""
    asked, stored = moved_by_segment(kernel)
    assert list(run.asked_bytes) == asked
    assert list(run.stored_bytes) == stored
    assert all(0 <= m <= a for m, a in zip(run.missed_bytes, asked, strict=True))
    written_back = sum(run.written_back_bytes.values())
    assert served_by_hbm(services) == sum(run.missed_bytes) + written_back
    l2_bytes = sum(s.amount for s in services if s.server == "l2")
    assert l2_bytes == sum(asked) + sum(stored)


def moved_by_segment(kernel: Kernel) -> tuple[list[int], list[int]]:
    """Return the bytes that all CTAs of a kernel load and store, per segment."""
    asked, stored = [0] * len(kernel.segments), [0] * len(kernel.segments)
    for kind, phase in kernel.phases():
        for load in phase.loads:
            asked[load.segment] += kind.count * load.size_bytes
        for store in phase.stores:
            stored[store.segment] += kind.count * store.size_bytes
    return asked, stored


def dirty_bytes(state: L2State) -> Counter[str]:
    """Return the dirty bytes of a state by class."""
    dirty: Counter[str] = Counter()
    for entry in state:
        dirty[entry.traffic.value] += entry.dirty_bytes
    return dirty


def dirty_bytes_are_conserved(kernel: Kernel, before: L2State, run: KernelRun) -> None:
    """By class: dirty before + newly stored = written back + dirty after.

    A store that may overwrite dirty bytes (more is stored than the segment has clean) makes fewer
    bytes dirty than it stores, so there the sum is only bounded.
    """
    old = {entry.name: entry.dirty_bytes for entry in before if entry.name}
    most, least = dirty_bytes(before), dirty_bytes(before)
    for segment, size in zip(kernel.segments, run.stored_bytes, strict=True):
        most[segment.traffic.value] += size
        if size + old.get(segment.name, 0) <= segment.size_bytes:
            least[segment.traffic.value] += size
    after = dirty_bytes(run.l2)
    after.update(run.written_back_bytes)
    for traffic in most | after:
        assert least[traffic] <= after[traffic] <= most[traffic], traffic


def state_is_sane(spec: ChipSpec, state: L2State) -> None:
    """L2 holds no more than it can, and no more dirty bytes of a tensor than bytes."""
    assert sum(entry.resident_bytes for entry in state) <= spec.l2_bytes
    assert all(0 <= entry.dirty_bytes <= entry.resident_bytes for entry in state)
    names = [entry.name for entry in state if entry.name]
    assert len(names) == len(set(names))


def causes_fill_the_time(spec: ChipSpec, run: KernelRun) -> None:
    """Every SM is in exactly one state at every instant."""
    assert set(run.sm_ps) == set(CAUSES)
    assert min(run.sm_ps.values()) >= 0
    assert sum(run.sm_ps.values()) == run.time_ps * spec.sm_count


def channel_counts(
    spec: ChipSpec, kernel: Kernel, address_map: AddressMap | None, *, symmetry: bool
) -> dict[str, int]:
    """Return how many pseudo-channels every HBM server of a run stands for."""
    hbm = Hbm(
        spec,
        None,
        address_map=address_map or EvenMap(n_channels=spec.pseudo_channels),
        segments=kernel.segments,
        symmetry=symmetry,
    )
    return {channel.name: channel.multiplicity for channel in hbm.channels}


def peak_rates(gpu: Gpu, kernel: Kernel) -> dict[str, Fraction]:
    """Return what every server can do at most, in bytes per ps (pipes: ps of work per ps)."""
    spec = gpu.spec
    one_channel = Fraction(spec.hbm_bytes_per_s, spec.pseudo_channels * PS_PER_S)
    counts = channel_counts(spec, kernel, gpu.address_map, symmetry=gpu.symmetry)
    rates = {name: count * one_channel for name, count in counts.items()}
    rates["l2"] = Fraction(spec.l2_bytes_per_s, PS_PER_S)
    port = Fraction(spec.l2_port_bytes_per_clock * spec.clock_hz, PS_PER_S)
    for i, _ in enumerate(dispatch(kernel, spec.sm_count, symmetry=gpu.symmetry)):
        rates[f"sm{i}.port"] = port
        rates[f"sm{i}.pipe"] = Fraction(1)
    return rates


_JOINED = 4


def no_server_overloaded(rates: dict[str, Fraction], services: Iterable[Service]) -> None:
    """A server's services never overlap, and none moves more than its peak allows.

    A share of a byte may be counted whole, hence one byte of slack for each load and write-back
    that one service may join.
    """
    until: dict[str, int] = {}
    for name, start_ps, end_ps, amount in sorted(services, key=lambda s: (s.server, s.start_ps)):
        assert start_ps >= until.get(name, 0), f"{name} serves two requests at {start_ps}"
        assert end_ps > start_ps or amount == 0
        assert amount - _JOINED <= (end_ps - start_ps) * rates[name], f"{name} is too fast"
        until[name] = end_ps


def lower_bounds_ps(spec: ChipSpec, kernel: Kernel, run: KernelRun) -> dict[str, int]:
    """Return times that no run can beat, by the resource that sets them."""
    missed, written_back = sum(run.missed_bytes), sum(run.written_back_bytes.values())
    moved = sum(run.asked_bytes) + sum(run.stored_bytes)
    tensor: Counter[str] = Counter()
    for kind, phase in kernel.phases():
        tensor[phase.compute] += kind.count * phase.tensor_flop
    busy = busiest_sm(spec, kernel)
    ramp = spec.kernel_start_ps + spec.hbm_latency_ps if missed else 0
    return {
        "hbm": ramp + transfer_ps(missed, spec.hbm_bytes_per_s),
        "hbm_with_writes": transfer_ps(missed + written_back, spec.hbm_bytes_per_s),
        "tensor": sum(work_ps(n, spec.tensor_flop_per_s[f]) for f, n in tensor.items()),
        "l2": spec.kernel_start_ps + transfer_ps(moved, spec.l2_bytes_per_s),
        "port": transfer_ps(busy["port"], spec.l2_port_bytes_per_clock * spec.clock_hz),
        "pipe": spec.kernel_start_ps + busy["pipe"],
        "max_flow": max_flow_ps(spec, kernel, missed),
    }


def busiest_sm(spec: ChipSpec, kernel: Kernel) -> dict[str, int]:
    """Return the most bytes through one SM's port, and the most ps of work on one SM's pipes."""
    ports, pipes = [0], [0]
    busy = min(spec.sm_count, kernel.n_ctas)
    for sm_class in dispatch(kernel, spec.sm_count, symmetry=True):
        held = [kernel.kinds[index] for slot in sm_class.slots for index in slot]
        ports.append(sum(phase.load_bytes for kind in held for phase in kind.phases))
        pipes.append(sum(_work_ps(kind, spec, busy) for kind in held))
    return {"port": max(ports), "pipe": max(pipes)}


def _work_ps(kind: CtaKind, spec: ChipSpec, busy_sms: int) -> int:
    return sum(sum(phase_pipe_times(phase, spec, busy_sms)) for phase in kind.phases)


def max_flow_ps(spec: ChipSpec, kernel: Kernel, missed_bytes: int) -> int:
    """Return the time to move bytes from HBM through L2 to the SMs that hold CTAs.

    Capacities are scaled by the number of channels, so that all are integers.
    """
    n = spec.pseudo_channels
    graph: nx.DiGraph[str] = nx.DiGraph()
    for channel in range(n):
        graph.add_edge("source", f"hbm{channel}", capacity=spec.hbm_bytes_per_s)
        graph.add_edge(f"hbm{channel}", "l2_in", capacity=spec.hbm_bytes_per_s)
    graph.add_edge("l2_in", "l2_out", capacity=spec.l2_bytes_per_s * n)
    port = spec.l2_port_bytes_per_clock * spec.clock_hz * n
    for sm in range(min(spec.sm_count, kernel.n_ctas)):
        graph.add_edge("l2_out", f"sm{sm}", capacity=port)
        graph.add_edge(f"sm{sm}", "sink", capacity=port)
    flow = int(nx.maximum_flow_value(graph, "source", "sink"))
    return ceil_div(missed_bytes * n * PS_PER_S, flow)


def never_faster_than_physics(spec: ChipSpec, kernel: Kernel, run: KernelRun) -> None:
    """No run beats the roofline, the busiest SM or the max-flow of the memory topology."""
    bounds = lower_bounds_ps(spec, kernel, run)
    beaten = {name: ps for name, ps in bounds.items() if run.time_ps < ps}
    assert not beaten, f"{run.time_ps} ps beats {beaten}"
