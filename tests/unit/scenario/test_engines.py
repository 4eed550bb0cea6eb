"""`sim.scenario.engines`: engine profiles."""

from pathlib import Path

import pytest

from sim.errors import EngineError
from sim.kernel.engine import AttentionVariant, Engine, LaunchMode, VectorKernels
from sim.kernel.operators import ELEMENTWISE_KINDS
from sim.resources import engine_dirs
from sim.scenario.engines import available_engines, load_engine

GOOD = """\
launch = "stream"
attention = "flash"
fusions = [["residual_add", "norm"]]
merge_projections = false
kv_block_tokens = 16
host_time = { value = "0.5 ms", kind = "estimate", source = "a guess" }
"""


def test_a_profile_is_read(tmp_path: Path) -> None:
    """The whole record; the name is the file's."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_engine(str(path), []) == Engine(
        name="mine",
        launch=LaunchMode.STREAM,
        attention=AttentionVariant.FLASH,
        fusions=(("residual_add", "norm"),),
        merge_projections=False,
        host_time_ps=500_000_000,
        kv_block_tokens=16,
    )


def test_all_problems_of_a_profile_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Misspelt names, a chain of one, a time without a source."""
    monkeypatch.chdir(tmp_path)
    text = GOOD.replace('"stream"', '"graph"').replace('"residual_add", ', "").replace("16", "0")
    Path("mine.toml").write_text(text.replace(', source = "a guess"', "").replace("norm", "nrom"))
    with pytest.raises(EngineError) as caught:
        load_engine("mine.toml", [])
    assert str(caught.value).split("\n") == [
        'mine.toml:1:10: launch = "graph": unknown launch mode (expected one of stream, '
        "cuda_graph, megakernel; did you mean 'cuda_graph'?)",
        'mine.toml:3:13: fusions.0.0 = "nrom": unknown element-wise kind (expected one of '
        f"{', '.join(ELEMENTWISE_KINDS)}; did you mean 'norm'?)",
        "mine.toml:5:19: kv_block_tokens = 0: is too small (expected 1 or more)",
        "mine.toml:6:13: host_time.source: is missing",
    ]


def test_a_fusion_has_two_kinds_at_least(tmp_path: Path) -> None:
    """One kind alone fuses with nothing."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace('"residual_add", ', ""))
    with pytest.raises(EngineError) as caught:
        load_engine(str(path), [])
    assert str(caught.value).endswith(
        'mine.toml:3:12: fusions.0 = ["norm"]: is too short (expected 2 or more values)'
    )


def test_the_shipped_profiles_are_valid() -> None:
    """Each loads under its name and says what it is; the default is among them."""
    names = available_engines(engine_dirs())
    assert set(names) >= {"cuda_graph", "eager", "naive", "vllm", "gpt_fast"}
    for name in names:
        engine = load_engine(name, engine_dirs())
        assert engine.name == name
        assert engine.note


def test_naive_differs_from_eager_in_attention_only() -> None:
    """So that the two show what attention alone costs."""
    eager, naive = (load_engine(name, engine_dirs()) for name in ("eager", "naive"))
    fields = ("launch", "fusions", "merge_projections", "host_time_ps", "kv_block_tokens")
    assert all(getattr(eager, field) == getattr(naive, field) for field in fields)
    assert (eager.attention, naive.attention) == (AttentionVariant.FLASH, AttentionVariant.NAIVE)


def test_matrix_vector_kernels_are_a_table_of_a_profile(tmp_path: Path) -> None:
    """All or nothing: a key that is missing is told."""
    path = tmp_path / "mine.toml"
    table = (
        "[vector_kernels]\nmost_tokens = 8\nmost_plain_tokens = 3\nmost_grouped_tokens = 4\n"
        "tokens_a_pass = 8\nunpack_flop = 1\nproduct_flop = 6\nquantises = true\n"
    )
    path.write_text(GOOD + table + "regroups = false\nwarp_a_row = false\n")
    assert load_engine(str(path), []).vector == VectorKernels(
        most_tokens=8,
        most_plain_tokens=3,
        most_grouped_tokens=4,
        tokens_a_pass=8,
        unpack_flop=1,
        product_flop=6,
        quantises=True,
        regroups=False,
        warp_a_row=False,
    )
    path.write_text(GOOD + table)
    with pytest.raises(EngineError, match=r"vector_kernels\.regroups: is missing"):
        load_engine(str(path), [])


def test_a_profile_names_its_collective_library(tmp_path: Path) -> None:
    """NCCL unless it says so; a misspelt name is told."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_engine(str(path), []).collectives == "nccl"
    assert load_engine("vllm", engine_dirs()).collectives == "vllm"
    path.write_text('collectives = "vlm"\n' + GOOD)
    with pytest.raises(EngineError, match=r"unknown collective library .* did you mean 'vllm'"):
        load_engine(str(path), [])
