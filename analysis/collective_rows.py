"""From a row of a measured table of collectives to a prediction.

`collective_us` takes rows of `allreduce.csv`, `alltoall_us` those of `alltoall.csv`. Both return
microseconds, and raise InputError for a framework or an operation that nothing here models, for a
chip without `[link]`, and for ranks that no way of that chip joins.

What the simulator does not know of a benchmark stands here: how it launches, what its host takes,
and in which machine its GPUs were.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from sim.errors import InputError, Problem
from sim.hardware.collective_library import LIBRARIES, Library, run_library
from sim.hardware.link import link_of
from sim.hardware.link_spec import LinkSpec, NetworkTier, SharedTier
from sim.hardware.spec import ChipSpec
from sim.kernel.collective import Collective, Op
from sim.units import PS_PER_S, PS_PER_US

GB_PER_S: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How one benchmark runs a library.

    `graph` replays a CUDA graph; otherwise kernels come from a stream. `extra_us` is what the
    benchmark takes besides, `host_us` the least it takes per call (the host is the bottleneck
    until the device is), `copies` if it copies the input into a registered buffer first, and
    `kernel_only` if only the kernel is timed.
    """

    library: Library
    graph: bool = False
    kernel_only: bool = False
    copies: bool = False
    host_us: float = 0.0
    extra_us: float = 0.0


BENCHES: Final = (
    ("nccl-tests-", Bench(library=LIBRARIES["nccl"], extra_us=18.0)),
    ("nccl-", Bench(library=LIBRARIES["nccl"])),
    ("torch-nccl(kineto,", Bench(library=LIBRARIES["nccl"], kernel_only=True)),
    ("vllm-0.14.0:vLLM_custom_graph", Bench(library=LIBRARIES["vllm_v0"], graph=True)),
    ("vllm-0.14.0:vLLM_custom_eager", Bench(library=LIBRARIES["vllm_v0"], copies=True, host_us=44)),
    ("vllm-0.24.0:vLLM_custom_eager", Bench(library=LIBRARIES["vllm"], copies=True, host_us=20)),
    (":vLLM_custom_graph", Bench(library=LIBRARIES["vllm"], graph=True)),
    (":vLLM_custom_eager", Bench(library=LIBRARIES["vllm"], copies=True, host_us=43)),
    (":SGLang_CustomAllReduce_graph", Bench(library=LIBRARIES["sglang"], graph=True)),
    (
        "sglang-0.5.10:SGLang_CustomAllReduce_eager",
        Bench(library=LIBRARIES["sglang"], copies=True, host_us=41),
    ),
    (
        ":SGLang_CustomAllReduce_eager",
        Bench(library=LIBRARIES["sglang"], copies=True, host_us=30),
    ),
    (":TRTLLM", Bench(library=LIBRARIES["trtllm"], graph=True)),
)


def collective_us(row: Mapping[str, str], chip: ChipSpec) -> float:
    """Return the predicted time of a row of `allreduce.csv` or of a plain all-to-all, in us.

    Raises InputError as the module says.
    """
    bench = _bench(row["framework"])
    what = _collective(row)
    chip = in_machine(chip, row["gpu"])
    gap = chip.cuda_graph_gap_ps if bench.graph else chip.stream_gap_ps
    launch_ps = 0 if bench.kernel_only else gap + chip.kernel_start_ps
    run = run_library(chip, what, bench.library, launch_ps=launch_ps)
    copy = 2 * what.size_bytes / (chip.hbm_bytes_per_s * chip.copy_efficiency) if bench.copies else 0
    device_us = run.time_ps / PS_PER_US + float(copy) * PS_PER_S / PS_PER_US
    return max(bench.host_us, device_us) + bench.extra_us


def _bench(framework: str) -> Bench:
    for name, bench in BENCHES:
        if name in framework:
            return bench
    raise _unknown("framework", framework)


def _collective(row: Mapping[str, str]) -> Collective:
    if row["op"] not in set(Op):
        raise _unknown("op", row["op"])
    ranks = int(row["gpus"])
    shown = re.search(r"(\d+)/node", row["framework"])
    per_node = min(ranks, int(shown[1])) if shown else ranks
    size = int(float(row["bytes"]))
    return Collective(op=Op(row["op"]), ranks=ranks, per_node=per_node, size_bytes=size)


def _unknown(column: str, value: str) -> InputError:
    return InputError(
        [Problem(file="row", key=column, value=value, message="is not modelled as a collective")]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What of a machine differs from the chip's own `[link]`."""

    ranks: int | None = None
    bytes_per_s: int | None = None
    shared: tuple[SharedTier, ...] = ()
    network: NetworkTier | None = None

    def of(self, link: LinkSpec) -> LinkSpec:
        """Return the link of a GPU in this machine."""
        return replace(
            link,
            ranks=self.ranks or link.ranks,
            bytes_per_s=self.bytes_per_s or link.bytes_per_s,
            multicast=link.multicast and self.ranks is None,
            shared=self.shared or link.shared,
            network=self.network or link.network,
        )


MACHINES: Final[Mapping[str, Machine]] = MappingProxyType({})


def in_machine(chip: ChipSpec, gpu: str) -> ChipSpec:
    """Return `chip` with the links of the machine that a table calls `gpu`."""
    machine = MACHINES.get(gpu)
    return chip if machine is None else replace(chip, link=machine.of(link_of(chip)))
