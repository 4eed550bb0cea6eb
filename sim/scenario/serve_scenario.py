"""A serving scenario: a trace, and the clusters that serve it. Everything in it is resolved."""

from dataclasses import dataclass
from fractions import Fraction

from sim.hardware.spec import ChipSpec
from sim.kernel.engine import Engine
from sim.kernel.formats import KvFormat, WeightFormat
from sim.model.architecture import Model
from sim.scenario.scenario import Routing
from sim.serving.config import ServeConfig, Slo
from sim.serving.request import Trace
from sim.serving.traffic import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRates:
    """Links that copy KV, as payload: to the host's memory, and from prompts to decodes.

    None: the chip's own link.
    """

    host_bytes_per_s: int
    transfer_bytes_per_s: int | None = None
    transfer_latency_ps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeContestant:
    """One way to serve the trace, under a label that is unique in its scenario.

    `draft` is the model that proposes tokens, None without speculation or for a proposer that
    costs nothing (n-grams).
    """

    name: str
    model: Model
    weights: WeightFormat
    kv: KvFormat
    hardware: ChipSpec
    engine: Engine
    config: ServeConfig
    routing: Routing
    wires: WireRates
    draft: Model | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSweep:
    """Request rates (per second) to serve the trace at, and whether to search the highest.

    The highest is the one at which `share` of all requests keeps the SLO.
    """

    rates: tuple[Fraction, ...]
    search: bool
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeScenario:
    """A whole serving scenario; `name` is the stem of its file.

    `trace` is what all contestants serve; `traffic` is what it was drawn from, None for a recorded
    one. With `exact` every step is run on the device as it is.
    """

    name: str
    title: str
    seed: int
    trace: Trace
    traffic: Traffic | None
    contestants: tuple[ServeContestant, ...]
    slo: Slo | None
    sweep: RateSweep | None
    exact: bool
    report: bool
    timeline: bool
    detailed: bool
