"""A quick guess of a kernel's time, to rank a tuner's candidates before they are simulated.

It never reaches a result: only the few best-ranked candidates are simulated, and the simulation
decides between them.
"""

from sim.hardware.channel_check import efficiencies
from sim.hardware.plan import phase_pipe_times
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import Kernel, Phase
from sim.units import ceil_div, transfer_ps


def estimate_ps(kernel: Kernel, spec: ChipSpec) -> int:
    """Return a rough time in ps: the slowest of HBM, L2 and the busiest SM, plus latencies."""
    busy = min(spec.sm_count, kernel.n_ctas)
    rounds = ceil_div(kernel.n_ctas, spec.sm_count)
    waves = ceil_div(kernel.n_ctas, spec.sm_count * kernel.ctas_per_sm)
    n_phases = max(len(kind.phases) for kind in kernel.kinds)
    cta_ps = max(sum(_throughput_ps(p, spec, busy) for p in kind.phases) for kind in kernel.kinds)
    serial_ps = max(sum(_serial_ps(p, spec, busy) for p in kind.phases) for kind in kernel.kinds)
    distinct = sum(
        kind.count * load.size_bytes // load.sharers
        for kind, phase in kernel.phases()
        for load in phase.loads
    )
    read_ps = transfer_ps(distinct, int(spec.hbm_bytes_per_s * efficiencies(spec).tile))
    l2_ps = transfer_ps(kernel.requested_bytes + kernel.stored_bytes, spec.l2_bytes_per_s)
    busiest = max(rounds * cta_ps, waves * serial_ps)
    fixed = spec.kernel_start_ps + n_phases * (spec.hbm_latency_ps + spec.l2_latency_ps)
    return fixed + max(read_ps, l2_ps, busiest)


def _throughput_ps(phase: Phase, spec: ChipSpec, busy_sms: int) -> int:
    port_ps = transfer_ps(phase.load_bytes, spec.l2_port_bytes_per_clock * spec.clock_hz)
    return max(port_ps, sum(phase_pipe_times(phase, spec, busy_sms)))


def _serial_ps(phase: Phase, spec: ChipSpec, busy_sms: int) -> int:
    chain_ps = phase.round_trips * spec.l2_latency_ps + phase.steps * spec.step_latency_ps
    return chain_ps + (sum(phase_pipe_times(phase, spec, busy_sms)) if phase.in_order else 0)
