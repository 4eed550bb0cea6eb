"""From a row of a measured table of expert exchanges to a prediction, see `collective_rows`."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from analysis.collective_rows import collective_us, in_machine
from sim.errors import InputError, Problem
from sim.hardware.expert_exchange import ExpertKernel, Tokens, run_experts
from sim.hardware.link import Pace
from sim.hardware.spec import ChipSpec
from sim.kernel.collective import Op
from sim.units import PS_PER_NS, PS_PER_US

NODE: Final = 8
"""GPUs of a node in all tables of expert exchanges (HGX H100 and H800)."""
FP8: Final = Fraction(33, 32)
"""A byte and a four-byte scale for 128 values (DeepEP's low-latency dispatch)."""
BF16: Final = Fraction(2)


def _low_latency(
    rate: str, *, value_bytes: Fraction, start_us: int, expert_ns: int, token_ns: int = 0
) -> ExpertKernel:
    return ExpertKernel(
        per_rank=False,
        value_bytes=value_bytes,
        pace=Pace(rate=Fraction(rate)),
        start_ps=start_us * PS_PER_US,
        expert_ps=expert_ns * PS_PER_NS,
        token_ps=token_ns * PS_PER_NS,
    )


def _throughput(rate: str, *, value_bytes: Fraction, start_us: int, token_ns: int) -> ExpertKernel:
    return ExpertKernel(
        per_rank=True,
        value_bytes=value_bytes,
        pace=Pace(rate=Fraction(rate)),
        start_ps=start_us * PS_PER_US,
        expert_ps=0,
        token_ps=token_ns * PS_PER_NS,
        senders=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """How one benchmark dispatches and combines; a call takes the host `host_us` at least."""

    dispatch: ExpertKernel
    combine: ExpertKernel
    host_us: tuple[float, float] = (0.0, 0.0)


_FP8_DISPATCH: Final = _low_latency("0.8", value_bytes=FP8, start_us=8, expert_ns=14, token_ns=2350)
_BF16_COMBINE: Final = _low_latency("0.6", value_bytes=BF16, start_us=9, expert_ns=8)

EXCHANGES: Final[Mapping[str, Exchange]] = MappingProxyType(
    {
        "deepep-ll": Exchange(dispatch=_FP8_DISPATCH, combine=_BF16_COMBINE),
        ":deepep_ll": Exchange(dispatch=_FP8_DISPATCH, combine=_BF16_COMBINE),
        ":trtllm_deepep_ll": Exchange(
            dispatch=_low_latency("0.5", value_bytes=FP8, start_us=8, expert_ns=14),
            combine=_low_latency("0.8", value_bytes=BF16, start_us=9, expert_ns=8),
            host_us=(71.0, 30.0),
        ),
        "vllm-0.24.0:deepep_ll": Exchange(
            dispatch=_low_latency("0.4", value_bytes=BF16, start_us=8, expert_ns=14),
            combine=_low_latency("0.5", value_bytes=BF16, start_us=9, expert_ns=8),
            host_us=(65.0, 50.0),
        ),
        ":trtllm_deepep_ht": Exchange(
            dispatch=_throughput("1", value_bytes=FP8, start_us=65, token_ns=100),
            combine=_throughput("1", value_bytes=BF16, start_us=50, token_ns=140),
        ),
        ":deepep_ht": Exchange(
            dispatch=_throughput("0.8", value_bytes=BF16, start_us=65, token_ns=175),
            combine=_throughput("0.6", value_bytes=BF16, start_us=70, token_ns=220),
            host_us=(270.0, 0.0),
        ),
        ":deepep_v2_context": Exchange(
            dispatch=_throughput("0.7", value_bytes=BF16, start_us=65, token_ns=160),
            combine=_throughput("0.33", value_bytes=BF16, start_us=70, token_ns=240),
            host_us=(390.0, 150.0),
        ),
        ":deepep_v2_generation": Exchange(
            dispatch=_throughput("0.7", value_bytes=BF16, start_us=65, token_ns=160),
            combine=_throughput("0.33", value_bytes=BF16, start_us=70, token_ns=240),
            host_us=(231.0, 172.0),
        ),
    }
)
"""By the longest part of a framework's name; fitted to rows of H100 SXM (docs/decisions/0020)."""


def alltoall_us(row: Mapping[str, str], chip: ChipSpec) -> float:
    """Return the predicted time of a row of `alltoall.csv`, in us.

    Raises InputError as `collective_us` does. See `measured_us` for what to compare it with.
    """
    if row["op"] not in (Op.DISPATCH, Op.COMBINE):
        return collective_us(row, chip)
    exchange = _exchange(row["framework"])
    op = Op(row["op"])
    ranks = int(row["gpus"])
    what = Tokens(
        op=op,
        ranks=ranks,
        per_node=min(ranks, NODE),
        tokens=int(row["tokens"]),
        hidden=int(row["hidden"]),
        topk=int(row["topk"]),
        n_experts=int(row["n_experts"]),
    )
    kernel = exchange.dispatch if op is Op.DISPATCH else exchange.combine
    run = run_experts(in_machine(chip, row["gpu"]), what, kernel, launch_ps=0)
    return max(exchange.host_us[op is Op.COMBINE], run.time_ps / PS_PER_US)


def measured_us(row: Mapping[str, str]) -> float:
    """Return the time that a row of either table was measured, in us.

    The dispatch and combine rows of TensorRT-LLM and vLLM hold nanoseconds in `time_us`: 128 tokens
    of DeepSeek-V3 would otherwise take 72 ms, and DeepEP's own README says 77 us.
    """
    time = float(row["time_us"])
    nanoseconds = row["op"] in (Op.DISPATCH, Op.COMBINE) and row["framework"].startswith(
        ("trtllm-", "vllm-")
    )
    return time / 1000 if nanoseconds else time


def _exchange(framework: str) -> Exchange:
    found = [name for name in EXCHANGES if name in framework]
    if not found:
        raise InputError(
            [
                Problem(
                    file="row",
                    key="framework",
                    value=framework,
                    message="is not modelled as an exchange of experts",
                )
            ]
        )
    return EXCHANGES[max(found, key=len)]
