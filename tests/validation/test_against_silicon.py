"""Predicted against measured times, with pinned bounds: a change that worsens them fails."""

import csv
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.predict import DecodeAttentionRow, decode_attention_us, decode_step_ms, gemm_us
from sim.hardware.spec import ChipSpec, load_chip
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.model.importer import load_model
from sim.resources import chip_dirs, engine_dirs, model_dirs
from sim.scenario.engines import load_engine

DATA = Path(__file__).parent / "data"
# Every row is judged by hand with STEP = 1; CI takes every fifth, which keeps it under a minute.
STEP = 5


def chip(name: str) -> ChipSpec:
    """Return the chip of a measured table's name."""
    return load_chip(name, chip_dirs())


def rows(table: str, **wanted: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a table with the wanted values."""
    with (DATA / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if all(row[key] == value for key, value in wanted.items()):
                yield row


def spread(errors: list[float]) -> tuple[float, float]:
    """Return the median and the 90th percentile of absolute relative errors."""
    size = sorted(abs(error) for error in errors)
    return statistics.median(size), size[int(0.9 * len(size))]


@pytest.mark.parametrize(
    ("gpu", "median", "p90"), [("H100-SXM", 0.06, 0.15), ("A100-SXM-80G", 0.08, 0.17)]
)
def test_small_bf16_gemms_with_cold_weights_are_predicted(
    gpu: str, median: float, p90: float
) -> None:
    """Weight-bound GEMMs (m up to 64) are within the pinned error of the fastest engine."""
    errors = [
        gemm_us(chip(gpu), (int(r["m"]), int(r["n"]), int(r["k"])), WEIGHT_FORMATS["bf16"])
        / float(r["time_us"])
        - 1
        for r in list(rows("gemm", gpu=gpu))[::STEP]
    ]
    assert len(errors) > 60
    found_median, found_p90 = spread(errors)
    assert found_median <= median
    assert found_p90 <= p90


def test_decode_attention_on_h100_is_predicted() -> None:
    """Decode attention, warm and cold, is within 20 % of the fastest engine at the median."""
    errors = []
    for r in list(rows("attention_decode", gpu="H100-SXM", dtype_q="bf16"))[::STEP]:
        row = DecodeAttentionRow(
            batch=int(r["batch"]),
            context=int(r["context"]),
            n_q_heads=int(r["n_q_heads"]),
            n_kv_heads=int(r["n_kv_heads"]),
            head_dim=int(r["head_dim"]),
            window=int(r["window"]) or None,
            kv_format=KV_FORMATS[r["dtype_kv"]],
            warm=r["l2"] == "warm",
        )
        errors.append(decode_attention_us(chip("H100-SXM"), row) / float(r["time_us"]) - 1)
    assert len(errors) > 200
    found_median, found_p90 = spread(errors)
    assert found_median <= 0.20
    assert found_p90 <= 0.42


def test_a_gpt_fast_decode_step_on_a100_is_predicted() -> None:
    """Llama-2-7B bf16 at batch 1, context 105 decodes within 10 % of 104.9 tokens/s."""
    (measured,) = [
        r
        for r in rows("decode_e2e", model="Llama-2-7B", weight_format="bf16", n_gpus="1")
        if r["case_id"].startswith("GPTFAST") and r["gpu"] == "A100-80GB-SXM"
    ]
    predicted = decode_step_ms(
        load_model("llama-2-7b", search_dirs=model_dirs()),
        chip("A100-80GB-SXM"),
        load_engine("gpt_fast", engine_dirs()),
        batch=1,
        context=105,
        weights=WEIGHT_FORMATS["bf16"],
        kv=KV_FORMATS["bf16"],
    )
    assert predicted == pytest.approx(1000 / float(measured["value"]), rel=0.10)
