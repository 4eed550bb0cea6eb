"""An independent check of a command log: every pair of commands against the timing table.

Knows the timing table in ps and the rules of the standard, and nothing of the scheduler. Times are
counted in edges; a distance is compared from end to end of commands, as the table defines it.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from sim.hardware.dram.channel import Command
from sim.hardware.dram.timing import DramSpec

_READS = ("RD", "RDA")
_WRITES = ("WR", "WRA")
_ALL = ("PREab", "REFab")


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken rule: its name, the two commands, and the least distance it asks for in edges."""

    rule: str
    before: Command
    after: Command
    least: int

    def __str__(self) -> str:
        """Return the violation as a sentence."""
        return f"{self.rule}: {self.before} then {self.after}, at least {self.least} edges"


@dataclass(slots=True)
class _Bank:
    """What is known of a bank: open row, and its last commands."""

    row: int = -1
    act: Command | None = None
    close: Command | None = None
    close_edge: int = 0
    refresh: Command | None = None
    read: Command | None = None
    write: Command | None = None


class Checker:
    """Replays a log and collects violations."""

    def __init__(self, spec: DramSpec) -> None:
        o = spec.organisation
        per, clock = spec.bus.edges_per_clock, o.clock_ps
        names = spec.timing.__dataclass_fields__
        self.t = {name: getattr(spec.timing, name) // clock * per for name in names}
        self.spec = spec
        self.banks = [_Bank() for _ in range(o.banks)]
        self.acts: dict[int, deque[Command]] = defaultdict(lambda: deque(maxlen=4))
        self.columns: dict[int, list[Command]] = defaultdict(list)
        self.refreshes: dict[int, Command] = {}
        self.last_on_bus: dict[str, Command] = {}
        self.found: list[Violation] = []

    def check(self, log: Sequence[Command]) -> list[Violation]:
        """Return every violation of a log in order of time."""
        for command in sorted(log, key=lambda c: c.edge):
            self._bus(command)
            self._state(command)
            _RULES[command.name](self, command)
        return self.found

    def _pc(self, bank: int) -> int:
        return bank // self.spec.organisation.banks_per_pseudo_channel

    def _group(self, bank: int) -> int:
        return bank // self.spec.organisation.banks_per_group

    def _stack(self, bank: int) -> int:
        o = self.spec.organisation
        return bank // (o.banks_per_group * o.bank_groups)

    def _length(self, name: str) -> int:
        bus = self.spec.bus
        if name == "ACT":
            return bus.act
        return bus.column if name in _READS + _WRITES else bus.pre

    def _apart(
        self, rule: str, before: Command | None, after: Command, least: int, *, ends: bool = True
    ) -> None:
        """Note a violation if `after` comes less than `least` behind `before`, end to end."""
        if before is None:
            return
        shift = self._length(after.name) - self._length(before.name) if ends else 0
        if after.edge - before.edge + shift < least:
            self._wrong(rule, before, after, least - shift)

    def _wrong(self, rule: str, before: Command, after: Command, least: int = 0) -> None:
        self.found.append(Violation(rule=rule, before=before, after=after, least=least))

    def _bus(self, command: Command) -> None:
        """Check that its bus carries one command at a time, and the edge it starts on."""
        column = command.name in _READS + _WRITES
        bus = "all" if self.spec.bus.one_bus else "column" if column else "row"
        before = self.last_on_bus.get(bus)
        if before is not None:
            self._apart("command bus", before, command, self._length(before.name), ends=False)
        self.last_on_bus[bus] = command
        if command.edge % self.spec.bus.edges_per_clock and not command.name.startswith("PRE"):
            self._wrong("clock edge", command, command)

    def _state(self, command: Command) -> None:
        """Check that a row is opened once, used while open, and closed before a refresh."""
        bank = self.banks[command.bank]
        if command.name == "ACT" and bank.row >= 0:
            self._wrong("open twice", bank.act or command, command)
        if command.name in _READS + _WRITES and bank.row < 0:
            self._wrong("access to a closed bank", command, command)
        for index in self._span(command):
            if command.name.startswith("REF") and self.banks[index].row >= 0:
                self._wrong("refresh of an open bank", command, command)

    def _span(self, command: Command) -> range:
        """Return the banks that a command concerns."""
        per = self.spec.organisation.banks_per_pseudo_channel
        if command.name in _ALL:
            first = self._pc(command.bank) * per
            return range(first, first + per)
        return range(command.bank, command.bank + 1)

    def _act(self, command: Command) -> None:
        t, bank, pc = self.t, self.banks[command.bank], self._pc(command.bank)
        self._apart("tRC", bank.act, command, t["rc"])
        if bank.close is not None:
            shift = self._length("ACT") - self.spec.bus.pre
            if command.edge - bank.close_edge + shift < t["rp"]:
                self._wrong("tRP", bank.close, command, t["rp"])
        if bank.refresh is not None:
            rfc = "rfc" if bank.refresh.name == "REFab" else "rfc_pb"
            self._apart(rfc, bank.refresh, command, t[rfc])
        refresh = self.refreshes.get(pc)
        if refresh is not None and refresh.name == "REFpb":
            self._apart("tRREFD", refresh, command, t["rrefd"])
        acts = self.acts[pc]
        for before in acts:
            same = self._group(before.bank) == self._group(command.bank)
            self._apart("tRRD", before, command, t["rrd_l" if same else "rrd_s"])
        if len(acts) == acts.maxlen:
            self._apart("tFAW", acts[0], command, t["faw"])
        acts.append(command)
        bank.act, bank.row = command, command.row
        bank.read = bank.write = None

    def _close(self, bank: _Bank, command: Command, edge: int) -> None:
        bank.row, bank.close, bank.close_edge = -1, command, edge

    def _precharge(self, command: Command) -> None:
        t = self.t
        for index in self._span(command):
            bank = self.banks[index]
            if bank.row < 0:
                continue
            self._apart("tRAS", bank.act, command, t["ras"])
            self._apart("tRTP", bank.read, command, t["rtp"])
            self._apart("tWR", bank.write, command, t["cwl"] + t["burst"] + t["wr"])
            self._close(bank, command, command.edge)

    def _access(self, command: Command) -> None:
        t, bank = self.t, self.banks[command.bank]
        write = command.name in _WRITES
        self._apart("tRCD", bank.act, command, t["rcd_wr" if write else "rcd_rd"])
        columns = self.columns[self._pc(command.bank)]
        for before in columns:
            self._pair(before, command)
        self._data_bus(columns, command)
        columns.append(command)
        del columns[:-16]
        if write:
            bank.write = command
        else:
            bank.read = command
        if command.name in ("RDA", "WRA"):
            self._auto_precharge(bank, command)

    def _pair(self, before: Command, after: Command) -> None:
        """Check two accesses of a pseudo-channel: spacing or turnaround."""
        t = self.t
        wrote, writes = before.name in _WRITES, after.name in _WRITES
        same = self._group(before.bank) == self._group(after.bank)
        if wrote and not writes:
            wtr = t["wtr_l" if same else "wtr_s"]
            self._apart("tWTR", before, after, t["cwl"] + t["burst"] + wtr)
        elif writes and not wrote:
            self._apart("tRTW", before, after, t["rtw"])
        elif same:
            self._apart("tCCD_L", before, after, t["ccd_l_wr" if writes else "ccd_l"])
        elif self._stack(before.bank) != self._stack(after.bank) and not writes:
            self._apart("tCCD_R", before, after, t["ccd_r"])
        else:
            self._apart("tCCD_S", before, after, t["ccd_s"])

    def _data_bus(self, columns: Sequence[Command], command: Command) -> None:
        """Check that no two bursts of data are on one data bus at once."""
        t = self.t
        starts = [c.edge + t["cwl" if c.name in _WRITES else "cl"] for c in (*columns, command)]
        for before, start in zip(columns, starts, strict=False):
            if abs(starts[-1] - start) < t["burst"]:
                self._wrong("data bus", before, command, t["burst"])

    def _auto_precharge(self, bank: _Bank, command: Command) -> None:
        """Close the row as the device does, as soon as tRAS, tRTP and tWR allow it."""
        t, bus = self.t, self.spec.bus
        shift = bus.column - bus.pre
        edge = (bank.act.edge + bus.act - bus.pre + t["ras"]) if bank.act else command.edge
        if bank.read is not None:
            edge = max(edge, bank.read.edge + shift + t["rtp"])
        if bank.write is not None:
            edge = max(edge, bank.write.edge + shift + t["cwl"] + t["burst"] + t["wr"])
        self._close(bank, command, edge)

    def _refresh(self, command: Command) -> None:
        t, pc = self.t, self._pc(command.bank)
        before = self.refreshes.get(pc)
        if before is not None:
            self._apart(
                "refresh spacing", before, command, t["rfc" if before.name == "REFab" else "rrefd"]
            )
        for index in self._span(command):
            bank = self.banks[index]
            if bank.close is not None and command.edge - bank.close_edge < t["rp"]:
                self._wrong("tRP to refresh", bank.close, command, t["rp"])
            self._apart("tRC to refresh", bank.act, command, t["rc"])
            bank.refresh = command
        self.refreshes[pc] = command


_RULES = {
    "ACT": Checker._act,
    "PRE": Checker._precharge,
    "PREab": Checker._precharge,
    "RD": Checker._access,
    "WR": Checker._access,
    "RDA": Checker._access,
    "WRA": Checker._access,
    "REFab": Checker._refresh,
    "REFpb": Checker._refresh,
}


def check_log(spec: DramSpec, log: Sequence[Command]) -> list[Violation]:
    """Return every violation of the timing table in a log."""
    return Checker(spec).check(log)


def refresh_debt(spec: DramSpec, log: Sequence[Command], end_edge: int, *, all_bank: bool) -> int:
    """Return the most refreshes that any pseudo-channel had due and not issued, up to `end_edge`.

    A refresh is due every tREFI if `all_bank`, else every tREFIpb.
    """
    o, per = spec.organisation, spec.bus.edges_per_clock
    interval = (spec.timing.refi if all_bank else spec.timing.refi_pb) // o.clock_ps * per
    worst = 0
    for pc in range(o.pseudo_channels):
        issued = 0
        for command in sorted(log, key=lambda c: c.edge):
            here = command.bank // o.banks_per_pseudo_channel == pc
            if here and command.name.startswith("REF"):
                worst = max(worst, command.edge // interval - issued)
                issued += 1
        worst = max(worst, end_edge // interval - issued)
    return worst
