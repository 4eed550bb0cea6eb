"""The shape of a microscope scenario's TOML: what can be checked without opening another file.

Every value of a channel or a pattern may be a list, which makes it an axis of the sweep. The loader
makes lists of all of them before they are checked (`microscope_source.as_lists`), so here every
value is a list.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Final, TypeVar

from pydantic import Field

from sim.checking import Count, Duration, Real, Size, Table, Text, one_of
from sim.hardware.dram.address import MAPS, DramMap
from sim.hardware.dram.controller import DRAMSIM3, RAMULATOR, Controller
from sim.hardware.dram.gpu_like import gpu_controller, gpu_map
from sim.hardware.dram.timing import DramSpec, Organisation

_T = TypeVar("_T")
_Controllers = Mapping[str, Callable[[DramSpec], Controller]]
_Maps = Mapping[str, Callable[[Organisation], DramMap]]


def _always(value: _T) -> Callable[[object], _T]:
    return lambda _: value


PRESETS: Final[_Controllers] = MappingProxyType(
    {
        "default": _always(Controller()),
        "gpu": gpu_controller,
        "ramulator": _always(RAMULATOR),
        "dramsim3": _always(DRAMSIM3),
    }
)
MAP_CHOICES: Final[_Maps] = MappingProxyType(
    {"gpu": gpu_map, **{name: _always(known) for name, known in MAPS.items()}}
)
HASHES: Final = ("none", "xor", "ipoly")
REFRESHES: Final = ("none", "all_bank", "per_bank", "hidden")
ELEMENT_BITS: Final[Mapping[str, int]] = MappingProxyType(
    {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "mxfp4": 4}
)
"""Bits of an element; scales of quantised formats are other tensors and are left out."""

_Whole = Annotated[int, Field(ge=0)]
_Share = Annotated[Real, Field(ge=0, le=1)]
_Load = Annotated[Real, Field(ge=0, le=2)]
_Format = Annotated[str, one_of("format", tuple(ELEMENT_BITS))]


class ChannelTable(Table):
    """`[channel]`, and what a contestant has of its own; None: not said.

    `map` is a name, or `order` (fields, least significant first) and `hash` stand instead of it.
    The other keys are those of `sim.hardware.dram.controller.Controller`, times with a unit.
    """

    device: list[Text] | None = None
    map: list[Annotated[str, one_of("address map", tuple(MAP_CHOICES))]] | None = None
    order: list[Text] | None = None
    hash: list[Annotated[str, one_of("hash", HASHES)]] | None = None
    preset: list[Annotated[str, one_of("preset", tuple(PRESETS))]] | None = None
    refresh: list[Annotated[str, one_of("refresh", REFRESHES)]] | None = None
    refresh_stall: list[Annotated[str, one_of("stall", ("pseudo_channel", "channel"))]] | None = (
        None
    )
    refresh_debt: list[_Whole] | None = None
    row_policy: (
        list[Annotated[str, one_of("row policy", ("open", "closed", "adaptive"))]] | None
    ) = None
    row_timeout: list[Duration] | None = None
    read_queue: list[Count] | None = None
    write_queue: list[Count] | None = None
    bank_queue: list[_Whole] | None = None
    staging: list[Count] | None = None
    write_high: list[_Whole] | None = None
    write_low: list[_Whole] | None = None
    write_when_idle: list[Count] | None = None
    hold_hits: list[bool] | None = None
    hit_limit: list[_Whole] | None = None
    age_bound: list[Duration] | None = None


class MicroContestantTable(ChannelTable):
    """One of `[[contestants]]`: a channel to compare."""

    name: Text


class PatternTable(Table):
    """What every pattern has: a name, and the load at which its granules arrive."""

    kind: Text
    name: Text | None = None
    load: list[_Load] = [0.0]


class SequentialTable(PatternTable):
    """One ascending stream of granules."""

    chunk: list[Size] = [64]
    read_share: list[_Share] = [1.0]


class RandomTable(SequentialTable):
    """Granules at random aligned places."""


class StreamsTable(SequentialTable):
    """Ascending streams, round robin; the first `read_share` of them read."""

    streams: list[Count] = [16]
    bases: list[Annotated[str, one_of("placement", ("random", "aligned"))]] = ["random"]


class KernelTable(PatternTable):
    """What all kernels have: how bytes of the chip are spread over its channels."""

    channels: list[Count] = [80]
    interleave: list[Size] = [512]
    channel_hash: list[bool] = [True]
    format: list[_Format] = ["bf16"]
    ctas: list[Count] = [132]


class GemmTable(KernelTable):
    """Weight tiles of a matrix product."""

    rows: list[Count] = [8192]
    cols: list[Count] = [8192]
    tile_n: list[Count] = [128]
    tile_k: list[Count] = [64]
    stages: list[Count] = [4]


class MoeTable(GemmTable):
    """Weight tiles of the experts that a batch touches; rows x cols is one expert's matrix."""

    rows: list[Count] = [2048]
    cols: list[Count] = [4096]
    experts: list[Count] = [128]
    touched: list[Count] = [8]


class PagedTable(KernelTable):
    """Blocks of a paged KV cache."""

    block: list[Count] = [16]
    kv_heads: list[Count] = [8]
    head_dim: list[Count] = [128]
    sequences: list[Count] = [32]
    context: list[Count] = [4096]
    layout: list[Annotated[str, one_of("layout", ("nhd", "hnd"))]] = ["nhd"]
    fill: list[Annotated[Real, Field(gt=0, le=1)]] = [0.5]


KINDS: Final[Mapping[str, type[PatternTable]]] = MappingProxyType(
    {
        "sequential": SequentialTable,
        "random": RandomTable,
        "streams": StreamsTable,
        "gemm_tiles": GemmTable,
        "paged_kv": PagedTable,
        "moe_experts": MoeTable,
    }
)


class MicroReportTable(Table):
    """`[report]` of a microscope scenario."""

    report: bool = True
    timeline: bool = False


class MicroTable(Table):
    """The whole file but for its patterns, whose tables depend on their kind."""

    title: Text
    seed: _Whole = 1
    bytes: Size = 128 * 1024
    channel: ChannelTable = ChannelTable()
    contestants: list[MicroContestantTable] = []
    patterns: Annotated[list[object], Field(min_length=1)]
    report: MicroReportTable = MicroReportTable()
