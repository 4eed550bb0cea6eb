"""Which grouped GEMM kernels an engine runs for a row of moe.csv, by architecture.

vLLM and SGLang look for a configuration tuned for (experts of the rank, width, device name) and
fall back to `get_default_config`; TensorRT-LLM tunes at run time.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from analysis.validate.case import Row, engine_name, number
from analysis.validate.chips import chip_of, is_before_hopper
from analysis.validate.rows.moe_routing import RankLoad
from sim.hardware.spec import ChipSpec
from sim.kernel.engine import GroupedKernels, GroupedTile

_SMALL_TILE: Final = GroupedTile(rows=32, tokens=16, k_bytes=128)
_DEFAULT_TILE: Final = GroupedTile(rows=64, tokens=64, k_bytes=64, group=8)
# Of weights with a scale per 128 x 128.
_SCALED_TILE: Final = GroupedTile(rows=128, tokens=64, k_bytes=128, group=32)
_CUTLASS: Final = GroupedKernels(rows=(32, 64, 128, 256))
# Its grouped kernels on Hopper reach 840 of 989 TFLOPS in bf16 and 1490 of 1979 in fp8, more than
# large GEMMs, which draw more power (8192 tokens, 8 experts, as below).
_CUTLASS_ON_HOPPER: Final = {False: Fraction(15, 16), True: Fraction(9, 10)}
# TensorRT-LLM's DeepGEMM takes tokens as the narrow side of a tile where an expert has few. Its
# CTAs walk through all experts to find their tiles: 256 experts cost 60 us a layer, 32 seven (H100,
# one token).
_DEEP_GEMM: Final = GroupedKernels(slowdown=Fraction(4, 3), expert_trips=Fraction(1, 2))
# They write their experts' tensor maps to memory and fence before they load through them: layers of
# few tokens take 3 us more than on Ada, whose kernels have none (three models, as below).
_TENSOR_MAP_TRIPS: Final = 11
# Marlin's CTAs split K unevenly, pass partial sums on through L2 and wait at locks for them: one
# token takes 10 us more on A100 and 8 on L40S than without (seven layers, as below).
_MARLIN_TRIPS: Final = 23
_MARLIN: Final = GroupedKernels(rows=(128, 256), tokens=(16, 32, 64), setup_trips=_MARLIN_TRIPS)
_TRITON_MXFP4: Final = GroupedKernels(short_rows=True)
# Shapes (experts of the rank, width) that vLLM and SGLang ship tuned configurations for
# (`fused_moe/configs`, `fused_moe_triton/configs`), as far as times tell: without one they jump
# where tokens exceed experts. For Hopper and later most shapes of two and more experts have one,
# of 16 and 128 experts these widths (aiconfigurator-core 0.12.0, read 2026-11-27).
_TUNED_SHAPES: Final = {
    "ampere": {(1, 14336), (8, 1792), (8, 2048), (8, 3584), (8, 4096), (8, 7168), (8, 8192)},
    "ada": {(8, 1792), (8, 3584), (8, 7168)},
}
_FEWEST_EXPERTS: Final = 2
_TUNED_WIDTHS: Final = {16: {1024, 2048, 4096, 8192}, 128: {192, 384, 768, 1536}}
# vLLM 0.24 sizes its default tiles by tokens alone, 0.14 did not yet: (most tokens, tokens of a
# tile, weight rows, bytes of K of 16-bit values, stages).
_BY_TOKENS: Final = ((32, 16, 64, 256, 4), (64, 32, 64, 256, 3), (96, 32, 128, 128, 3))
_BY_MANY_TOKENS: Final = ((512, 64, 128, 128, 3), (1 << 62, 128, 128, 128, 3))
_SIZED_BY_TOKENS: Final = (0, 16)
_FEW_TOKENS_AN_EXPERT: Final = 128
_GROUP_OF_MANY: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """What an engine chooses its kernels by: format, experts and width of the rank, its tokens."""

    fmt: str
    count: int
    width: int
    tokens: int


def experts_of(row: Row, fmt: str, load: RankLoad) -> Experts:
    """Return what the rank of a row holds."""
    width = number(row, "inter") // max(1, number(row, "tp"))
    return Experts(fmt=fmt, count=len(load.per_expert), width=width, tokens=load.tokens)


def has_hopper_kernels(row: Row) -> bool:
    """Return whether engines run on this chip what they wrote for Hopper or later."""
    return not is_before_hopper(row)


def runs_deep_gemm(row: Row) -> bool:
    """Return whether TensorRT-LLM has its copy of DeepGEMM for this chip, which is for Hopper."""
    return chip_of(row).generation == "hopper"


def has_blackwell_kernels(row: Row) -> bool:
    """Return whether engines run on this chip what they wrote for Blackwell."""
    return chip_of(row).generation.startswith("blackwell")


def grouped_tile(row: Row, experts: Experts) -> GroupedTile | None:
    """Return the tile of an engine that does not tune (None: it does)."""
    name = engine_name(row)
    if experts.fmt == "fp8_block" and name == "sglang":
        return _SCALED_TILE
    if experts.fmt != "bf16" or name == "trtllm" or _is_tuned(chip_of(row), experts):
        return None
    if name == "vllm" and _version(row) >= _SIZED_BY_TOKENS:
        return _tile_by_tokens(experts)
    return _SMALL_TILE if experts.tokens <= experts.count else _DEFAULT_TILE


def _tile_by_tokens(experts: Experts) -> GroupedTile:
    steps = (*_BY_TOKENS, *_BY_MANY_TOKENS)
    _, block, rows, k_bytes, stages = next(step for step in steps if experts.tokens <= step[0])
    many = experts.tokens // experts.count > _FEW_TOKENS_AN_EXPERT
    group = _GROUP_OF_MANY if many else 1
    return GroupedTile(rows=rows, tokens=block, k_bytes=k_bytes, stages=stages, group=group)


def _is_tuned(chip: ChipSpec, experts: Experts) -> bool:
    if chip.generation in _TUNED_SHAPES:
        return (experts.count, experts.width) in _TUNED_SHAPES[chip.generation]
    if experts.count in _TUNED_WIDTHS:
        return experts.width in _TUNED_WIDTHS[experts.count]
    return experts.count >= _FEWEST_EXPERTS


def _version(row: Row) -> tuple[int, ...]:
    digits = row["framework"].partition("-")[2].split("rc")[0].split(".")
    return tuple(int(part) for part in digits if part.isdigit())


def grouped_kernels(row: Row, experts: Experts) -> GroupedKernels:
    """Return the grouped GEMM kernels of an engine.

    What they reach of a GEMM's tensor rate is read off the largest rows of each engine and
    generation (aiconfigurator-core 0.12.0, read 2026-11-23): Triton's and CUTLASS's kernels of
    GA100 .7, Triton's default tiles of 64 x 64 x 32 .5 (2026-11-27), whose warps read each operand
    from shared memory twice; Marlin .7 before Hopper, where `mma.sync` reaches .5 of `wgmma`;
    Triton's with a scale for each 128 values, which adds up accumulators outside the tensor cores,
    .6; DeepGEMM .75.
    """
    chip, fmt = chip_of(row), experts.fmt
    hopper = has_hopper_kernels(row)
    if fmt == "mxfp4":
        # Triton kernels on Hopper, Marlin's repacked weights before.
        return _TRITON_MXFP4 if hopper else GroupedKernels(setup_trips=_MARLIN_TRIPS)
    if fmt == "int4":
        return replace(_MARLIN, slowdown=Fraction(2) if hopper else Fraction(3, 2))
    if engine_name(row) == "trtllm":
        return _of_tensorrt_llm(row, fmt)
    if fmt == "fp8_block" and hopper:
        return GroupedKernels(slowdown=Fraction(8, 5))
    if _is_ga100(chip):
        return GroupedKernels(slowdown=Fraction(7, 5) if _is_tuned(chip, experts) else Fraction(2))
    return GroupedKernels()


def _of_tensorrt_llm(row: Row, fmt: str) -> GroupedKernels:
    if fmt == "fp8_block" and runs_deep_gemm(row):
        return _DEEP_GEMM
    if _is_ga100(chip_of(row)):
        return GroupedKernels(slowdown=Fraction(7, 5))
    if not has_hopper_kernels(row):
        return _CUTLASS
    slowdown = _CUTLASS_ON_HOPPER[fmt == "fp8"]
    return replace(_CUTLASS, slowdown=slowdown, setup_trips=_TENSOR_MAP_TRIPS)


def _is_ga100(chip: ChipSpec) -> bool:
    return chip.generation == "ampere" and chip.hbm_type.startswith("HBM")
