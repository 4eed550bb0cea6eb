"""`analysis.validate`: rows become cases, predictions are scored as the fastest engine demands."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.validate.case import BENCHMARK_ENGINE, KernelCase, Row, UnpredictableError
from analysis.validate.command import validate
from analysis.validate.predict import Plan, Prediction, Predictor, predict, simulate
from analysis.validate.rows.moe_routing import rank_load
from analysis.validate.rows.steps import shared_step_case, step_case
from analysis.validate.run import Options, table_text, validated
from analysis.validate.score import judge, score, scores
from analysis.validate.tables import TABLES, Table, read_table
from sim.errors import InputError
from sim.hardware.spec import load_chip
from sim.kernel.operators import Elementwise, Gemm
from sim.resources import chip_dirs

DATA = Path(__file__).parents[2] / "validation" / "data"
GEMM_ROW = {
    "source": "aic-0.12.0", "gpu": "H100-SXM", "framework": "vllm-0.24.0", "dtype_a": "bf16",
    "dtype_w": "bf16", "m": "16", "n": "4096", "k": "4096", "time_us": "14.0", "l2": "cold",
}  # fmt: skip


def write_gemms(folder: Path, *changes: dict[str, str]) -> None:
    """Write a gemm.csv with one row per set of changes."""
    with (folder / "gemm.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(GEMM_ROW))
        writer.writeheader()
        writer.writerows({**GEMM_ROW, **change} for change in changes)


def predictable(table: Table, row: Row) -> bool:
    """Tell whether a row is a case that moves bytes."""
    try:
        return table.case(row).moved_bytes() > 0
    except UnpredictableError:
        return False


def reasons(table: Table, row: Row) -> str:
    """Return why a row is no case."""
    with pytest.raises(UnpredictableError) as error:
        table.case(row)
    return str(error.value)


def quiet(done: int, total: int) -> None:
    """Report nothing."""


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_row_of_a_table_is_a_case_or_has_a_reason(name: str) -> None:
    table = TABLES[name]
    for row in read_table(DATA / f"{name}.csv", table):
        assert predictable(table, row) or reasons(table, row)


def test_a_quantised_gemm_quantises_its_activations_first() -> None:
    case = TABLES["gemm"].case({**GEMM_ROW, "dtype_a": "fp8", "dtype_w": "fp8"})
    assert isinstance(case, KernelCase)
    quantise, gemm = case.operators[-2:]
    assert isinstance(quantise, Elementwise)
    assert isinstance(gemm, Gemm)
    assert gemm.a == quantise.outputs[0]


def test_repeats_in_one_graph_share_the_gap_between_graphs() -> None:
    chip = load_chip("h100-sxm", chip_dirs())
    case = TABLES["gemm"].case(GEMM_ROW)
    assert isinstance(case, KernelCase)
    once, twice = (replace(case, repeats=repeats) for repeats in (1, 2))
    found = simulate({Plan(chip, once), Plan(chip, twice)})
    saved_us = float(found[Plan(chip, once)]) - float(found[Plan(chip, twice)])
    gaps_ps = chip.graph_to_graph_gap_ps - chip.cuda_graph_gap_ps
    assert saved_us == pytest.approx(gaps_ps / 2 / 1e6)


def test_warm_weights_are_read_faster_than_cold_ones() -> None:
    chip = load_chip("h100-sxm", chip_dirs())
    cold, warm = (TABLES["gemm"].case({**GEMM_ROW, "l2": l2}) for l2 in ("cold", "warm"))
    found = simulate({Plan(chip, cold), Plan(chip, warm)})
    assert found[Plan(chip, warm)] < 0.9 * found[Plan(chip, cold)]


def test_no_prediction_beats_the_roofline_of_cold_rows() -> None:
    chip = load_chip("h100-sxm", chip_dirs())
    case = TABLES["gemm"].case(GEMM_ROW)
    assert simulate({Plan(chip, case)})[Plan(chip, case)] > case.roofline(chip)
    assert case.roofline(chip) == pytest.approx(
        2 * (4096 * 4096 + 2 * 16 * 4096) / 3.35e12 * 1e6, rel=1e-6
    )


ROUTED = {"n_experts": "8", "topk": "2", "ep": "1", "tokens": "3", "routing": "balanced"}


def test_balanced_routing_spreads_tokens_evenly_and_loses_none() -> None:
    load = rank_load(ROUTED)
    assert (load.tokens, load.rows, load.per_expert) == (3, 6, (1, 1, 1, 1, 1, 1, 0, 0))
    with pytest.raises(UnpredictableError, match="no routing"):
        rank_load({**ROUTED, "routing": "odd"})


def test_a_power_law_gives_every_token_its_experts() -> None:
    """Loads sum to the routed tokens, none above all tokens, and the busiest rank is timed."""
    row = {**ROUTED, "tokens": "100", "routing": "power_law_1.2"}
    whole = rank_load(row)
    assert sum(whole.per_expert) == whole.rows == 200
    assert 50 < whole.per_expert[0] <= 100
    half = rank_load({**row, "ep": "2"})
    assert sum(half.per_expert) >= 100
    assert len(half.per_expert) == 4


def test_the_benchmark_of_sglang_sends_other_ranks_tokens_to_its_first_expert() -> None:
    """Eight ranks: every fourth of 64 tokens has expert 0, and its second choice is clamped."""
    row = {**ROUTED, "tokens": "64", "ep": "8"}
    load = rank_load(row, selects=True, clamps=True)
    assert (load.tokens, load.rows, load.per_expert) == (16, 32, (32,))
    assert rank_load(row).per_expert == (16,)
    kept = rank_load(row, keeps_rows=True)
    assert (kept.per_expert, kept.rows) == ((16,), 128)
    apart = rank_load(row, selects=True)
    assert (apart.tokens, apart.per_expert, apart.rows) == (16, (16,), 32)


def test_a_step_on_several_gpus_is_not_predicted() -> None:
    with pytest.raises(UnpredictableError, match="several GPUs"):
        step_case({"n_gpus": "2"})


def test_only_tensor_parallel_gpus_share_a_step_that_is_predicted() -> None:
    """A row says TPn; anything else is refused with its own words."""
    row = {**LLAMA_CPP_ROW, "n_gpus": "2", "parallelism": "TP2"}
    assert shared_step_case(row) == replace(step_case(LLAMA_CPP_ROW), gpus=2)
    with pytest.raises(UnpredictableError, match="no parallelism EP2"):
        shared_step_case({**row, "parallelism": "EP2"})


LLAMA_CPP_ROW = {
    "n_gpus": "1",
    "gpu": "RTX4090",
    "source": "ggml-org/llama.cpp benches/dgx-spark/dgx-spark.md",
    "engine": "llama.cpp b7941 CUDA FA",
    "model": "gemma-3-4b",
    "weight_format": "Q8_0",
    "kv_dtype": "fp16",
    "batch": "1",
    "prompt_len": "8192",
    "output_len": "32",
    "context_mid": "8208",
    "metric": "tok_s_total",
    "prefill_in_time": "no",
    "notes": "",
}


def test_llama_cpp_runs_one_token_as_a_graph_and_more_on_a_stream() -> None:
    """Its windowed caches hold a microbatch more than the window, 2,048 tokens in its benches."""
    one = step_case(LLAMA_CPP_ROW)
    two = step_case({**LLAMA_CPP_ROW, "batch": "2", "source": "a pull request"})
    assert (one.engine.name, one.window_slack) == ("llama_cpp", 2048)
    assert (two.engine.name, two.window_slack) == ("llama_cpp_stream", 512)


def test_llama_cpp_on_an_apple_gpu_is_its_metal_backend() -> None:
    """Which skips masked blocks of a windowed cache."""
    case = step_case({**LLAMA_CPP_ROW, "gpu": "M2Ultra-76c", "batch": "8"})
    assert (case.engine.name, case.window_slack) == ("llama_cpp_metal", 0)


def test_a_microbatch_is_one_sequence_that_brings_several_tokens() -> None:
    case = step_case({**LLAMA_CPP_ROW, "batch": "4", "notes": "MICROBATCH test"})
    assert (case.batch, case.q_len, case.window_slack) == (1, 4, 4)


def test_the_fastest_engine_is_the_reference_and_partial_rows_are_not_judged() -> None:
    table = TABLES["gemm"]
    rows = [
        {**GEMM_ROW, "time_us": "10"},
        {**GEMM_ROW, "time_us": "8", "framework": "sglang-0.5"},
        {**GEMM_ROW, "l2": "partial", "time_us": "1"},
    ]
    judged = judge(table, [Prediction(row=row, predicted=12.0) for row in rows])
    assert {entry.selection for entry in judged} == {"gemm 16-bit", "gemm 16-bit m<=64"}
    assert {entry.error for entry in judged} == {0.5}
    assert {entry.measured for entry in judged} == {8.0}


def test_scores_count_what_was_not_predicted_against_the_coverage() -> None:
    found = score([0.1, -0.2, 0.3, None])
    assert (found.n, found.covered, found.coverage) == (4, 3, 0.75)
    assert (found.median, found.p90, found.bias) == (0.2, 0.3, 0.1)
    assert score([None]).median is None


@pytest.mark.parametrize("n", [1, 9, 10, 11, 100])
def test_p90_is_the_smallest_error_that_nine_tenths_do_not_exceed(n: int) -> None:
    errors = [i / 100 for i in range(1, n + 1)]
    found = score(errors).p90
    assert found is not None
    assert sum(error <= found for error in errors) >= 0.9 * n
    assert sum(error < found for error in errors) < 0.9 * n


def test_an_unknown_chip_is_reported_and_skipped(tmp_path: Path) -> None:
    write_gemms(tmp_path, {}, {"gpu": "H1000"})
    found, missing = validated(Options(folder=tmp_path, predictor="roofline"), quiet)
    assert found.skipped() == {"no chip H1000": 1}
    assert "moe" in missing
    assert "H1000" in table_text(scores(found.judged()))


def test_predictions_do_not_depend_on_jobs_or_memo() -> None:
    rows = [{**GEMM_ROW, "n": str(n)} for n in (256, 512)]
    tables = [(TABLES["gemm"], rows)]
    plain = predict(tables, memo=False)
    assert predict(tables, jobs=2, memo=False) == plain
    assert predict(tables, predictor=Predictor.ROOFLINE, memo=False) != plain


def test_predictions_are_written_beside_the_input_columns(tmp_path: Path) -> None:
    write_gemms(tmp_path, {}, {"dtype_w": "fp32"})
    out = tmp_path / "out"
    done = CliRunner().invoke(
        validate,
        [str(tmp_path), "--op", "gemm", "--predictions", str(out), "--json",
         str(tmp_path / "s.json"), "--jobs", "1", "--no-memo", "--worst", "1"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    with (out / "gemm.csv").open(newline="", encoding="utf-8") as file:
        known, unknown = csv.DictReader(file)
    assert math.isfinite(float(known["predicted_us"]))
    assert known["time_us"] == GEMM_ROW["time_us"]
    assert unknown["predicted_us"] == ""
    assert '"covered": 1' in (tmp_path / "s.json").read_text(encoding="utf-8")
    assert "no weight format for bf16 x fp32" in done.output


def test_a_folder_without_tables_and_a_misspelt_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds none of gemm\.csv"):
        validated(Options(folder=tmp_path), quiet)
    with pytest.raises(InputError, match="did you mean 'gemm'"):
        validated(Options(folder=tmp_path, ops=("gem",)), quiet)


def test_a_time_that_is_not_positive_is_told_with_its_line(tmp_path: Path) -> None:
    write_gemms(tmp_path, {}, {"time_us": "0"})
    with pytest.raises(InputError, match=r"gemm\.csv:3: time_us = 0: is not a positive number"):
        read_table(tmp_path / "gemm.csv", TABLES["gemm"])


def test_a_missing_column_is_told(tmp_path: Path) -> None:
    (tmp_path / "gemm.csv").write_text("gpu,time_us\nH100-SXM,1\n", encoding="utf-8")
    with pytest.raises(InputError, match="lacks the columns dtype_a"):
        read_table(tmp_path / "gemm.csv", TABLES["gemm"])


def test_the_benchmark_engine_adds_no_host_time() -> None:
    assert BENCHMARK_ENGINE.host_time_ps == 0
