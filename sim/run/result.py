"""What a run produces: frozen records, no behaviour beyond sums, written by `sim.run.write`."""

from dataclasses import dataclass, field

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """What a point needs on the chip, in bytes, against its capacity."""

    weights_bytes: int
    kv_bytes: int
    state_bytes: int
    activations_bytes: int
    capacity_bytes: int

    @property
    def total_bytes(self) -> int:
        """Return the sum of the needs."""
        return self.weights_bytes + self.kv_bytes + self.state_bytes + self.activations_bytes

    @property
    def fits(self) -> bool:
        """Return whether the point can run."""
        return self.total_bytes <= self.capacity_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRow:
    """Bytes of one class at one level in one direction during one step."""

    traffic: str  # weights | experts | kv | state | activations
    # "l2" (requested by SMs), "hbm" (L2 misses and write-backs) or "link" (sent to other GPUs)
    level: str
    direction: str  # "read" or "write"
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow:
    """The kernels of one operator, summed over the step's layers."""

    part: str  # attention | mlp | moe | ssm | head | ...
    operator: str  # e.g. "qkv_proj"
    kernel: str  # e.g. "gemm_64x64_k512_split4"
    runs: int  # kernels per step
    time_ps: int
    flop: int
    hbm_bytes: int
    l2_bytes: int
    channel_imbalance: float  # bytes read from the busiest HBM channel over the mean of all
    bound: str  # the cause with the largest share of these kernels' time


@dataclass(frozen=True, slots=True, kw_only=True)
class PointResult:
    """One contestant at one batch and context.

    `ledger_ps` maps every cause (`sim.measure.causes`) to picoseconds of the step; its values sum
    to `step_ps` exactly. `bound` is the cause with the largest value. `roofline_ps` is the time
    of the same bytes and FLOP at the chip's peak rates with perfect overlap. A point that does
    not fit has `memory.fits == False`, `step_ps == 0` and empty ledgers. `mbu` is HBM bytes over
    (peak bandwidth x step); `mfu` is useful FLOP over (peak FLOP rate of the weights' compute
    format x step). `channel_imbalance` is the bytes read from the busiest HBM channel, kernel by
    kernel, over the mean of all channels: 1 if no channel camps. `dram_ps` are pseudo-channel
    picoseconds of the step's kernels by DRAM cause, where channels are simulated by bank, else
    empty.
    """

    contestant: str
    batch: int
    context: int
    memory: MemoryNeed
    step_ps: int
    roofline_ps: int
    tokens_per_s: float
    mbu: float
    mfu: float
    flop: int
    channel_imbalance: float
    bound: str
    ledger_ps: dict[str, int]
    traffic: tuple[TrafficRow, ...]
    operators: tuple[OperatorRow, ...]
    dram_ps: dict[str, int] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Return whether the point could run."""
        return self.memory.fits


@dataclass(frozen=True, slots=True, kw_only=True)
class ContestantInfo:
    """Who competes: the label of figures, and the facts a reader asks for."""

    name: str
    model: str
    family: str  # "dense", "MoE", "SSM", "hybrid", "sliding window", ...
    weight_format: str
    kv_format: str
    parameters: int
    active_parameters: int
    weights_bytes: int
    kv_bytes_per_token: int
    notes: tuple[str, ...]  # mechanisms of the model that are not simulated


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipInfo:
    """The chip of a run, for axes and rooflines."""

    name: str
    title: str
    peak_bytes_per_s: int
    memory_bytes: int
    l2_bytes: int
    sm_count: int
    tensor_flop_per_s: dict[str, int]  # dense, per compute format
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A whole run. Two runs with one seed are equal, byte for byte, once written."""

    schema_version: int
    name: str
    title: str
    version: str
    seed: int
    phase: str  # "decode"
    chip: ChipInfo
    engine: str
    contestants: tuple[ContestantInfo, ...]
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    points: tuple[PointResult, ...]
    answer: tuple[str, ...]
