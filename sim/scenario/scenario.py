"""A scenario: what is compared, on what, over which points. Everything in it is resolved."""

from dataclasses import dataclass
from enum import StrEnum

from sim.hardware.address_map import EVEN, Placement
from sim.hardware.gpu import ChannelKind
from sim.hardware.residency import EVICT_FIRST, L2Policy
from sim.hardware.spec import ChipSpec
from sim.kernel.engine import Engine
from sim.kernel.formats import KvFormat, WeightFormat
from sim.model.architecture import Model


class RoutingKind(StrEnum):
    """How the tokens of a batch choose their experts."""

    UNIFORM = "uniform"
    ZIPF = "zipf"
    BALANCED = "balanced"
    COUNTS = "counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The routing of a contestant: `draws` independent draws are averaged.

    `exponent` is set for zipf only, `counts` (tokens of each expert) for counts only.
    """

    kind: RoutingKind = RoutingKind.UNIFORM
    exponent: float | None = None
    counts: tuple[int, ...] | None = None
    draws: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One model in one pair of formats, under a label that is unique in its scenario.

    `tensor_parallel` GPUs of the scenario's chip share it. `placement` is where its bytes lie.
    """

    name: str
    model: Model
    weights: WeightFormat
    kv: KvFormat
    tensor_parallel: int
    routing: Routing
    placement: Placement = EVEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The points of a scenario: every batch with every context, in the order written."""

    batches: tuple[int, ...]
    contexts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Knobs of the simulator: request size in bytes (None: by kernel), symmetry, channels.

    `l2_policy` says what leaves L2 first; with `l2_kept` a step finds what the step before left.
    """

    granule_bytes: int | None = None
    symmetry: bool = True
    channel: ChannelKind = "coarse"
    l2_policy: L2Policy = EVICT_FIRST
    l2_kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What is written beside the tables."""

    report: bool = True
    timeline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole scenario; `name` is the stem of its file."""

    name: str
    title: str
    hardware: ChipSpec
    engine: Engine
    seed: int
    grid: Grid
    contestants: tuple[Contestant, ...]
    simulation: Simulation
    report: ReportOptions
