"""Probes: how a run is observed. Components tell a probe what they did; it changes nothing."""

from typing import NamedTuple, Protocol


class Service(NamedTuple):
    """One service interval of one server (a channel, the L2, an SM's port or compute pipe)."""

    server: str
    start_ps: int
    end_ps: int
    amount: int


class Probe(Protocol):
    """Receives every service interval; must not change the simulation."""

    def served(self, server: str, start_ps: int, end_ps: int, amount: int) -> None:
        """Take one service of `amount` bytes (or FLOP) by `server` during [start_ps, end_ps)."""


class RecordingProbe:
    """Keeps every service, for timelines and for the tests of capacity laws."""

    __slots__ = ("services",)

    def __init__(self) -> None:
        self.services: list[Service] = []

    def served(self, server: str, start_ps: int, end_ps: int, amount: int) -> None:
        """Keep one service."""
        self.services.append(Service(server, start_ps, end_ps, amount))
