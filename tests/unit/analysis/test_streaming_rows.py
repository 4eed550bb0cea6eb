"""`analysis.validate.rows.streaming`: what rows of norm_activation.csv timed."""

from dataclasses import replace

import pytest

from analysis.validate.case import KernelCase
from analysis.validate.predict import Plan, simulate
from analysis.validate.rows.streaming import streaming_case
from sim.hardware.spec import load_chip
from sim.resources import chip_dirs

ROW = {
    "source": "vidur", "gpu": "A100-80G(vidur)", "framework": "sarathi/Llama-2-7b-hf",
    "op": "silu_mul", "dtype": "fp16", "tokens": "64", "hidden": "11008",
    "bytes": str(64 * 11008 * 6), "time_us": "8",
}  # fmt: skip
QUANTISE = {
    **ROW, "source": "aic-0.12.0", "framework": "trtllm-1.3.0rc20", "op": "fp8_static_quant",
    "bytes": str(64 * 11008 * 3),
}  # fmt: skip


def time_us(case: KernelCase, chip: str) -> float:
    """Return the predicted time of a case."""
    plan = Plan(load_chip(chip, chip_dirs()), case)
    return float(simulate({plan})[plan])


def test_vidurs_clock_cuts_half_a_microsecond_in_the_mean() -> None:
    case = streaming_case(ROW)
    whole = time_us(replace(case, whole_us=False), "a100-sxm-80gb")
    assert whole - time_us(case, "a100-sxm-80gb") == pytest.approx(0.5)


def test_kernels_start_early_on_architectures_that_can_whatever_the_chips_name() -> None:
    case = streaming_case(QUANTISE)
    waits = replace(case, early_launch=False)
    for chip in ("h100-sxm", "h20", "gb200"):
        assert time_us(case, chip) < time_us(waits, chip)
    for chip in ("l40s", "a100-sxm-80gb"):
        assert time_us(case, chip) == time_us(waits, chip)


def test_a_model_without_a_gate_runs_gelu_on_half_of_what_a_gated_one_reads() -> None:
    gated, plain = (
        streaming_case({**ROW, "framework": f"sarathi/{name}"}) for name in ("Qwen-72B", "phi-2")
    )
    assert plain.moved_bytes() == pytest.approx(gated.moved_bytes() * 2 / 3)


def test_a_parallel_block_adds_in_two_kernels() -> None:
    row = {**ROW, "op": "add", "framework": "sarathi/phi-2"}
    assert len(streaming_case(row).operators) == 2


def test_a_profiled_kernel_fetches_its_code_from_memory() -> None:
    """Five trips of setup cost what HBM is slower than L2 more than the same trips in a graph."""
    chip = load_chip("a100-sxm-80gb", chip_dirs())
    case = replace(streaming_case(ROW), whole_us=False)
    kernels = case.engine.row_kernels
    assert kernels is not None
    slow = replace(
        case, engine=replace(case.engine, row_kernels=replace(kernels, setup_round_trips=5))
    )
    more_us = time_us(slow, chip.name) - time_us(case, chip.name)
    assert more_us == pytest.approx(5 * chip.hbm_latency_ps / 1e6, rel=0.01)
