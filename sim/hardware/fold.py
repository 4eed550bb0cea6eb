"""Long grids: CTAs that follow each other on a slot are simulated as one that runs them in turn.

A grid of many waves is steady but for its ends. All but its last waves are folded: a CTA of the
folded grid has the round trips, bytes and work of several, so nothing is added or lost, and the
last waves keep their size, so the grid ends as unevenly as it does on the chip. Folding belongs to
the simulation alone: the kernel that an engine launches is the unfolded one.
"""

from dataclasses import replace
from math import isqrt

from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import CtaKind, Kernel, Phase

# Grids of fewer waves are simulated CTA by CTA.
_LONG_WAVES = 8
_VERY_LONG_WAVES = 64
_QUICK_RESTART = 2
_REFILLS = 3


def waves_of(kernel: Kernel, spec: ChipSpec) -> int:
    """Return how many whole waves the grid of a kernel has."""
    return kernel.n_ctas // (spec.sm_count * kernel.ctas_per_sm)


def is_long(kernel: Kernel, spec: ChipSpec) -> bool:
    """Return whether a kernel has so many waves that its CTAs are folded.

    The CTAs must restart quickly and refill their buffers often, or hide each other's starts: what
    one waits for at its start is then little.
    """
    waves = waves_of(kernel, spec)
    hidden = waves >= _VERY_LONG_WAVES and kernel.ctas_per_sm > 1
    return waves >= _LONG_WAVES and all(
        len(kind.phases) == 1
        and kind.phases[0].round_trips <= _QUICK_RESTART
        and (hidden or kind.phases[0].load_bytes >= _REFILLS * kind.buffer_bytes)
        for kind in kernel.kinds
    )


def fold(kernel: Kernel, spec: ChipSpec) -> Kernel:
    """Return the kernel that is simulated for `kernel`: itself, or its long grid folded.

    Of n waves, about sqrt(n) are folded into one, and fewer than sqrt(n) are left as they are.
    """
    if not is_long(kernel, spec):
        return kernel
    places = spec.sm_count * kernel.ctas_per_sm
    in_turn = isqrt(waves_of(kernel, spec))
    left = kernel.n_ctas // (places * in_turn) * places * in_turn
    kinds: list[CtaKind] = []
    for kind in kernel.kinds:
        taken = min(kind.count, left)
        left -= taken
        whole, rest = divmod(taken, in_turn)
        for count, turns in ((whole, in_turn), (1, rest), (kind.count - taken, 1)):
            if count and turns:
                kinds.append(_in_turn(kind, count, turns))
    return replace(kernel, kinds=tuple(kinds))


def _in_turn(kind: CtaKind, count: int, turns: int) -> CtaKind:
    return replace(kind, count=count, phases=tuple(_times(p, turns) for p in kind.phases))


def _times(phase: Phase, turns: int) -> Phase:
    """Return a phase that does the work of `turns` phases."""
    return replace(
        phase,
        round_trips=phase.round_trips * turns,
        steps=phase.steps * turns,
        port_steps=phase.port_steps * turns,
        loads=tuple(replace(x, size_bytes=x.size_bytes * turns) for x in phase.loads),
        stores=tuple(replace(x, size_bytes=x.size_bytes * turns) for x in phase.stores),
        tensor_flop=phase.tensor_flop * turns,
        vector_flop=phase.vector_flop * turns,
        sfu_ops=phase.sfu_ops * turns,
        issue_clocks=phase.issue_clocks * turns,
    )
