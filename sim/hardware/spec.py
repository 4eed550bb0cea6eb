"""Hardware specs: one TOML a chip, every number with its unit, kind and source.

`load_chip` reads `hardware_specs/NAME.toml` into a `ChipSpec` of integers. A number without a
kind and a source is refused, and so is a chip whose numbers contradict each other.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field

from sim.checking import (
    Bandwidth,
    Checker,
    Cited,
    Clock,
    Count,
    Duration,
    FlopRate,
    Ratio,
    Size,
    Table,
    Text,
)
from sim.errors import InputError, SpecError
from sim.hardware.l2_spec import L2Table, check_partitions
from sim.hardware.link_spec import LinkSpec, LinkTable
from sim.resources import by_alias, display, find_file, named_files
from sim.toml_source import TomlSource, parse_toml, read_toml


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipSpec:
    """One chip, in base units; every time in ps, every rate per second for the whole chip.

    `l2_port_bytes_per_clock`, `shared_memory_bytes`, `max_ctas` and `sfu_ops_per_clock` are per SM.
    `tensor_flop_per_s` holds the dense peak by compute format; formats without a sustained
    fraction of their own use `sustained_fraction`. An L2 of two partitions is `l2_near_latency_ps`
    or `l2_far_latency_ps` away, `l2_latency_ps` in the mean; hits on the far side come at
    `l2_far_bytes_per_s`. `graph_replay_ps` is the least time between two
    launches of graphs by a host. `provenance` gives kind and source of every
    number by its dotted key. `link` is None if the spec says nothing of peers. The mappings must
    not be changed.
    """

    name: str
    title: str
    generation: str
    aliases: tuple[str, ...]
    notes: tuple[str, ...]
    sm_count: int
    clock_hz: int
    shared_memory_bytes: int
    max_ctas: int
    l2_port_bytes_per_clock: int
    vector_flop_per_s: int
    sfu_ops_per_clock: int
    step_latency_ps: int
    tensor_flop_per_s: Mapping[str, int] = field(hash=False)
    sustained_fraction: Fraction
    sustained_fp8: Fraction | None = None
    sustained_int8: Fraction | None = None
    l2_bytes: int
    l2_bytes_per_s: int
    l2_latency_ps: int
    l2_partitions: int = 1
    l2_near_latency_ps: int | None = None
    l2_far_latency_ps: int | None = None
    l2_far_bytes_per_s: int | None = None
    hbm_type: str
    hbm_bytes: int
    hbm_bytes_per_s: int
    pseudo_channels: int
    interleave_bytes: int
    read_efficiency: Fraction
    copy_efficiency: Fraction
    tile_efficiency: Fraction
    hbm_latency_ps: int
    stream_gap_ps: int
    cuda_graph_gap_ps: int
    graph_to_graph_gap_ps: int
    kernel_start_ps: int
    graph_replay_ps: int
    link: LinkSpec | None = None
    provenance: Mapping[str, tuple[str, str]] = field(hash=False)

    def sustained(self, compute: str, busy_sms: int) -> Fraction:
        """Return the share of the tensor peak of a compute format that `busy_sms` SMs sustain.

        Formats with a share of their own are limited by power, which the busy SMs share: few of
        them run at what the issue of instructions leaves.
        """
        own = {"fp8": self.sustained_fp8, "int8": self.sustained_int8}.get(compute)
        if own is None:
            return self.sustained_fraction
        return max(own, min(self.sustained_fraction, own * self.sm_count / busy_sms))

    def fingerprint(self) -> str:
        """Return a sha256 of every number that can change a simulated time, stable for ever.

        Names, notes and sources are left out: editing a citation must not void stored results.
        """
        texts = {
            "name",
            "title",
            "generation",
            "aliases",
            "notes",
            "provenance",
            "link",
        }
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in texts}
        numbers["tensor_flop_per_s"] = dict(self.tensor_flop_per_s)
        if self.link is not None:
            numbers["link"] = {**asdict(self.link), "type": None}
        canonical = json.dumps(numbers, sort_keys=True, default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()


class _Chip(Table):
    name: Text
    title: Text
    generation: Text
    aliases: list[Text] = Field(default_factory=list)
    notes: list[Text] = Field(default_factory=list)


class _Sm(Table):
    count: Cited[Count]
    clock: Cited[Clock]
    shared_memory: Cited[Size]
    max_ctas: Cited[Count]
    l2_port_bytes_per_clock: Cited[Count]
    vector_flop_per_s: Cited[FlopRate]
    sfu_ops_per_clock: Cited[Count]
    step_latency: Cited[Duration]


class _Tensor(Table):
    bf16: Cited[FlopRate]
    fp16: Cited[FlopRate]
    fp8: Cited[FlopRate] | None = None
    int8: Cited[FlopRate] | None = None
    fp4: Cited[FlopRate] | None = None
    sustained_fraction: Cited[Ratio]
    sustained_fp8: Cited[Ratio] | None = None
    sustained_int8: Cited[Ratio] | None = None

    def rates(self) -> dict[str, int]:
        """Return the dense peak by compute format, of the formats this chip has."""
        cited = {name: getattr(self, name) for name in ("bf16", "fp16", "fp8", "int8", "fp4")}
        return {name: rate.value for name, rate in cited.items() if rate is not None}


class _Hbm(Table):
    type: Text
    capacity: Cited[Size]
    peak_bandwidth: Cited[Bandwidth]
    pseudo_channels: Cited[Count]
    interleave: Cited[Size]
    read_efficiency: Cited[Ratio]
    copy_efficiency: Cited[Ratio]
    tile_efficiency: Cited[Ratio]
    latency: Cited[Duration]


class _Launch(Table):
    stream_gap: Cited[Duration]
    cuda_graph_gap: Cited[Duration]
    graph_to_graph_gap: Cited[Duration]
    kernel_start: Cited[Duration]
    graph_replay: Cited[Duration] | None = None

    def smallest_replay_ps(self, l2_latency_ps: int) -> int:
        """Return the least time between two graphs; if the spec has none, that of a tiny kernel."""
        if self.graph_replay is not None:
            return self.graph_replay.value
        return self.graph_to_graph_gap.value + self.kernel_start.value + l2_latency_ps


class _Spec(Table):
    chip: _Chip
    sm: _Sm
    tensor: _Tensor
    l2: L2Table
    hbm: _Hbm
    launch: _Launch
    link: LinkTable | None = None


def available_chips(search_dirs: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of all chips in `search_dirs`, sorted."""
    return tuple(named_files(search_dirs))


def load_chip(name_or_path: str, search_dirs: Sequence[Path]) -> ChipSpec:
    """Return the chip of this name, alias or path.

    Raises SpecError with every problem of the spec; if there is no such chip, its only Problem
    has `name_or_path` as its file.
    """
    try:
        path = find_chip(name_or_path, search_dirs)
        source = read_toml(path, file=display(path))
    except InputError as error:
        raise SpecError(error.problems) from error
    return _chip_of(source, stem=path.stem)


def find_chip(name_or_path: str, search_dirs: Sequence[Path]) -> Path:
    """Return the spec file of this name, alias or path. Raises InputError if there is none."""
    known = named_files(search_dirs)
    aliases: dict[str, str] = {}
    if name_or_path not in known:
        written = ((name, path, path.stat().st_mtime_ns) for name, path in known.items())
        aliases = by_alias(pair for spec in written for pair in _aliases(*spec))
    return find_file(name_or_path, known, what="chip", aliases=aliases)


def parse_chip(text: str, *, file: str, stem: str) -> ChipSpec:
    """Return the chip that `text` describes; `stem` is the name that it must have.

    Raises SpecError with every problem.
    """
    try:
        source = parse_toml(text, file=file)
    except InputError as error:
        raise SpecError(error.problems) from error
    return _chip_of(source, stem=stem)


@lru_cache(maxsize=512)
def _aliases(name: str, path: Path, _written_ns: int) -> tuple[tuple[str, str], ...]:
    """Return (alias, name) of a spec, read once as long as it is not written anew."""
    try:
        aliases = read_toml(path).get(("chip", "aliases"))
    except InputError:
        return ()
    listed = aliases if isinstance(aliases, list) else []
    return ((name, name), *((alias, name) for alias in listed if isinstance(alias, str)))


def _chip_of(source: TomlSource, *, stem: str) -> ChipSpec:
    checker = Checker(source)
    spec = checker.table(_Spec)
    hbm = checker.valid(_Hbm, ("hbm",))
    _check_name(checker, checker.valid(_Chip, ("chip",)), stem)
    _check_hbm(checker, hbm)
    l2 = checker.valid(L2Table, ("l2",))
    _check_levels(checker, l2, hbm)
    check_partitions(checker, l2)
    _check_gaps(checker, checker.valid(_Launch, ("launch",)))
    _check_tiers(checker, spec)
    if spec is None or checker.problems:
        raise checker.error(SpecError)
    return _assembled(spec, _provenance(source))


def _check_name(checker: Checker, chip: _Chip | None, stem: str) -> None:
    if chip and chip.name != stem:
        checker.wrong(("chip", "name"), "is not the name of the file", expected=repr(stem))


def _check_hbm(checker: Checker, hbm: _Hbm | None) -> None:
    if hbm and hbm.copy_efficiency.value > hbm.read_efficiency.value:
        checker.wrong(
            ("hbm", "copy_efficiency", "value"),
            "copies cannot be more efficient than reads",
            expected=f"at most read_efficiency, {float(hbm.read_efficiency.value)}",
        )


def _check_levels(checker: Checker, l2: L2Table | None, hbm: _Hbm | None) -> None:
    if l2 is None or hbm is None:
        return
    if hbm.latency.value <= l2.latency.value:
        checker.wrong(
            ("hbm", "latency", "value"),
            "a miss cannot be faster than a hit",
            expected="more than l2.latency",
        )
    if hbm.capacity.value <= l2.capacity.value:
        checker.wrong(
            ("hbm", "capacity", "value"), "is not larger than L2", expected="more than l2.capacity"
        )


def _check_gaps(checker: Checker, launch: _Launch | None) -> None:
    if launch and launch.cuda_graph_gap.value > launch.stream_gap.value:
        checker.wrong(
            ("launch", "cuda_graph_gap", "value"),
            "a graph cannot launch more slowly than a stream",
            expected="at most launch.stream_gap",
        )


def _check_tiers(checker: Checker, spec: _Spec | None) -> None:
    link = spec.link if spec else None
    reached = link.ranks.value if link else 0
    for name, tier in (("socket", link and link.socket), ("host", link and link.host)):
        if tier and tier.ranks.value <= reached:
            checker.wrong(
                ("link", name, "ranks", "value"),
                "joins no more GPUs than a faster way does",
                expected=f"more than {reached}",
            )
        reached = tier.ranks.value if tier else reached


def _provenance(source: TomlSource) -> dict[str, tuple[str, str]]:
    return {key: (entry["kind"], entry["source"]) for key, entry in _cited(source.data, "")}


def _cited(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for key, entry in table.items():
        if isinstance(entry, dict) and "source" in entry:
            yield prefix + key, entry
        elif isinstance(entry, dict):
            yield from _cited(entry, f"{prefix}{key}.")


def _assembled(spec: _Spec, provenance: dict[str, tuple[str, str]]) -> ChipSpec:
    chip, sm, tensor = spec.chip, spec.sm, spec.tensor
    l2, hbm, launch = spec.l2, spec.hbm, spec.launch
    return ChipSpec(
        name=chip.name,
        title=chip.title,
        generation=chip.generation,
        aliases=tuple(chip.aliases),
        notes=tuple(chip.notes),
        sm_count=sm.count.value,
        clock_hz=sm.clock.value,
        shared_memory_bytes=sm.shared_memory.value,
        max_ctas=sm.max_ctas.value,
        l2_port_bytes_per_clock=sm.l2_port_bytes_per_clock.value,
        vector_flop_per_s=sm.vector_flop_per_s.value,
        sfu_ops_per_clock=sm.sfu_ops_per_clock.value,
        step_latency_ps=sm.step_latency.value,
        tensor_flop_per_s=tensor.rates(),
        sustained_fraction=tensor.sustained_fraction.value,
        sustained_fp8=tensor.sustained_fp8.value if tensor.sustained_fp8 else None,
        sustained_int8=tensor.sustained_int8.value if tensor.sustained_int8 else None,
        l2_bytes=l2.capacity.value,
        l2_bytes_per_s=l2.bandwidth.value,
        l2_latency_ps=l2.latency.value,
        **l2.partition_numbers(),
        hbm_type=hbm.type,
        hbm_bytes=hbm.capacity.value,
        hbm_bytes_per_s=hbm.peak_bandwidth.value,
        pseudo_channels=hbm.pseudo_channels.value,
        interleave_bytes=hbm.interleave.value,
        read_efficiency=hbm.read_efficiency.value,
        copy_efficiency=hbm.copy_efficiency.value,
        tile_efficiency=hbm.tile_efficiency.value,
        hbm_latency_ps=hbm.latency.value,
        stream_gap_ps=launch.stream_gap.value,
        cuda_graph_gap_ps=launch.cuda_graph_gap.value,
        graph_to_graph_gap_ps=launch.graph_to_graph_gap.value,
        kernel_start_ps=launch.kernel_start.value,
        graph_replay_ps=launch.smallest_replay_ps(l2.latency.value),
        link=None if spec.link is None else spec.link.spec(),
        provenance=provenance,
    )
