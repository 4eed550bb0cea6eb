"""The edge of L2 as chips show it: bandwidth and latency of a buffer that outgrows the cache.

Measured by te42kyfo/gpu-benches (@3088b333: gpu-l2-cache, gpu-latency) and aiconfigurator-core
0.12.0; phenomena 7, 9 and the L2 edge of docs/phenomena.md.
"""

import pytest

from analysis.l2_sweep import chase_ns, read_bandwidth
from analysis.validate.rows.attention import decode_case
from sim.hardware.spec import load_chip
from sim.resources import chip_dirs
from sim.run.memo import Memo

KIB = 1024
A100 = {
    25_600: 5376, 28_160: 5170, 33_792: 3622, 36_864: 3004, 40_448: 2462, 44_032: 2188,
    48_128: 2026, 52_736: 1946, 57_856: 1915, 69_632: 1886,
}  # fmt: skip


@pytest.mark.parametrize(("kib", "measured"), A100.items())
def test_a100_reads_fall_from_a_half_to_five_quarters_of_l2(kib: int, measured: float) -> None:
    """Both partitions keep what both sides read: 5.4 TB/s at 25 MiB, 2.2 at 43; within 12 %."""
    read, _ = read_bandwidth(load_chip("a100-sxm-80gb", chip_dirs()), kib * KIB)
    assert read == pytest.approx(measured, rel=0.12)


@pytest.mark.parametrize(
    ("kib", "measured"), [(36_864, 9477), (40_448, 9666), (63_488, 4464), (76_288, 4018)]
)
def test_h200_reads_fall_around_its_l2(kib: int, measured: float) -> None:
    """Below 40 MiB and from 62 on within 11 %; its edge lies a tenth higher than ours between."""
    read, _ = read_bandwidth(load_chip("h200-sxm", chip_dirs()), kib * KIB)
    assert read == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(
    ("kib", "measured"), [(83_456, 5251), (91_648, 5243), (120_832, 880), (132_608, 850)]
)
def test_l40_reads_fall_off_a_cliff(kib: int, measured: float) -> None:
    """One partition: 5.2 TB/s up to 90 MB, .85 from 120 on, where nothing is found; within 7 %."""
    read, found = read_bandwidth(load_chip("l40", chip_dirs()), kib * KIB)
    assert read == pytest.approx(measured, rel=0.07)
    assert found < 0.01 or found > 0.9


@pytest.mark.parametrize(
    ("kib", "cycles"),
    [(1_000, 265.5), (16_482, 265.5), (35_343, 475.4), (42_767, 475.1), (125_026, 649.9)],
)
def test_one_sm_of_an_h100_pcie_sees_near_far_and_memory(kib: int, cycles: float) -> None:
    """265 cycles in its own 25 MB, 475 in the other partition, 650 in HBM; within 1 %."""
    latency = chase_ns(load_chip("h100-pcie", chip_dirs()), kib * KIB)
    assert latency * 1.755 == pytest.approx(cycles, rel=0.01)


@pytest.mark.parametrize(
    ("context", "measured"), [(1024, 13.4), (2048, 15.7), (4096, 34.2), (8192, 56.0)]
)
def test_attention_on_h100_falls_off_l2_between_34_and_67_mb(context: int, measured: float) -> None:
    """32 sequences, one KV head: 2048 tokens are read from L2, 4096 from HBM; within 12 %.

    aiconfigurator-core 0.12.0, SGLang 0.5.14, FlashAttention-3, us.
    """
    row = {
        "source": "aic-0.12.0", "gpu": "H100-SXM", "framework": "sglang-0.5.14", "kernel": "fa3",
        "dtype_q": "bf16", "dtype_kv": "bf16", "batch": "32", "context": str(context),
        "n_q_heads": "8", "n_kv_heads": "1", "head_dim": "128", "window": "0",
    }  # fmt: skip
    predicted = decode_case(row).predicted(load_chip("h100-sxm", chip_dirs()), Memo(None))
    assert predicted == pytest.approx(measured, rel=0.12)
