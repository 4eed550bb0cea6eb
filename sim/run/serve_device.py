"""The device runs that a serving run asks for: parts of steps, as columns of numbers.

A step falls into what sees tokens (projections, norms, experts: depends on the number of rows),
what sees sequences (attention, recurrences) and the head (a row per sequence). Each part is run on
the device alone, what it reads fresh in L2, and remembered.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Final

import numpy as np

from sim.hardware.hbm import ChannelTiming
from sim.hardware.residency import EMPTY_L2
from sim.kernel.engine import DecodeKernel, PrefillKernel
from sim.kernel.lower.fusion import fuse
from sim.kernel.operators import Operator, Traffic
from sim.measure.causes import CAUSES
from sim.model.architecture import Layer, Model
from sim.model.assembly import next_norms
from sim.model.mixed import Group, StepFormats, build_mixed_step, token_wise_names
from sim.model.step import Block, Draws, StepGraph
from sim.run.device import Device, warm_activations
from sim.run.memo import Scratch, key_of
from sim.run.step import (
    OperatorSum,
    host_ps,
    launch_gap_ps,
    live_out,
    run_block,
    run_step,
    summed,
)
from sim.serving.step_cost import COLUMNS, Columns

_COARSER: Final = Fraction(4)
# Activations that take no more of L2 stay there whatever comes in between; of larger ones an
# operator finds what those before it left.
_SMALL_SHARE: Final = Fraction(2, 5)
# A few tokens of context: nothing that token-wise operators would notice.
_SHORT: Final = 64

_OWN_MEMORY: Final = (Traffic.KV, Traffic.STATE)

_FORMS: Final = MappingProxyType(
    {
        "decode": (Group(count=1, q_len=1, context=_SHORT),),
        "prefill": (Group(count=1, q_len=2, context=_SHORT),),
        "mixed": (
            Group(count=1, q_len=1, context=_SHORT),
            Group(count=1, q_len=2, context=_SHORT),
        ),
    }
)


@dataclass(slots=True, kw_only=True)
class ServeDevice:
    """One rank of one replica: its device, its share of the model, its formats.

    `draws` gives the routing of a number of tokens.
    """

    device: Device
    model: Model
    formats: StepFormats
    draws: Callable[[int], Draws]
    _runs: dict[object, Columns] = field(default_factory=dict)
    _names: dict[str, frozenset[str]] = field(default_factory=dict)
    _question: bytes = b""
    _thin: Model = field(init=False)
    _copies: int = 1
    _scratch: Device = field(init=False)

    def __post_init__(self) -> None:
        """Hash what all runs share; layers that are equal become one, which graphs build faster."""
        device = self.device
        # Columns are remembered on disk, the kernels behind them within the process only.
        self._scratch = replace(device, memo=Scratch())
        one_of: dict[Layer, Layer] = {}
        layers = tuple(one_of.setdefault(layer, layer) for layer in self.model.layers)
        self.model = replace(self.model, layers=layers)
        self._question = key_of(
            device.gpu.fingerprint(), device.engine, self.model, self.formats, self.draws(_SHORT)
        )
        few = len(self.draws(_SHORT)) or 1
        if len(one_of) == 1 and len(layers) % few == 0:
            thin = replace(self.model, layers=layers[:few])
            if next_norms(thin, few) == next_norms(self.model, 1):
                self._thin, self._copies = thin, len(layers) // few
                return
        self._thin = self.model

    @property
    def mixes(self) -> bool:
        """Tell whether a chunk and decodes share one attention kernel."""
        engine, target = self.device.engine, self.device.gpu.target()
        return (
            engine.prefill is PrefillKernel.FLASH_ATTENTION
            and engine.decode is DecodeKernel.FLASH_ATTENTION
            and not target.bulk_copy
        )

    def host(self, sequences: int) -> Columns:
        """Return what the host adds to a step."""
        columns = np.zeros(len(COLUMNS))
        columns[COLUMNS.index("host")] = host_ps(self.device.engine, sequences)
        return columns

    def tokens(self, rows: int, form: str) -> Columns:
        """Return the token-wise operators of `rows` tokens; `form` is decode, prefill or mixed."""
        seen = self._seen_by_tokens(form)
        # Where the same operators see tokens in all forms, they are the same.
        alike = next(other for other in _FORMS if self._seen_by_tokens(other) == seen)
        groups = _FORMS[alike]
        padded = max(rows, sum(group.tokens for group in groups))
        return self._remembered(
            ("tokens", padded, alike), lambda: self._tokens(groups, padded, seen)
        )

    def _seen_by_tokens(self, form: str) -> frozenset[str]:
        if form not in self._names:
            self._names[form] = token_wise_names(self.model, _FORMS[form], self.formats)
        return self._names[form]

    def _tokens(self, groups: Sequence[Group], rows: int, seen: frozenset[str]) -> Columns:
        graph = self._graph(groups, rows, self._thin)
        l2_bytes = self.device.gpu.spec.l2_bytes
        if _most_activations(graph) <= l2_bytes * _SMALL_SHARE:
            return self._alone(graph, self._scratch, lambda name: _among(name, seen))
        return self._in_turn(graph, lambda name: _among(name, seen))

    def _in_turn(self, graph: StepGraph, wanted: Callable[[str], bool]) -> Columns:
        """Return the wanted operators, each on what those before it left in L2.

        A kind of layer runs twice: what the first run leaves, of larger requests, the second finds.
        Kernels are chosen by larger requests, too, which rank them alike.
        """
        outlives = live_out(graph)
        known: dict[int, Columns] = {}
        total = np.zeros(len(COLUMNS))
        l2 = EMPTY_L2
        rough = self._rough()
        for block in graph.blocks[:-1]:
            kind = id(block.operators)
            if kind not in known:
                fused = fuse(block.operators, self.device.engine.fusions, outlives)
                _, l2 = run_block(fused, rough, l2)
                sums, l2 = run_block(fused, rough, l2, on=self._scratch)
                known[kind] = self._columns(op for name, op in sums.items() if wanted(name))
            total += self._times(block) * known[kind]
        return total

    def _times(self, block: Block) -> int:
        """Return for how many blocks of the model one of the thin model stands."""
        return 1 if block.index < 0 else self._copies

    def head(self, rows: int) -> Columns:
        """Return the head of `rows` sequences."""
        return self._remembered(("head", rows), lambda: self._head(rows))

    def _head(self, rows: int) -> Columns:
        graph = self._graph([Group(count=rows, q_len=1, context=_SHORT)], rows, self._thin)
        step = run_step(replace(graph, blocks=graph.blocks[-1:]), self._scratch)
        return self._columns(step.operators.values())

    def sequences(
        self, groups: tuple[Group, ...], *, beside: bool = False, rough: bool = False
    ) -> Columns:
        """Return the operators that see sequences.

        `beside` is how they are beside the others (decodes beside prompts, or the reverse); `rough`
        simulates larger requests, which changes a kernel by 1 to 3 % and takes a third of the time.
        """
        alone = _form_of(groups)
        # Where the same operators see tokens in both forms, the others are the same, too.
        form = "mixed" if beside else alone
        elsewhere = self._seen_by_tokens(form)
        changes = elsewhere != self._seen_by_tokens(alone)
        question = ("sequences", groups, changes, rough)
        device = self._rough() if rough else self._scratch
        return self._remembered(question, lambda: self._sequences(groups, device, elsewhere))

    def _sequences(
        self, groups: tuple[Group, ...], device: Device, elsewhere: frozenset[str]
    ) -> Columns:
        graph = self._graph(groups, None, self._thin)
        return self._alone(graph, device, lambda name: not _among(name, elsewhere))

    def _alone(self, graph: StepGraph, device: Device, wanted: Callable[[str], bool]) -> Columns:
        """Return the wanted operators of all blocks but the head, each kind of block run once."""
        times: Counter[int] = Counter()
        for block in graph.blocks[:-1]:
            times[id(block.operators)] += self._times(block)
        blocks = {id(block.operators): block for block in graph.blocks[:-1]}
        outlives = live_out(graph)
        total = np.zeros(len(COLUMNS))
        for kind, block in blocks.items():
            fused = fuse(block.operators, device.engine.fusions, outlives)
            ops = (op for op in fused if wanted(op.name))
            sums = list(_runs_alone(ops, device))
            total += times[kind] * self._columns(op for op, _ in sums)
            total += times[kind] * self._written_later(sum(size for _, size in sums))
        return total

    def _written_later(self, size_bytes: int) -> Columns:
        """Return what dirty bytes cost that leave L2 while later operators stream their weights."""
        spec = self.device.gpu.spec
        columns = np.zeros(len(COLUMNS))
        of_a_channel = ChannelTiming.of(spec).write_ps_per_byte
        time_ps = size_bytes * of_a_channel / spec.pseudo_channels
        columns[COLUMNS.index("hbm_bandwidth")] = float(time_ps)
        columns[COLUMNS.index("hbm_bytes")] = size_bytes
        return columns

    def whole(self, groups: tuple[Group, ...], rows: int) -> Columns:
        """Return a whole step of exactly these groups, run as one."""
        return self._remembered(("whole", groups, rows), lambda: self._whole(groups, rows))

    def _whole(self, groups: tuple[Group, ...], rows: int) -> Columns:
        step = run_step(self._graph(groups, rows, self.model), self.device)
        sequences = sum(group.count for group in groups)
        return self._columns(step.operators.values()) + self.host(sequences)

    def _graph(self, groups: Sequence[Group], rows: int | None, model: Model) -> StepGraph:
        tokens = sum(group.tokens for group in groups) if rows is None else rows
        return build_mixed_step(
            model,
            groups,
            self.formats,
            padded_tokens=rows,
            draws=self.draws(tokens),
        )

    def _rough(self) -> Device:
        gpu = self.device.gpu
        return replace(self._scratch, gpu=replace(gpu, granule_scale=gpu.granule_scale * _COARSER))

    def _columns(self, operators: Iterable[OperatorSum]) -> Columns:
        """Return operators as picoseconds by cause, HBM bytes and FLOP."""
        sms = self.device.gpu.spec.sm_count
        gap = launch_gap_ps(self.device)
        causes: Counter[str] = Counter()
        hbm = flop = 0
        for op in operators:
            causes.update(op.sm_ps)
            causes["launch"] += op.runs * gap * sms
            hbm += sum(size for (_, level, _), size in op.traffic.items() if level == "hbm")
            flop += op.flop
        return np.array([*(causes[cause] / sms for cause in CAUSES), hbm, flop], dtype=float)

    def _remembered(self, question: object, answer: Callable[[], Columns]) -> Columns:
        if question not in self._runs:
            key = key_of("serve", self._question, question)
            known = self.device.memo.get(key)
            if not isinstance(known, np.ndarray):
                known = answer()
                self.device.memo.put(key, known)
            self._runs[question] = known
        return self._runs[question]


def _most_activations(graph: StepGraph) -> int:
    """Return the most bytes of activations that one operator of the layers reads and writes."""
    return max(
        sum(
            tensor.size_bytes
            for tensor in (*op.reads(), *op.writes())
            if tensor.traffic is Traffic.ACTIVATIONS
        )
        for block in graph.blocks[:-1]
        for op in block.operators
    )


def _form_of(groups: Iterable[Group]) -> str:
    kinds = {group.q_len == 1 for group in groups}
    return "mixed" if len(kinds) > 1 else "decode" if True in kinds else "prefill"


def _among(name: str, names: frozenset[str]) -> bool:
    """Tell whether an operator, or all that were fused into it, are among `names`."""
    return name in names or all(part in names for part in name.split("+"))


def _runs_alone(operators: Iterable[Operator], device: Device) -> Iterator[tuple[OperatorSum, int]]:
    """Yield runs of operators, what each reads fresh in L2, and the dirty bytes that it leaves.

    Those of caches and states, that is: activations are mostly dead before they leave L2.
    """
    for op in operators:
        l2 = warm_activations(op, device.gpu.spec.l2_bytes)
        total = OperatorSum(part=op.part)
        for kernel in device.tune(op):
            run = device.run(kernel, l2)
            total.add(summed(kernel, run))
            l2 = run.l2
        yield total, sum(r.dirty_bytes for r in l2 if r.traffic in _OWN_MEMORY)
