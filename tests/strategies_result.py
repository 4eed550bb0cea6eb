"""Synthetic results for tests of writing, answering and drawing: plausible, never simulated.

The arithmetic is that of a roofline with a few ramps, so that memory, compute, launch and
capacity each rule somewhere; the absolute numbers mean nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sim.measure.causes import CAUSES
from sim.run.answer import answer
from sim.run.result import (
    SCHEMA_VERSION,
    ChipInfo,
    ContestantInfo,
    MemoryNeed,
    OperatorRow,
    PointResult,
    Result,
    TrafficRow,
)

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
PEAK_BYTES_PER_S = 3_350_000_000_000
PEAK_FLOP_PER_S = 989_000_000_000_000
GB = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """The few facts of a contestant that shape its curves."""

    name: str
    family: str = "dense"
    layers: int = 64
    fixed_bytes: int = 61 * GB
    expert_bytes: int = 0
    experts: int = 128
    top_k: int = 8
    active: int = 32_000_000_000
    kv_per_token: int = 262_144
    window: int = 10**9
    state_bytes: int = 0
    weight_format: str = "bf16"


DENSE = Toy(name="Qwen3-32B dense", fixed_bytes=32 * GB, weight_format="fp8", kv_per_token=131_072)
MOE = Toy(
    name="Qwen3-30B-A3B MoE",
    family="MoE",
    layers=48,
    fixed_bytes=3 * GB,
    expert_bytes=58 * GB,
    active=3_300_000_000,
    kv_per_token=98_304,
)
SSM = Toy(
    name="Falcon-Mamba-7B",
    family="SSM",
    fixed_bytes=15 * GB,
    active=7_300_000_000,
    kv_per_token=0,
    state_bytes=35_000_000,
)
WINDOW = Toy(
    name="Mistral-7B sliding window 4k",
    family="sliding window",
    layers=32,
    fixed_bytes=14 * GB,
    active=7_200_000_000,
    kv_per_token=131_072,
    window=4096,
)
INT4 = Toy(
    name="Qwen3-32B int4 AWQ", fixed_bytes=17 * GB, weight_format="int4", kv_per_token=65_536
)
LONG = Toy(
    name="An-Extremely-Long-Contestant-Name-70B-Instruct with fp8 weights and fp8 KV cache",
    layers=80,
    fixed_bytes=70 * GB,
    active=70_000_000_000,
    weight_format="fp8",
    kv_per_token=163_840,
)
TOYS = (DENSE, MOE, SSM, WINDOW, INT4, LONG)

CHIP = ChipInfo(
    name="h100_sxm",
    title="NVIDIA H100 SXM5 80 GB",
    peak_bytes_per_s=PEAK_BYTES_PER_S,
    memory_bytes=80 * GB,
    l2_bytes=50 * 2**20,
    sm_count=132,
    tensor_flop_per_s={"bf16": PEAK_FLOP_PER_S, "fp16": PEAK_FLOP_PER_S, "fp8": 1979 * 10**12},
    notes=("Clock throttling under power limits is not simulated.",),
)


def info(toy: Toy) -> ContestantInfo:
    """Return the card of a toy contestant."""
    return ContestantInfo(
        name=toy.name,
        model=toy.name.split()[0].lower(),
        family=toy.family,
        weight_format=toy.weight_format,
        kv_format="bf16",
        parameters=(toy.fixed_bytes + toy.expert_bytes) // 2,
        active_parameters=toy.active,
        weights_bytes=toy.fixed_bytes + toy.expert_bytes,
        kv_bytes_per_token=toy.kv_per_token,
        notes=(f"{toy.family}: multi-token prediction heads are not simulated.",),
    )


def need(toy: Toy, batch: int, context: int) -> MemoryNeed:
    """Return what a toy needs on the chip."""
    return MemoryNeed(
        weights_bytes=toy.fixed_bytes + toy.expert_bytes,
        kv_bytes=toy.kv_per_token * min(context, toy.window) * batch,
        state_bytes=toy.state_bytes * batch,
        activations_bytes=200_000_000 + 1_000_000 * batch,
        capacity_bytes=CHIP.memory_bytes,
    )


def traffic_bytes(toy: Toy, memory: MemoryNeed, batch: int) -> dict[tuple[str, str], int]:
    """Return HBM bytes of a step by class and direction."""
    hit = 1 - (1 - toy.top_k / toy.experts) ** batch
    rows = {
        ("weights", "read"): toy.fixed_bytes,
        ("experts", "read"): int(toy.expert_bytes * hit),
        ("kv", "read"): memory.kv_bytes,
        ("kv", "write"): toy.kv_per_token * batch,
        ("state", "read"): memory.state_bytes,
        ("state", "write"): memory.state_bytes,
        ("activations", "read"): toy.layers * batch * 120_000,
        ("activations", "write"): toy.layers * batch * 60_000,
    }
    return {key: size for key, size in rows.items() if size}


def ledger(toy: Toy, memory_ps: int, compute_ps: int) -> dict[str, int]:
    """Return a ledger whose causes rule where they would: ramps at small, compute at large."""
    exposed_ps = max(0, memory_ps - compute_ps // 2)
    return dict.fromkeys(CAUSES, 0) | {
        "tensor": compute_ps,
        "vector": compute_ps // 6 + toy.layers * 1_500_000,
        "sfu": compute_ps // 20,
        "sync": compute_ps // 10 + toy.layers * 800_000,
        "hbm_bandwidth": exposed_ps * 22 // 25,
        "hbm_latency": exposed_ps // 12 + toy.layers * 6_000_000,
        "l2_bandwidth": exposed_ps // 60,
        "l2_latency": toy.layers * 1_000_000,
        "launch": toy.layers * 11_000_000,
        "tail": exposed_ps // 20 + compute_ps // 8,
        "host": 120_000_000,
    }


def operators(toy: Toy, rows: dict[tuple[str, str], int], flop: int) -> tuple[OperatorRow, ...]:
    """Return a handful of operators, among them one without FLOP and one without HBM bytes."""
    kv, state = rows.get(("kv", "read"), 0), rows.get(("state", "read"), 0)
    experts, weights = rows.get(("experts", "read"), 0), toy.fixed_bytes
    dense = flop if not experts else flop // 4
    plan = [
        ("attention", "qkv_proj", weights // 5, dense // 5),
        ("attention", "out_proj", weights // 8, dense // 8),
        ("mlp", "gate_up_proj", weights * 2 // 5, dense * 2 // 5),
        ("mlp", "down_proj", weights // 5, dense // 5),
        ("head", "lm_head", weights // 20, dense // 20),
        ("attention", "rope", 0, 10_000_000),
        ("head", "embedding", 400_000, 0),
        ("attention", "decode_attention", kv, kv * 4),
        ("ssm", "state_update", state * 2, state * 3),
        ("moe", "experts_gate_up", experts * 2 // 3, flop // 2),
        ("moe", "experts_down", experts // 3, flop // 4),
    ]
    return tuple(
        OperatorRow(
            part=part,
            operator=name,
            kernel=f"{name}_64x64",
            runs=toy.layers,
            time_ps=max(size * 10**12 // PEAK_BYTES_PER_S, ops * 10**12 // PEAK_FLOP_PER_S) * 9 // 8
            + toy.layers * 4_000_000,
            flop=ops,
            hbm_bytes=size,
            l2_bytes=size * 2 + 4096,
            channel_imbalance=1.0,
            bound="hbm_bandwidth",
        )
        for part, name, size, ops in plan
        if size or part in ("attention", "head")
    )


def point(toy: Toy, batch: int, context: int) -> PointResult:
    """Return one synthetic point; empty if it does not fit."""
    memory = need(toy, batch, context)
    if not memory.fits:
        return PointResult(
            contestant=toy.name, batch=batch, context=context, memory=memory, step_ps=0,
            roofline_ps=0, tokens_per_s=0.0, mbu=0.0, mfu=0.0, flop=0,
            channel_imbalance=1.0, bound="", ledger_ps={}, traffic=(), operators=(),
        )  # fmt: skip
    rows = traffic_bytes(toy, memory, batch)
    moved = sum(rows.values())
    flop = 2 * toy.active * batch
    memory_ps = moved * 10**12 // PEAK_BYTES_PER_S
    compute_ps = flop * 10**12 // PEAK_FLOP_PER_S
    charged = ledger(toy, memory_ps, compute_ps)
    step_ps = sum(charged.values())
    classes = [
        TrafficRow(traffic=name, level="hbm", direction=direction, size_bytes=size)
        for (name, direction), size in rows.items()
    ]
    return PointResult(
        contestant=toy.name,
        batch=batch,
        context=context,
        memory=memory,
        step_ps=step_ps,
        roofline_ps=min(step_ps, max(memory_ps, compute_ps)),
        tokens_per_s=batch * 1e12 / step_ps,
        mbu=memory_ps / step_ps,
        mfu=compute_ps / step_ps,
        flop=flop,
        channel_imbalance=1.0,
        bound=max(charged, key=lambda cause: charged[cause]),
        ledger_ps=charged,
        traffic=tuple(classes + [replace(row, level="l2") for row in classes]),
        operators=operators(toy, rows, flop),
    )


def result(
    toys: Sequence[Toy] = (DENSE, MOE),
    batches: Sequence[int] = BATCHES,
    contexts: Sequence[int] = CONTEXTS,
    title: str = "Dense or mixture of experts on one H100?",
) -> Result:
    """Return a synthetic run of all combinations."""
    points = tuple(point(t, b, c) for t in toys for b in batches for c in contexts)
    cards = tuple(map(info, toys))
    return Result(
        schema_version=SCHEMA_VERSION,
        name="moe_vs_dense",
        title=title,
        version="0.1.0",
        seed=7,
        phase="decode",
        chip=CHIP,
        engine="vLLM",
        contestants=cards,
        batches=tuple(batches),
        contexts=tuple(contexts),
        points=points,
        answer=answer(title, points, cards, CHIP),
    )
