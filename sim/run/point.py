"""One point of a scenario: memory need, step graph, step on the device, metrics."""

from dataclasses import dataclass, field

from sim.hardware.address_map import EVEN, Placement
from sim.hardware.gpu import Gpu
from sim.model.architecture import Model
from sim.model.memory import activation_bytes, kv_bytes, state_bytes, weights_bytes
from sim.model.parallel import shard
from sim.model.step import StepGraph, build_step
from sim.run.device import Device
from sim.run.draws import routing_draws
from sim.run.memo import Memo, key_of
from sim.run.result import MemoryNeed, PointResult
from sim.run.step import StepRun, run_step
from sim.scenario.scenario import Contestant, Scenario
from sim.units import PS_PER_S, transfer_ps, work_ps


@dataclass(slots=True, kw_only=True)
class PointRunner:
    """Runs the points of one contestant of a scenario on one device.

    If several GPUs share the model, memory, bytes and FLOP are those of one of them; the tokens
    are those of all together.
    """

    scenario: Scenario
    contestant: Contestant
    device: Device
    _activations: dict[int, int] = field(default_factory=dict)
    _question: bytes = b""
    _model: Model = field(init=False)

    def __post_init__(self) -> None:
        """Hash what all points share, and take one GPU's share of the model."""
        self._model = shard(self.contestant.model, tensor=self.contestant.tensor_parallel)
        scenario = self.scenario
        fingerprint = self.device.gpu.fingerprint()
        steady = self.device.steady_l2
        self._question = key_of(
            fingerprint, scenario.engine, scenario.seed, self.contestant, steady
        )

    def run(self, batch: int, context: int) -> PointResult:
        """Return the result of one point; a point that does not fit is a result, too."""
        known = self.recall(batch, context)
        if known is not None:
            return known
        need = self._need(batch, context)
        unfit = _unfit(self.contestant, batch, context, need)
        result = self._simulate(batch, context, need) if need.fits else unfit
        self.device.memo.put(self._key(batch, context), result)
        return result

    def recall(self, batch: int, context: int) -> PointResult | None:
        """Return the result of a point if the memo knows it."""
        known = self.device.memo.get(self._key(batch, context))
        return known if isinstance(known, PointResult) else None

    def _key(self, batch: int, context: int) -> bytes:
        return key_of("point", self._question, batch, context)

    def _need(self, batch: int, context: int) -> MemoryNeed:
        model = self._model
        if batch not in self._activations:
            self._activations[batch] = activation_bytes(self.graph(batch, context))
        return MemoryNeed(
            weights_bytes=weights_bytes(model, self.contestant.weights),
            kv_bytes=kv_bytes(model, self.contestant.kv, batch=batch, context=context),
            state_bytes=state_bytes(model, batch=batch),
            activations_bytes=self._activations[batch],
            capacity_bytes=self.scenario.hardware.hbm_bytes,
        )

    def _simulate(self, batch: int, context: int, need: MemoryNeed) -> PointResult:
        step = run_step(self.graph(batch, context), self.device)
        return _result(self.contestant, batch, context, need, step, self.device.gpu)

    def graph(self, batch: int, context: int) -> StepGraph:
        """Return the decode step of a point, its routing drawn from the seed."""
        scenario, contestant = self.scenario, self.contestant
        return build_step(
            self._model,
            batch=batch,
            q_len=1,
            context=context,
            weight_format=contestant.weights,
            kv_format=contestant.kv,
            merge_projections=scenario.engine.merge_projections,
            routing_draws=routing_draws(scenario.seed, contestant, batch),
        )


def build_device(scenario: Scenario, memo: Memo, placement: Placement = EVEN) -> Device:
    """Return the device of a scenario: its chip, its engine profile, its knobs, a placement.

    Blocks of KV caches that are not in order are shuffled with the scenario's seed.
    """
    simulation = scenario.simulation
    gpu = Gpu(
        spec=scenario.hardware,
        symmetry=simulation.symmetry,
        granule_bytes=simulation.granule_bytes,
        channel=simulation.channel,
        l2_policy=simulation.l2_policy,
        address_map=placement.on(scenario.hardware, scenario.seed),
    )
    return Device(gpu=gpu, engine=scenario.engine, memo=memo, steady_l2=simulation.l2_kept)


def _unfit(contestant: Contestant, batch: int, context: int, need: MemoryNeed) -> PointResult:
    return PointResult(
        contestant=contestant.name, batch=batch, context=context, memory=need, step_ps=0,
        roofline_ps=0, tokens_per_s=0.0, mbu=0.0, mfu=0.0, flop=0,
        channel_imbalance=1.0, bound="", ledger_ps={},
        traffic=(), operators=(),
    )  # fmt: skip


def _result(
    contestant: Contestant, batch: int, context: int, need: MemoryNeed, step: StepRun, gpu: Gpu
) -> PointResult:
    spec, step_ps = gpu.spec, step.time_ps
    compute = gpu.target().compute(contestant.weights.compute)
    peak_flop_per_s = spec.tensor_flop_per_s[compute]
    hbm_bytes, flop = step.hbm_bytes(), step.flop
    ledger = step.ledger_ps()
    seconds = step_ps / PS_PER_S
    return PointResult(
        contestant=contestant.name,
        batch=batch,
        context=context,
        memory=need,
        step_ps=step_ps,
        roofline_ps=max(
            transfer_ps(hbm_bytes, spec.hbm_bytes_per_s), work_ps(flop, peak_flop_per_s)
        ),
        tokens_per_s=batch / seconds,
        mbu=hbm_bytes / (spec.hbm_bytes_per_s * seconds),
        mfu=flop / (peak_flop_per_s * seconds),
        flop=flop,
        channel_imbalance=step.channel_imbalance(),
        bound=max(ledger, key=lambda cause: ledger[cause]),
        ledger_ps=ledger,
        dram_ps=step.dram_ps(),
        traffic=step.traffic(),
        operators=step.rows(),
    )
