"""Collective libraries: which algorithm at which pace each would run, as pure functions.

A library is a function `(what, link) -> plans`; `LIBRARIES` names them all, and `run_library` takes
the fastest plan, as the libraries' own tuners do. Thresholds are those of the libraries' sources.
The paces of NCCL are fitted to measured rows of A100 and H100 SXM (docs/decisions/0020) and hold
for every link, as they are ratios to its latency and its rate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from sim.errors import InputError, Problem, nearest
from sim.hardware.link import CollectiveRun, Pace, link_of, run_collective
from sim.hardware.link_spec import LinkSpec
from sim.hardware.spec import ChipSpec
from sim.kernel.collective import (
    Collective,
    Op,
    Schedule,
    direct,
    multicast,
    one_shot,
    ring,
    two_shot,
)

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A schedule and its pace; `setup` if the kernel sets up channels before its first byte."""

    schedule: Schedule
    pace: Pace
    setup: bool = False


Library = Callable[[Collective, LinkSpec], tuple[Plan, ...]]

LL: Final = Pace(rate=Fraction(1, 2), most_bytes_per_s=18 * 10**9)
"""NCCL's LL: 4 B of data and 4 B of flag in every store, few channels; no fence."""
LL128: Final = Pace(rate=Fraction("0.5"), hop=Fraction("1.15"), start_hops=Fraction(2))
"""NCCL's LL128: 120 of 128 B are data."""
SIMPLE: Final = Pace(hop=Fraction("1.2"), start_hops=Fraction(25))
"""NCCL's Simple: large chunks with fences; the hops pay for filling its pipeline."""
PEER_LL: Final = Pace(rate=Fraction(1, 2), most_bytes_per_s=18 * 10**9, start_hops=Fraction("1.5"))
PEER_SIMPLE: Final = Pace(start_hops=Fraction(10))
"""NCCL's send and receive, of which an all-to-all is made."""
NVLS: Final = Pace(rate=Fraction("0.9"), start_hops=Fraction(40))
"""NCCL's NVLS: its own tuning constant is 25 us (src/graph/tuning.cc)."""
MULTIMEM: Final = Pace(rate=Fraction("0.85"))
"""Kernels that multicast from a symmetric buffer (PyTorch symmetric memory)."""
AT_ONCE: Final = Pace()
FLAGGED: Final = Pace(rate=Fraction("0.7"))

BARRIER_READ: Final = 4
"""Barrier, request, reply, barrier: the hops of a kernel that reads its peers' memory."""
PUSH: Final = 2
"""Data with flags there, and the slower of the peers' back: the hops of a Lamport kernel."""


def nccl(what: Collective, link: LinkSpec) -> tuple[Plan, ...]:
    """Return NCCL's: rings in three protocols, NVLS where the switch adds, peers at once."""
    if what.op in (Op.ALL_TO_ALL, Op.SEND_RECV):
        paces: tuple[Pace, ...] = (PEER_LL, PEER_SIMPLE)
        plans = [Plan(schedule=direct(what, hops=1), pace=pace, setup=True) for pace in paces]
    else:
        paces = (LL, LL128, SIMPLE)
        plans = [Plan(schedule=ring(what), pace=pace, setup=True) for pace in paces]
    if link.multicast and what.op is Op.ALL_REDUCE and what.nodes == 1:
        plans.append(Plan(schedule=multicast(what, hops=1), pace=NVLS, setup=True))
    return tuple(plans)


def vllm_v0(what: Collective, link: LinkSpec) -> tuple[Plan, ...]:
    """Return vLLM's custom all-reduce below 8 MiB, else NCCL (vllm custom_all_reduce.cuh)."""
    return _custom(what, link, limit=8 * MIB - 1) or nccl(what, link)


def vllm(what: Collective, link: LinkSpec) -> tuple[Plan, ...]:
    """Return those of vLLM since 0.10.

    On a link that multicasts: custom kernels below 8 MiB, of 8 GPUs below 256 KiB; beyond, those
    of symmetric memory up to 64 MiB (4 GPUs 32 MiB); then NCCL.
    """
    if not link.multicast or not _fits(what):
        return vllm_v0(what, link)
    few = what.ranks <= 4  # noqa: PLR2004 - the rows of vLLM's table
    if what.size_bytes < (8 * MIB if few else 256 * KIB):
        return _custom(what, link, limit=8 * MIB)
    if what.size_bytes <= (32 if what.ranks == 4 else 64) * MIB:  # noqa: PLR2004
        shape = multicast if what.ranks > 2 else two_shot  # noqa: PLR2004
        return (Plan(schedule=shape(what, hops=BARRIER_READ), pace=MULTIMEM),)
    return nccl(what, link)


def sglang(what: Collective, link: LinkSpec) -> tuple[Plan, ...]:
    """Return SGLang's: where the link multicasts its pushing kernels to 16 MiB, else vLLM's.

    Both limits are inclusive.
    """
    if not link.multicast or not _fits(what):
        return _custom(what, link, limit=8 * MIB) or nccl(what, link)
    if what.size_bytes > 16 * MIB:
        return nccl(what, link)
    pushed = Plan(schedule=one_shot(what, hops=PUSH), pace=AT_ONCE)
    halves = Plan(schedule=two_shot(what, hops=PUSH), pace=AT_ONCE)
    return (pushed,) if what.ranks == 2 else (pushed, halves)  # noqa: PLR2004


def trtllm_v1(what: Collective, link: LinkSpec) -> tuple[Plan, ...]:
    """Return those of TensorRT-LLM 1.0: one-shot with flags after the data, to 1 MiB, else NCCL."""
    if _fits(what) and _joined(what, link) and what.size_bytes <= min(MIB, 4 * MIB // what.ranks):
        return (Plan(schedule=one_shot(what, hops=PUSH + 1), pace=FLAGGED),)
    return nccl(what, link)


def trtllm(what: Collective, link: LinkSpec) -> tuple[Plan, ...]:
    """Return TensorRT-LLM's: one-shot with Lamport flags while n x bytes fit 8 MiB, or NCCL.

    Without a link between all GPUs it is NCCL alone.
    """
    if _fits(what) and _joined(what, link) and what.size_bytes * what.ranks <= 8 * MIB:
        pushed = Plan(schedule=one_shot(what, hops=PUSH), pace=AT_ONCE)
        return (pushed, *nccl(what, link))
    return nccl(what, link)


def _joined(what: Collective, link: LinkSpec) -> bool:
    """Return whether a switch joins all ranks, and not only a pair."""
    return what.ranks <= link.ranks and link.ranks > 2  # noqa: PLR2004


def _fits(what: Collective) -> bool:
    return what.op is Op.ALL_REDUCE and what.nodes == 1


def _custom(what: Collective, link: LinkSpec, *, limit: int) -> tuple[Plan, ...]:
    """Return the kernel that reads its peers, or nothing where it is not used.

    Two GPUs: one-shot. More need a link between all of them, and go from one-shot to two-shot at
    512 KiB (up to 4 GPUs) or 256 KiB.
    """
    if not _fits(what) or what.size_bytes > limit or what.ranks > link.ranks:
        return ()
    small = 512 * KIB if what.ranks <= 4 else 256 * KIB + 1  # noqa: PLR2004
    if what.ranks == 2 or what.size_bytes < small:  # noqa: PLR2004
        return (Plan(schedule=one_shot(what, hops=BARRIER_READ), pace=AT_ONCE),)
    return (Plan(schedule=two_shot(what, hops=BARRIER_READ), pace=AT_ONCE),)


LIBRARIES: Final[Mapping[str, Library]] = MappingProxyType(
    {
        "nccl": nccl,
        "vllm_v0": vllm_v0,
        "vllm": vllm,
        "sglang": sglang,
        "trtllm": trtllm,
        "trtllm_v1": trtllm_v1,
    }
)


def library(name: str) -> Library:
    """Return the library of this name. Raises InputError with the nearest name if there is none."""
    if name not in LIBRARIES:
        known = tuple(LIBRARIES)
        raise InputError(
            [
                Problem(
                    file=name,
                    message="unknown collective library",
                    expected=f"one of {', '.join(known)}",
                    nearest=nearest(name, known),
                )
            ]
        )
    return LIBRARIES[name]


def run_library(
    chip: ChipSpec, what: Collective, chosen: Library, *, launch_ps: int
) -> CollectiveRun:
    """Return the run of the fastest plan of a library. Raises InputError as `run_collective`."""
    link = link_of(chip)
    runs = [
        run_collective(
            chip,
            plan.schedule,
            pace=plan.pace,
            launch_ps=launch_ps + (link.setup_ps if plan.setup else 0),
        )
        for plan in chosen(what, link)
    ]
    return min(runs, key=lambda run: run.time_ps)
