"""The device: wires HBM, L2 and SMs into one SimPy environment and runs a kernel on them."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from sim.errors import InvariantError
from sim.hardware.address_map import AddressMap, EvenMap
from sim.hardware.bank_hbm import BankHbm
from sim.hardware.clock import Clock
from sim.hardware.dispatch import dispatch
from sim.hardware.fold import fold
from sim.hardware.hbm import Hbm
from sim.hardware.l2 import L2
from sim.hardware.l2_law import HitLaw
from sim.hardware.plan import granule_bytes, plan_kernel
from sim.hardware.residency import EMPTY_L2, EVICT_FIRST, L2Policy, L2State, Residency, Sweep
from sim.hardware.slices import slices_of
from sim.hardware.sm import Sm, SmJob, SmLedger
from sim.hardware.spec import ChipSpec
from sim.kernel.kernel import Kernel
from sim.kernel.target import Target
from sim.measure.causes import CAUSES
from sim.measure.probe import Probe

# Generations with the Tensor Memory Accelerator (asynchronous bulk copies into shared memory).
_BULK_COPY_GENERATIONS = frozenset({"hopper", "blackwell"})


ChannelKind = Literal["coarse", "bank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRun:
    """One kernel on one device, from its start (launch gap excluded) to its last byte moved.

    `sm_ps` charges SM-picoseconds to causes: its sum is `time_ps` x `sm_count` exactly. Bytes are
    per segment of the kernel, in its order; `written_back_bytes` maps traffic classes to dirty
    bytes that L2 sent to HBM. `busiest_bytes` is what HBM would have read had every channel read as
    much as the busiest one. `l2` is the residency that the next kernel finds. `dram_ps`
    (bank-level channels only) has pseudo-channel picoseconds by DRAM cause, idle included: they
    sum to `time_ps` x pseudo-channels.
    """

    time_ps: int
    sm_ps: dict[str, int]
    asked_bytes: tuple[int, ...]
    missed_bytes: tuple[int, ...]
    stored_bytes: tuple[int, ...]
    written_back_bytes: dict[str, int]
    busiest_bytes: int
    l2: L2State
    events: int
    dram_ps: dict[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A chip and how closely to look at it.

    `symmetry` simulates one SM and one channel of each class; without it every one is a process
    of its own, with the same result to the picosecond. `granule_bytes` sets the simulated request
    size, `granule_scale` scales the one that is chosen by kernel otherwise; `address_map` defaults
    to a perfect hash. `l2_policy` says who leaves L2 first. `channel` chooses how HBM is
    simulated: as `coarse` servers with measured rates, or by `bank`, command by command, with an
    address map of its own.
    """

    spec: ChipSpec
    symmetry: bool = True
    granule_bytes: int | None = None
    granule_scale: Fraction = Fraction(1)
    address_map: AddressMap | None = None
    l2_policy: L2Policy = EVICT_FIRST
    channel: ChannelKind = "coarse"

    def target(self) -> Target:
        """Return what kernel authors may know of this chip."""
        return Target(
            sm_count=self.spec.sm_count,
            shared_memory_bytes=self.spec.shared_memory_bytes,
            max_ctas=self.spec.max_ctas,
            bulk_copy=self.spec.generation in _BULK_COPY_GENERATIONS,
            compute_formats=frozenset(self.spec.tensor_flop_per_s),
        )

    def fingerprint(self) -> tuple[object, ...]:
        """Return what identifies this device in a memo key."""
        knobs = (self.symmetry, self.granule_bytes, self.granule_scale, self.address_map)
        return (self.spec.fingerprint(), *knobs, self.l2_policy, self.channel)

    def run(self, kernel: Kernel, l2: L2State = EMPTY_L2, probe: Probe | None = None) -> KernelRun:
        """Simulate `kernel` on an idle device whose L2 holds `l2`."""
        spec = self.spec
        env = Clock()
        residency = self._residency(kernel, l2)
        hbm = self._hbm(env, probe, kernel)
        slices = slices_of(self.address_map.shares(kernel.segments)) if self.address_map else None
        cache = L2(env, spec, probe, hbm, residency, slices=slices)
        sms = [Sm(env, spec, probe, l2=cache, job=job) for job in self._jobs(kernel)]
        env.run()
        hbm.finish()
        time_ps = max(
            env.now,
            cache.drained_ps,
            *(sm.pipe_ps for sm in sms),
            *(channel.free_ps for channel in hbm.channels),
        )
        run = KernelRun(
            time_ps=time_ps,
            sm_ps=_sum_ledgers(sms, spec, time_ps, cache),
            asked_bytes=tuple(cache.asked_bytes),
            missed_bytes=tuple(cache.missed_bytes),
            stored_bytes=tuple(cache.stored_bytes),
            written_back_bytes={t.value: n for t, n in residency.written_back.items()},
            busiest_bytes=hbm.busiest_bytes(),
            l2=residency.state(),
            events=env.events,
            dram_ps=hbm.dram_ps(time_ps),
        )
        _check(kernel, run, hbm, spec)
        return run

    def _jobs(self, kernel: Kernel) -> list[SmJob]:
        """Return what every class of SMs does."""
        spec = self.spec
        size = self.granule_bytes or granule_bytes(kernel, spec, self.granule_scale)
        grid = fold(kernel, spec)
        classes = dispatch(grid, spec.sm_count, symmetry=True)
        # Counted with symmetry, whatever is simulated, so that both have the same granules.
        simulated = sum(len(slot) for sm_class in classes for slot in sm_class.slots)
        is_long = grid is not kernel
        plans = plan_kernel(grid, spec, size, simulated=simulated, is_long=is_long)
        if not self.symmetry:
            classes = dispatch(grid, spec.sm_count, symmetry=False)
        setup_ps = kernel.setup_round_trips * spec.l2_latency_ps
        return [
            SmJob(name=f"sm{i}", plans=plans, sm_class=sm_class, setup_ps=setup_ps)
            for i, sm_class in enumerate(classes)
        ]

    def _residency(self, kernel: Kernel, l2: L2State) -> Residency:
        sweep = Sweep(
            bytes=kernel.swept_bytes(),
            law=HitLaw(partitions=self.spec.l2_partitions),
            one_sided=kernel.n_ctas == 1 and self.spec.l2_partitions > 1,
        )
        return Residency(self.spec.l2_bytes, kernel.segments, l2, self.l2_policy, sweep=sweep)

    def _hbm(self, env: Clock, probe: Probe | None, kernel: Kernel) -> Hbm | BankHbm:
        spec, segments = self.spec, kernel.segments
        if self.channel == "bank":
            return BankHbm(env, spec, probe, segments=segments, symmetry=self.symmetry)
        return Hbm(
            spec,
            probe,
            address_map=self.address_map or EvenMap(n_channels=spec.pseudo_channels),
            segments=segments,
            symmetry=self.symmetry,
        )


def _sum_ledgers(sms: list[Sm], spec: ChipSpec, time_ps: int, l2: L2) -> dict[str, int]:
    """Return the SM-picoseconds of all SMs by cause, SMs without a CTA included."""
    total = dict.fromkeys(CAUSES, 0)
    unused = SmLedger()
    unused.charge("launch", spec.kernel_start_ps)
    ledgers = [(sm.ledger, sm.multiplicity) for sm in sms]
    ledgers.append((unused, spec.sm_count - sum(sm.multiplicity for sm in sms)))
    for ledger, multiplicity in ledgers:
        _charge_idle(ledger, time_ps, l2)
        for cause, ps in ledger.ps.items():
            total[cause] += ps * multiplicity
    return total


def _charge_idle(ledger: SmLedger, time_ps: int, l2: L2) -> None:
    """Charge an SM's time without a CTA to what holds the others up, if it is shared, else to tail.

    While HBM or L2 is saturated, a CTA on this SM could not have made the kernel faster, so the
    idle SM is no loss of its own (docs/decisions/0003-idle-sms.md).
    """
    start = ledger.until_ps
    logs = [(channel.busy, "hbm_bandwidth") for channel in l2.hbm.channels]
    busy, cause = max(
        [*logs, (l2.busy, "l2_bandwidth")], key=lambda log: log[0].between(start, time_ps)
    )
    ledger.charge_wait(time_ps, busy, (cause, "tail"))


def _check(kernel: Kernel, run: KernelRun, hbm: Hbm | BankHbm, spec: ChipSpec) -> None:
    """Raise InvariantError if time or bytes of a run do not add up."""
    if sum(run.sm_ps.values()) != run.time_ps * spec.sm_count:
        raise InvariantError(f"kernel {kernel.name!r}: causes do not sum to its time: {run.sm_ps}")
    if sum(run.asked_bytes) != kernel.requested_bytes:
        raise InvariantError(f"kernel {kernel.name!r}: L2 saw other bytes than its CTAs asked for")
    if sum(run.stored_bytes) != kernel.stored_bytes:
        raise InvariantError(f"kernel {kernel.name!r}: L2 took other bytes than its CTAs stored")
    if run.dram_ps is not None and min(run.dram_ps.values()) < 0:
        raise InvariantError(f"kernel {kernel.name!r}: DRAM causes exceed its time: {run.dram_ps}")
    if list(run.missed_bytes) != hbm.read_bytes:
        raise InvariantError(f"kernel {kernel.name!r}: misses differ from the bytes HBM served")
