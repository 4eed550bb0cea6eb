"""The `[link]` table of a hardware spec: how a GPU reaches its peers.

A tier is a way from GPU to GPU. The first is the link itself (NVLink through its switch or bridge,
PCIe under one switch); a chip without a switched link lists slower ones behind it, each shared by
all GPUs that use it. Which network joins nodes belongs to the cluster, so `network` is optional.
"""

from dataclasses import dataclass
from fractions import Fraction

from pydantic import Field

from sim.checking import Bandwidth, Cited, Count, Duration, Ratio, Table, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTier:
    """A way that up to `ranks` GPUs of one node share: `bytes_per_s` is that of all together."""

    ranks: int
    bytes_per_s: int
    latency_ps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTier:
    """The way out of a node: `bytes_per_s` is of one GPU in one direction, as payload."""

    bytes_per_s: int
    latency_ps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """The link of one GPU; rates are bytes per second in one direction, times are ps.

    Kernels move `efficiency` of `bytes_per_s` as payload. `latency_ps` is the time until a store
    to a peer is seen by a peer that polls for it; each further peer of one signal adds `issue_ps`.
    `ranks` GPUs are joined directly. With `multicast` the switch copies stores to all of them and
    sums loads from them. `setup_ps` is what a library kernel with channels (NCCL) spends before
    its first byte.
    """

    type: str
    bytes_per_s: int
    efficiency: Fraction
    latency_ps: int
    issue_ps: int
    setup_ps: int
    ranks: int
    multicast: bool
    shared: tuple[SharedTier, ...] = ()
    network: NetworkTier | None = None


class _Shared(Table):
    ranks: Cited[Count]
    bandwidth: Cited[Bandwidth]
    latency: Cited[Duration]

    def tier(self) -> SharedTier:
        """Return the tier in base units."""
        return SharedTier(
            ranks=self.ranks.value,
            bytes_per_s=self.bandwidth.value,
            latency_ps=self.latency.value,
        )


class _Network(Table):
    bandwidth: Cited[Bandwidth]
    latency: Cited[Duration]

    def tier(self) -> NetworkTier:
        """Return the tier in base units."""
        return NetworkTier(bytes_per_s=self.bandwidth.value, latency_ps=self.latency.value)


class LinkTable(Table):
    """The `[link]` table as it is written, with `[link.socket]`, `[link.host]`, `[link.network]`.

    `socket` is the way between GPUs of one CPU socket that no switch joins, `host` the one between
    GPUs of different sockets.
    """

    type: Text
    bandwidth: Cited[Bandwidth]
    efficiency: Cited[Ratio]
    latency: Cited[Duration]
    issue: Cited[Duration]
    setup: Cited[Duration]
    ranks: Cited[Count]
    multicast: bool = Field(default=False)
    socket: _Shared | None = None
    host: _Shared | None = None
    network: _Network | None = None

    def spec(self) -> LinkSpec:
        """Return the link in base units."""
        return LinkSpec(
            type=self.type,
            bytes_per_s=self.bandwidth.value,
            efficiency=self.efficiency.value,
            latency_ps=self.latency.value,
            issue_ps=self.issue.value,
            setup_ps=self.setup.value,
            ranks=self.ranks.value,
            multicast=self.multicast,
            shared=tuple(tier.tier() for tier in (self.socket, self.host) if tier is not None),
            network=None if self.network is None else self.network.tier(),
        )
