"""The link: GPUs that exchange the bytes of a collective, event by event.

Every rank is a process with two servers, its link and its network port, each with a virtual clock
like an HBM channel: `done = max(now, free) + service`. A step's bytes are seen a latency after they
left. So pipelines, barriers and stragglers are events here, not formulas.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil
from typing import Final

from simpy import Event

from sim.errors import InputError, InvariantError, Problem
from sim.hardware.channel_check import efficiencies
from sim.hardware.clock import Clock
from sim.hardware.link_spec import LinkSpec
from sim.hardware.spec import ChipSpec
from sim.kernel.collective import Schedule, Step, Wait
from sim.measure.busy import BusyLog
from sim.measure.causes import CAUSES
from sim.measure.probe import Probe
from sim.units import PS_PER_S

_WHOLE: Final = Fraction(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a library drives the link: its protocol.

    It moves `rate` of the payload that the link itself can carry, and no more than
    `most_bytes_per_s`; a slower way behind the link is not slowed down by that. Each hop takes
    `hop` link latencies, and `start_hops` pass once before the first byte (fences, barriers,
    filling the pipeline).
    """

    rate: Fraction = _WHOLE
    most_bytes_per_s: int | None = None
    hop: Fraction = _WHOLE
    start_hops: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveRun:
    """What one collective took, by which schedule.

    `rank_ps` charges rank-picoseconds to causes: its sum is `time_ps` x ranks exactly. Bytes are
    those sent by all ranks.
    """

    name: str
    time_ps: int
    rank_ps: Mapping[str, int]
    link_bytes: int
    network_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way between ranks: payload bytes per second of one rank, in one direction, and latency.

    `bytes_per_s` is what the way can carry, `link_bytes_per_s` what the GPU's own link can. A rank
    sends to the network at `network_bytes_per_s`, 0 if no byte leaves the node.
    """

    link_bytes_per_s: Fraction
    bytes_per_s: Fraction
    latency_ps: int
    network_bytes_per_s: int = 0
    network_latency_ps: int = 0

    @classmethod
    def of(cls, chip: ChipSpec, ranks: int, per_node: int) -> "Route":
        """Return the fastest way that joins so many ranks.

        Raises InputError if the chip has no link, the link no multicast or no network, or no way
        joins as many GPUs.
        """
        link = link_of(chip)
        own = link.bytes_per_s * link.efficiency
        rate, latency = _in_node(chip, link, per_node)
        if ranks == per_node:
            return cls(link_bytes_per_s=own, bytes_per_s=rate, latency_ps=latency)
        if link.network is None:
            raise _refused(chip, "link.network", f"no network joins {ranks // per_node} nodes")
        return cls(
            link_bytes_per_s=own,
            bytes_per_s=rate,
            latency_ps=latency,
            network_bytes_per_s=link.network.bytes_per_s,
            network_latency_ps=link.network.latency_ps,
        )

    def paced(self, pace: Pace) -> Fraction:
        """Return the bytes per second of one rank at this pace."""
        paced = min(self.bytes_per_s, self.link_bytes_per_s * pace.rate)
        return (
            paced if pace.most_bytes_per_s is None else min(paced, Fraction(pace.most_bytes_per_s))
        )


def link_of(chip: ChipSpec) -> LinkSpec:
    """Return the link of `chip`. Raises InputError if its spec has none."""
    if chip.link is None:
        raise _refused(
            chip, "link", "this chip has no [link], so it cannot take part in a collective"
        )
    return chip.link


def _in_node(chip: ChipSpec, link: LinkSpec, ranks: int) -> tuple[Fraction, int]:
    if ranks <= link.ranks:
        return link.bytes_per_s * link.efficiency, link.latency_ps
    for tier in link.shared:
        if ranks <= tier.ranks:
            return Fraction(tier.bytes_per_s, ranks), tier.latency_ps
    raise _refused(chip, "link.ranks", f"no way joins {ranks} GPUs of a node")


def _refused(chip: ChipSpec, key: str, message: str) -> InputError:
    return InputError([Problem(file=f"{chip.name}.toml", key=key, message=message)])


class LinkServer:
    """One direction of one rank's link or network port: first come, first served."""

    __slots__ = ("busy", "bytes_per_s", "free_ps", "name", "probe", "sent_bytes")

    def __init__(self, name: str, bytes_per_s: Fraction, probe: Probe | None) -> None:
        self.name = name
        self.bytes_per_s = bytes_per_s
        self.probe = probe
        self.free_ps = 0
        self.sent_bytes = 0
        self.busy = BusyLog()

    def serve(self, arrival_ps: int, size_bytes: int) -> int:
        """Send `size_bytes` and return when the last of them has left."""
        if not size_bytes:
            return arrival_ps
        start = max(arrival_ps, self.free_ps)
        self.free_ps = start + ceil(size_bytes * PS_PER_S / self.bytes_per_s)
        self.sent_bytes += size_bytes
        self.busy.add(start, self.free_ps)
        if self.probe is not None:
            self.probe.served(self.name, start, self.free_ps, size_bytes)
        return self.free_ps


class Rank:
    """One GPU of a collective: sends, waits, and charges every picosecond to one cause."""

    __slots__ = ("end_ps", "link", "network", "ps")

    def __init__(self, index: int, route: Route, pace: Pace, probe: Probe | None) -> None:
        self.link = LinkServer(f"link{index}", route.paced(pace), probe)
        self.network = LinkServer(f"network{index}", Fraction(route.network_bytes_per_s), probe)
        self.ps = dict.fromkeys(CAUSES, 0)
        self.end_ps = 0

    def charge(self, until_ps: int, cause: str) -> None:
        """Charge the time since the last charge to `cause`."""
        self.ps[cause] += until_ps - self.end_ps
        self.end_ps = until_ps

    def charge_wait(self, until_ps: int) -> None:
        """Charge the time since the last charge to `link` while own bytes move, else latency."""
        start = self.end_ps
        longer = max(
            self.link.busy, self.network.busy, key=lambda log: log.between(start, until_ps)
        )
        moving = longer.between(start, until_ps)
        self.ps["link"] += moving
        self.ps["link_latency"] += until_ps - start - moving
        self.end_ps = until_ps


class _Exchange:
    """All ranks of one collective in one environment."""

    def __init__(self, chip: ChipSpec, schedule: Schedule, pace: Pace, probe: Probe | None) -> None:
        self.env = Clock()
        self.schedule = schedule
        self.pace = pace
        self.link = link_of(chip)
        self.route = Route.of(chip, schedule.ranks, schedule.per_node)
        self.ranks = [Rank(i, self.route, pace, probe) for i in range(schedule.ranks)]
        self.arrivals = [[self.env.event() for _ in self.ranks] for _ in schedule.steps]
        self.everyone = [self.env.all_of(events) for events in self.arrivals]

    def process(self, index: int, launch_ps: int, copy_ps: int) -> Generator[Event, None, None]:
        """Launch, take every step, copy within the own memory."""
        rank = self.ranks[index]
        yield self.env.timeout(launch_ps)
        rank.charge(self.env.now, "launch")
        yield self.env.timeout(ceil(self.pace.start_hops * self.route.latency_ps))
        for number, step in enumerate(self.schedule.steps):
            self._send(index, number, step)
            own, previous = self.arrivals[number][index], self.arrivals[number][index - 1]
            yield own & previous if step.waits is Wait.PREVIOUS else self.everyone[number]
            rank.charge_wait(self.env.now)
        rank.charge_wait(self.env.now)
        yield self.env.timeout(copy_ps)
        rank.charge(self.env.now, "hbm_bandwidth")

    def _send(self, index: int, number: int, step: Step) -> None:
        rank, now = self.ranks[index], self.env.now
        left = max(
            rank.link.serve(now, step.link_bytes[index]),
            rank.network.serve(now, step.network_bytes[index]),
        )
        seen = self.env.timeout(left + self._latency_ps(step) - now)
        seen.callbacks.append(partial(_arrive, self.arrivals[number][index]))

    def _latency_ps(self, step: Step) -> int:
        hop = self.route.latency_ps + max(0, step.peers - 1) * self.link.issue_ps
        own = step.hops * hop * self.pace.hop
        return ceil(own) + step.network_hops * self.route.network_latency_ps


def _arrive(arrival: Event, _seen: Event) -> None:
    arrival.succeed()


def run_collective(
    chip: ChipSpec,
    schedule: Schedule,
    *,
    pace: Pace,
    launch_ps: int,
    probe: Probe | None = None,
) -> CollectiveRun:
    """Return time and ledger of `schedule` between GPUs of this chip.

    `launch_ps` passes before the first step on every rank, charged to `launch`. Copies within a
    rank's memory run after the exchange at the chip's copy rate. Raises InputError if the chip
    cannot take part, InvariantError if time or bytes do not add up.
    """
    if schedule.multicast and not link_of(chip).multicast:
        raise _refused(chip, "link.multicast", f"{schedule.name} needs a switch that multicasts")
    exchange = _Exchange(chip, schedule, pace, probe)
    copy_ps = ceil(
        2 * schedule.local_bytes * PS_PER_S / (chip.hbm_bytes_per_s * efficiencies(chip).copy)
    )
    for index in range(schedule.ranks):
        exchange.env.process(exchange.process(index, launch_ps, copy_ps))
    exchange.env.run()
    return _result(schedule, exchange.ranks)


def _result(schedule: Schedule, ranks: list[Rank]) -> CollectiveRun:
    time_ps = max(rank.end_ps for rank in ranks)
    for rank in ranks:
        rank.charge(time_ps, "tail")
    run = CollectiveRun(
        name=schedule.name,
        time_ps=time_ps,
        rank_ps={cause: sum(rank.ps[cause] for rank in ranks) for cause in CAUSES},
        link_bytes=sum(rank.link.sent_bytes for rank in ranks),
        network_bytes=sum(rank.network.sent_bytes for rank in ranks),
    )
    if sum(run.rank_ps.values()) != time_ps * len(ranks):
        raise InvariantError(f"{schedule.name}: causes do not sum to its time: {run.rank_ps}")
    if run.link_bytes + run.network_bytes != schedule.sent_bytes:
        raise InvariantError(f"{schedule.name}: the links moved other bytes than it sends")
    return run
