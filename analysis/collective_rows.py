"""From a row of a measured table of collectives to a prediction.

`collective_us` takes rows of `allreduce.csv`, `alltoall_us` those of `alltoall.csv`. Both return
microseconds, and raise InputError for a framework or an operation that nothing here models, for a
chip without `[link]`, and for ranks that no way of that chip joins.

What the simulator does not know of a benchmark stands here: how it launches, what its host takes,
and in which machine its GPUs were.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from sim.errors import InputError, Problem
from sim.hardware.channel_check import efficiencies
from sim.hardware.collective_library import LIBRARIES, Library, run_library
from sim.hardware.link import CollectiveRun, link_of
from sim.hardware.link_spec import LinkSpec, NetworkTier, SharedTier
from sim.hardware.spec import ChipSpec
from sim.kernel.collective import Collective, Op
from sim.units import PS_PER_S, PS_PER_US

GB_PER_S: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How one benchmark runs a library.

    `graph` replays a CUDA graph; otherwise kernels come from a stream. `host_us` is the least a
    call takes by GPU (the host is the bottleneck until the device is; median of the rows up to
    64 KiB), and `fallback_us` what a call takes more that ends in another library than its own.
    `extra_us` comes on top. With `copies` the input is copied into a registered buffer first;
    `kernel_only` times the kernel alone.
    """

    library: Library
    graph: bool = False
    kernel_only: bool = False
    copies: bool = False
    host_us: Mapping[str, float] = field(default_factory=dict)
    fallback_us: float = 0.0
    extra_us: float = 0.0


NOWHERE: Final = "anywhere else"
"""The key of `host_us` for GPUs that nobody measured: a recent host."""
NCCL: Final = LIBRARIES["nccl"]
VLLM_HOST: Final = MappingProxyType({"A100-SXM-80G": 44.0, "L40S": 43.0, NOWHERE: 20.5})
SGLANG_HOST: Final = MappingProxyType({"A100-SXM-80G": 41.0, "L40S": 40.0, NOWHERE: 30.0})
SKEW: Final = MappingProxyType(
    {
        "A100-80G-DGX": 45.0,
        "A100-PCIe-80G-pairNVL": 58.0,
        "H100-DGX": 37.0,
        "H100-pairNVL": 28.0,
    }
)
"""Kernel times of all-reduces that contain the wait for the last rank: median of 1 MB and less."""

BENCHES: Final = (
    ("nccl-tests-", Bench(library=NCCL, extra_us=18.0)),
    ("nccl-", Bench(library=NCCL)),
    ("torch-nccl(kineto,", Bench(library=NCCL, kernel_only=True, host_us=SKEW)),
    ("vllm-0.14.0:vLLM_custom_graph", Bench(library=LIBRARIES["vllm_v0"], graph=True)),
    (":vLLM_custom_graph", Bench(library=LIBRARIES["vllm"], graph=True)),
    (
        "vllm-0.14.0:vLLM_custom_eager",
        Bench(library=LIBRARIES["vllm_v0"], copies=True, host_us=VLLM_HOST),
    ),
    (
        ":vLLM_custom_eager",
        Bench(library=LIBRARIES["vllm"], copies=True, host_us=VLLM_HOST, fallback_us=18.0),
    ),
    (":SGLang_CustomAllReduce_graph", Bench(library=LIBRARIES["sglang"], graph=True)),
    (
        ":SGLang_CustomAllReduce_eager",
        Bench(library=LIBRARIES["sglang"], copies=True, host_us=SGLANG_HOST, fallback_us=45.0),
    ),
    ("trtllm-1.0.0:TRTLLM", Bench(library=LIBRARIES["trtllm_v1"], graph=True)),
    (":TRTLLM", Bench(library=LIBRARIES["trtllm"], graph=True)),
)
"""By the first part of a framework's name that is found."""


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
    copied = 2 * what.size_bytes if bench.copies else 0
    copy_us = copied / float(chip.hbm_bytes_per_s * efficiencies(chip).copy) * PS_PER_S / PS_PER_US
    return max(_host_us(bench, row, run), run.time_ps / PS_PER_US + copy_us) + bench.extra_us


def _host_us(bench: Bench, row: Mapping[str, str], run: CollectiveRun) -> float:
    if bench.kernel_only and row["op"] != Op.ALL_REDUCE:
        return 0.0
    fallback = bench.fallback_us if run.name not in ("one-shot", "two-shot") else 0.0
    return bench.host_us.get(row["gpu"], bench.host_us.get(NOWHERE, 0.0)) + fallback


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


_BRIDGE: Final = NetworkTier(bytes_per_s=5 * GB_PER_S // 2, latency_ps=6 * PS_PER_US)
MACHINES: Final[Mapping[str, Machine]] = MappingProxyType(
    {
        # Fitted to the rows of more than one node: 2.2 to 7.8 GB/s a GPU, far below its adapters.
        "A100-80G-DGX": Machine(
            network=NetworkTier(bytes_per_s=9 * GB_PER_S // 2, latency_ps=15 * PS_PER_US)
        ),
        # Fitted to send_recv between two nodes: 32 GB/s of one 400 Gbit/s adapter.
        "H100-DGX": Machine(
            network=NetworkTier(bytes_per_s=32 * GB_PER_S, latency_ps=12 * PS_PER_US)
        ),
        # Two GPUs under an NVLink bridge of 600 GB/s (NVIDIA datasheets of the PCIe cards); across
        # pairs, and between nodes, fitted to the rows of 4 GPUs and to send_recv.
        "A100-PCIe-80G-pairNVL": Machine(
            ranks=2,
            bytes_per_s=300 * GB_PER_S,
            shared=(SharedTier(ranks=4, bytes_per_s=94 * GB_PER_S, latency_ps=1_400_000),),
            network=_BRIDGE,
        ),
        "H100-pairNVL": Machine(
            ranks=2,
            bytes_per_s=300 * GB_PER_S,
            shared=(SharedTier(ranks=4, bytes_per_s=193 * GB_PER_S, latency_ps=1_400_000),),
            network=_BRIDGE,
        ),
        # A 400 Gbit/s adapter for each GPU (DGX H100 datasheet; DeepEP README: ConnectX-7).
        "H100-SXM": Machine(
            network=NetworkTier(bytes_per_s=50 * GB_PER_S, latency_ps=7 * PS_PER_US // 2)
        ),
        # H800: NVLink of 400 GB/s in both directions, 160 GB/s reached (DeepEP README).
        "H800-SXM": Machine(
            bytes_per_s=200 * GB_PER_S,
            network=NetworkTier(bytes_per_s=50 * GB_PER_S, latency_ps=7 * PS_PER_US // 2),
        ),
    }
)
"""What the tables' names of machines say beyond the chip."""


def in_machine(chip: ChipSpec, gpu: str) -> ChipSpec:
    """Return `chip` with the links of the machine that a table calls `gpu`."""
    machine = MACHINES.get(gpu)
    return chip if machine is None else replace(chip, link=machine.of(link_of(chip)))
