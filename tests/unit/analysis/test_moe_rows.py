"""`analysis.validate.rows.moe`: a row is the kernels of its engine on its architecture."""

import pytest

from analysis.validate.case import Row, UnpredictableError
from analysis.validate.rows.moe import moe_case
from analysis.validate.rows.moe_routing import rank_load
from sim.kernel.engine import GroupedTile
from sim.kernel.operators import Elementwise, GroupedGemm

QWEN: Row = {
    "source": "aic-0.12.0", "gpu": "A100-SXM-80G", "framework": "vllm-0.14.0", "dtype": "bf16",
    "tokens": "16", "hidden": "2048", "inter": "768", "n_experts": "128", "topk": "8", "tp": "1",
    "ep": "8", "routing": "balanced",
}  # fmt: skip
MIXTRAL: Row = {
    **QWEN,
    "hidden": "4096",
    "inter": "14336",
    "n_experts": "8",
    "topk": "2",
    "ep": "1",
}
SMALL = GroupedTile(rows=32, tokens=16, k_bytes=128)
DEFAULT = GroupedTile(rows=64, tokens=64, k_bytes=64, group=8)


def tile(row: Row, **changes: str) -> GroupedTile | None:
    """Return the fixed tile of a row."""
    return moe_case({**row, **changes}).engine.grouped_tile


def kinds(row: Row, **changes: str) -> list[str]:
    """Return the kinds of a row's passes."""
    operators = moe_case({**row, **changes}).operators
    return [op.kind for op in operators if isinstance(op, Elementwise)]


@pytest.mark.parametrize(("tokens", "expected"), [("16", SMALL), ("17", DEFAULT)])
def test_the_default_tile_grows_where_tokens_exceed_the_experts_of_the_rank(
    tokens: str, expected: GroupedTile
) -> None:
    """128 experts on eight ranks: 16, whatever the model has."""
    assert tile(QWEN, tokens=tokens) == expected


def test_a_shipped_configuration_is_a_tuned_tile() -> None:
    """Mixtral split over four ranks has one on A100, and any shape of eight experts on H100."""
    assert tile(MIXTRAL, tp="4") is None
    assert tile(MIXTRAL) == DEFAULT
    assert tile(MIXTRAL, gpu="H100-SXM") is None


def test_newer_vllm_sizes_its_tile_by_tokens() -> None:
    """Grouped only where an expert has many of them."""
    newer = {**MIXTRAL, "gpu": "L40S", "framework": "vllm-0.24.0"}
    assert tile(newer) == GroupedTile(rows=64, tokens=16, k_bytes=256, stages=4)
    many = GroupedTile(rows=128, tokens=128, k_bytes=128, group=16)
    assert tile(newer, tokens="8192") == many


@pytest.mark.parametrize(
    ("gpu", "same"),
    [("A100", "A100-SXM-80G"), ("H200-SXM", "H100-SXM"), ("GB200", "B200"), ("A6000", "A40")],
)
def test_kernels_follow_the_architecture_and_not_the_name(gpu: str, same: str) -> None:
    """Chips of one generation and memory are alike."""
    for framework in ("vllm-0.24.0", "sglang-0.5.14", "trtllm-1.3.0rc20"):
        row = {**MIXTRAL, "framework": framework, "tokens": "64"}
        mine, others = moe_case({**row, "gpu": gpu}), moe_case({**row, "gpu": same})
        assert mine.engine == others.engine


def test_a_gpu_without_a_spec_is_no_case() -> None:
    with pytest.raises(UnpredictableError, match="no chip H9000"):
        moe_case({**QWEN, "gpu": "H9000"})


def test_tensorrt_llm_scales_copies_of_block_scaled_experts_on_hopper_only() -> None:
    """Its activation writes fp8 itself where one scale holds for the tensor."""
    blocks = {**MIXTRAL, "framework": "trtllm-1.3.0rc20", "dtype": "fp8b128", "gpu": "H100-SXM"}
    assert kinds(blocks).count("scale") == 2
    assert kinds(blocks, gpu="B200").count("scale") == 0
    assert kinds(blocks, dtype="fp8").count("quantise") == 1


def test_deep_gemm_walks_through_the_experts_of_the_rank() -> None:
    row = {**QWEN, "framework": "trtllm-1.3.0rc20", "dtype": "fp8b128", "gpu": "H100-SXM"}
    assert moe_case(row).engine.grouped.expert_trips > 0
    assert moe_case({**row, "dtype": "fp8"}).engine.grouped.expert_trips == 0


@pytest.mark.parametrize(("routing", "framework", "warm"), [
    ("balanced", "trtllm-1.3.0rc20", True), ("power_law_1.2", "trtllm-1.3.0rc20", False),
    ("power_law_1.2", "sglang-0.5.14", True),
])  # fmt: skip
def test_ten_draws_in_turn_leave_no_expert_warm(routing: str, framework: str, warm: bool) -> None:
    """Balanced routing is the same in every replay, and SGLang replays each draw ten times."""
    row = {**QWEN, "ep": "1", "tokens": "1", "gpu": "L40S", "routing": routing}
    assert bool(moe_case({**row, "framework": framework}).warm) is warm


def test_early_draws_pile_up_on_the_busiest_experts() -> None:
    """16 tokens for 128 experts: what rounding left over went to those that had some already."""
    row = {**QWEN, "ep": "1", "tokens": "2", "routing": "power_law_1.01"}
    spread, piled = rank_load(row), rank_load({**row, "framework": "trtllm-1.0.0"})
    assert sum(spread.per_expert) == sum(piled.per_expert) == 16
    assert sum(map(bool, piled.per_expert)) < sum(map(bool, spread.per_expert)) == 16


def test_sglang_widens_mxfp4_experts_before_blackwell() -> None:
    row = {**QWEN, "framework": "sglang-0.5.14", "dtype": "w4a16_mxfp4", "ep": "1"}
    for gpu, name in (("H100-SXM", "bf16"), ("B200", "mxfp4")):
        grouped = [
            op for op in moe_case({**row, "gpu": gpu}).operators if isinstance(op, GroupedGemm)
        ]
        assert {op.weight_format.name for op in grouped} == {name}
