"""The shape of a scenario TOML: what can be checked without opening another file."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from sim.checking import Count, Real, Size, Table, Text, one_of, read_quantity, wrong
from sim.hardware.address_map import MAP_KINDS
from sim.hardware.placement import KV_PAGES
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.kernel.operators import Traffic
from sim.scenario.scenario import RoutingKind
from sim.units import BYTES

DEFAULT_ENGINE = "cuda_graph"


def _granule(value: object) -> int | None:
    if value == "auto":
        return None
    try:
        size = read_quantity(value, BYTES)
    except PydanticCustomError as error:
        raise wrong("is not a granule", '"auto" or a size such as "8 KiB"') from error
    if size < 1:
        raise wrong("is too small", "more than 0")
    return size


_AddressMap = Annotated[str, one_of("address map", MAP_KINDS)]
_KvPages = Annotated[str, one_of("place of KV pages", KV_PAGES)]


class GridTable(Table):
    """`[grid]`."""

    batch: Annotated[list[Count], Field(min_length=1)]
    context: Annotated[list[Count], Field(min_length=1)]


class RoutingTable(Table):
    """`routing` of a contestant."""

    kind: Annotated[str, one_of("routing", tuple(RoutingKind))] = RoutingKind.UNIFORM.value
    exponent: Annotated[Real, Field(gt=0)] | None = None
    counts: list[Annotated[int, Field(ge=0)]] | None = None
    draws: Count = 8


class ContestantTable(Table):
    """One of `[[contestants]]`."""

    name: Text | None = None
    model: Text
    weights: Annotated[str, one_of("weight format", tuple(WEIGHT_FORMATS))] = "bf16"
    kv: Annotated[str, one_of("KV format", tuple(KV_FORMATS))] = "bf16"
    tensor_parallel: Count = 1
    routing: RoutingTable | None = None
    address_map: _AddressMap | None = None
    kv_pages: _KvPages | None = None


class SimulationTable(Table):
    """`[simulation]`."""

    granule: Annotated[int | None, BeforeValidator(_granule)] = None
    symmetry: Annotated[str, one_of("symmetry", ("on", "off"))] = "on"
    channel: Annotated[str, one_of("channel", ("coarse", "bank"))] = "coarse"
    address_map: _AddressMap = "even"
    kv_pages: _KvPages | None = None


class L2Table(Table):
    """`[l2]`."""

    capacity: Size | None = None
    policy: Annotated[str, one_of("policy", ("evict_first", "lru"))] = "evict_first"
    pinned: list[Annotated[str, one_of("class", tuple(Traffic))]] = Field(default_factory=list)
    pinned_size: Size | None = None
    between_steps: Annotated[str, one_of("between_steps", ("flushed", "kept"))] = "flushed"


class ReportTable(Table):
    """`[report]`."""

    report: bool = True
    timeline: bool = False


class ScenarioTable(Table):
    """The whole file."""

    title: Text
    hardware: Text
    engine: Text = DEFAULT_ENGINE
    seed: Annotated[int, Field(ge=0)] = 0
    grid: GridTable
    contestants: Annotated[list[ContestantTable], Field(min_length=1)]
    simulation: SimulationTable = SimulationTable()
    l2: L2Table = L2Table()
    report: ReportTable = ReportTable()
