"""Timings and organisation of one DRAM channel, read from `hardware_specs/dram/NAME.toml`.

A time is an integer number of picoseconds: clocks of the source times the clock's period. The
scheduler counts *edges*, the instants at which a command may start: one a clock, or two where the
standard puts row commands on both edges (HBM3). `Edges` holds the same times in that unit, from
start of command to start of command.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from sim.errors import Problem, SpecError
from sim.resources import chip_dirs, display, find_file, named_files
from sim.toml_source import TomlSource, read_toml


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """What one channel consists of. `row_bytes` is what one activation of one bank opens."""

    clock_ps: int
    pseudo_channels: int
    stack_ids: int
    bank_groups: int
    banks_per_group: int
    rows: int
    row_bytes: int
    access_bytes: int

    @property
    def banks_per_pseudo_channel(self) -> int:
        """Return the banks that share a data bus, over all stack ids."""
        return self.stack_ids * self.bank_groups * self.banks_per_group

    @property
    def banks(self) -> int:
        """Return the banks of the channel."""
        return self.pseudo_channels * self.banks_per_pseudo_channel

    @property
    def columns(self) -> int:
        """Return the bursts in one row."""
        return self.row_bytes // self.access_bytes

    @property
    def capacity_bytes(self) -> int:
        """Return the bytes of the channel."""
        return self.banks * self.rows * self.row_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandBus:
    """How commands reach the device: edges a clock, and edges that a command takes.

    `one_bus` says that row and column commands share one bus (DDR, LPDDR, GDDR); HBM has two.
    """

    edges_per_clock: int
    act: int
    column: int
    pre: int
    one_bus: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DramTiming:
    """The timing table in ps, as the standards define it: from end of command to end of command.

    `rtw` is read to write on one data bus; `wtr_s` and `wtr_l` start after the last write data;
    `ccd_r` is tCCD between stack ids; `rfc_pb`, `refi_pb`, `rrefd` belong to per-bank refresh.
    """

    burst: int
    cl: int
    cwl: int
    rcd_rd: int
    rcd_wr: int
    rp: int
    ras: int
    rc: int
    wr: int
    rtp: int
    ccd_s: int
    ccd_l: int
    ccd_r: int
    ccd_l_wr: int
    rrd_s: int
    rrd_l: int
    faw: int
    wtr_s: int
    wtr_l: int
    rtw: int
    rfc: int
    refi: int
    rfc_pb: int
    refi_pb: int
    rrefd: int


class Edges(NamedTuple):
    """Least distances from start to start in edges, as the scheduler uses them."""

    per_clock: int
    act_len: int
    column_len: int
    pre_len: int
    one_bus: int
    burst: int
    read_latency: int
    rcd_rd: int
    rcd_wr: int
    rp: int
    rp_ref: int
    ras: int
    rc: int
    rd_pre: int
    wr_pre: int
    ccd_s: int
    ccd_l: int
    ccd_r: int
    ccd_l_wr: int
    rrd_s: int
    rrd_l: int
    faw: int
    rd_wr: int
    wr_rd_s: int
    wr_rd_l: int
    rfc_act: int
    rfc_ref: int
    rfc_pb_act: int
    refi: int
    refi_pb: int
    rrefd: int
    rrefd_act: int
    act_ref: int
    act_ref_other: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DramSpec:
    """One channel of a DRAM device: organisation, command bus, timing and where they are from."""

    name: str
    organisation: Organisation
    bus: CommandBus
    timing: DramTiming
    source: str

    @property
    def peak_bytes_per_s(self) -> int:
        """Return the data rate of all pseudo-channels together."""
        o = self.organisation
        return o.pseudo_channels * o.access_bytes * 10**12 // self.timing.burst

    def edges(self) -> Edges:
        """Return the timing table in edges, from start to start.

        A time runs from the end of one command to the end of the next (JESD238 for HBM3: ACT takes
        1.5 clocks, RD and WR one, PRE half of one), so lengths of commands enter the difference.
        """
        clock, per = self.organisation.clock_ps, self.bus.edges_per_clock
        values = {f.name: getattr(self.timing, f.name) // clock * per for f in fields(DramTiming)}
        return _edges(values, self.bus)

    @overload
    def edge_ps(self, edge: int) -> int: ...
    @overload
    def edge_ps(self, edge: NDArray[np.int64]) -> NDArray[np.int64]: ...
    def edge_ps(self, edge: int | NDArray[np.int64]) -> int | NDArray[np.int64]:
        """Return the time of an edge in ps, rounded down for half clocks of an odd period."""
        return edge * self.organisation.clock_ps // self.bus.edges_per_clock


def _bus(found: dict[str, int]) -> CommandBus:
    return CommandBus(
        edges_per_clock=found["edges_per_clock"],
        act=found["act"],
        column=found["column"],
        pre=found["pre"],
        one_bus=bool(found["one_bus"]),
    )


def _edges(e: dict[str, int], bus: CommandBus) -> Edges:
    act, col, pre = bus.act - 1, bus.column - 1, bus.pre - 1
    return Edges(
        per_clock=bus.edges_per_clock,
        act_len=bus.act,
        column_len=bus.column,
        pre_len=bus.pre,
        one_bus=int(bus.one_bus),
        burst=e["burst"],
        read_latency=e["cl"] + e["burst"],
        rcd_rd=e["rcd_rd"] + act - col,
        rcd_wr=e["rcd_wr"] + act - col,
        rp=e["rp"] + pre - act,
        rp_ref=e["rp"] + pre,
        ras=e["ras"] + act - pre,
        rc=e["rc"],
        rd_pre=e["rtp"] + col - pre,
        wr_pre=e["cwl"] + e["burst"] + e["wr"] + col - pre,
        ccd_s=max(e["burst"], e["ccd_s"]),
        ccd_l=max(e["burst"], e["ccd_l"]),
        ccd_r=max(e["burst"], e["ccd_r"]),
        ccd_l_wr=max(e["burst"], e["ccd_l_wr"]),
        rrd_s=e["rrd_s"],
        rrd_l=e["rrd_l"],
        faw=e["faw"],
        rd_wr=e["rtw"],
        wr_rd_s=e["cwl"] + e["burst"] + e["wtr_s"],
        wr_rd_l=e["cwl"] + e["burst"] + e["wtr_l"],
        rfc_act=e["rfc"] - act,
        rfc_ref=e["rfc"],
        rfc_pb_act=e["rfc_pb"] - act,
        refi=e["refi"],
        refi_pb=e["refi_pb"],
        rrefd=e["rrefd"],
        rrefd_act=e["rrefd"] - act,
        act_ref=e["rc"] + act,
        act_ref_other=e["rrd_s"] + act,
    )


def dram_files() -> dict[str, Path]:
    """Return the DRAM devices that are known, by name."""
    return named_files(place for d in chip_dirs() if (place := d / "dram").is_dir())


@lru_cache(maxsize=64)
def load_dram(name_or_path: str) -> DramSpec:
    """Return the device of that name, or of a path. Raises InputError that names what is wrong."""
    path = find_file(name_or_path, dram_files(), what="DRAM device")
    source = read_toml(path, file=display(path))
    problems: list[Problem] = []
    organisation = _table(source, "organisation", Organisation, problems)
    bus = _table(source, "commands", CommandBus, problems)
    clocks = _table(source, "clocks", DramTiming, problems)
    if problems:
        raise SpecError(problems)
    clock_ps = organisation["clock_ps"]
    timings = source.get(("source", "timings"))
    return DramSpec(
        name=path.stem,
        organisation=Organisation(**organisation),
        bus=_bus(bus),
        timing=DramTiming(**{key: clocks[key] * clock_ps for key in clocks}),
        source=str(timings or ""),
    )


def _table(source: TomlSource, table: str, kind: type, problems: list[Problem]) -> dict[str, int]:
    """Return the integers of a table whose keys are the fields of `kind`; add what is wrong."""
    names = [f.name for f in fields(kind)]
    found: dict[str, int] = {}
    for name in names:
        value = (
            source.get((table, name, "value")) if table == "clocks" else source.get((table, name))
        )
        if isinstance(value, int) and value >= 0:
            found[name] = value
            continue
        mark = source.mark((table, name))
        text = "is missing" if value is None else f"{value!r} is not a number of at least 0"
        problems.append(
            Problem(file=source.file, line=mark.line, key=f"{table}.{name}", message=text)
        )
    return found
