"""Matrix-vector kernels: few tokens times a quantised weight, on the vector pipes.

llama.cpp multiplies up to eight tokens this way (`mmvq.cu` of its CUDA backend; `kernel_mul_mv` and
`kernel_mul_mv_ext` of its Metal backend). A group of threads owns a few rows of the weight and
reads them from end to end, so DRAM sees long runs, not tiles; each weight is unpacked once and
multiplied with every token whose sums the threads hold. More tokens than that take a further pass
over the weights. CUDA kernels multiply integers, and quantise the activations in a kernel of their
own before.

Experts (`mul_mat_id`) get a grid over the pairs of token and expert: pairs of one expert run side
by side and read it once, or the grid goes token by token and each reads its experts for itself.
"""

from collections import Counter
from dataclasses import dataclass

from sim.kernel.engine import VectorKernels
from sim.kernel.kernel import CtaKind, Kernel, Load, Phase, Segment, Store
from sim.kernel.lower.gemm import dequantise_flop, segment_of
from sim.kernel.lower.layouts import active_experts
from sim.kernel.operators import Gemm, GroupedGemm, Tensor, Traffic
from sim.kernel.target import Target
from sim.kernel.work import experts_read_bytes, operator_flop
from sim.units import ceil_div

# Rows are dealt to thread groups of this many bytes: finer grids take longer to simulate and move
# the same bytes as evenly.
_CTA_BYTES = 32 * 1024
_MOST_CTAS_PER_SM = 64
# Four groups of 128 to 256 threads an SM with 16 to 32 bytes a thread in flight.
_CTAS_PER_SM = 4
_BUFFER_BYTES = 8 * 1024
_ROUND_TRIPS = 2
# With several tokens a warp has a row of an expert to itself (`mul_mat_vec_q_moe_launch`): it walks
# the row, reduces and stores before the next one, and short rows cost that much more than bytes.
# 1.3 ms a token for the 1.4 million rows of Qwen3-30B-A3B's experts on RTX 5090 (pull request
# 21086, microbatches of 4 and 8).
_ROW_ROUND_TRIPS = 3
_ROWS_AT_A_TIME = 4
_PLAIN_PRODUCT_FLOP = 2
# A block of quantised activations: 32 values with a scale; a CTA of 256 threads has 8 of them.
_QUANTISED_VALUES = 256
_QUANTISE_FLOP = 4


def takes_vector(op: Gemm | GroupedGemm, kernels: VectorKernels) -> bool:
    """Tell whether the engine has a matrix-vector kernel for so few tokens."""
    if isinstance(op, Gemm):
        plain = not op.weight_format.dequantised
        return op.m <= (kernels.most_plain_tokens if plain else kernels.most_tokens)
    return 0 < op.tokens <= kernels.most_grouped_tokens


def lower_matvec(
    op: Gemm | GroupedGemm, target: Target, kernels: VectorKernels
) -> tuple[Kernel, ...]:
    """Return the quantisation of the activations, if there is one, and the multiplication."""
    main = _dense(op, target, kernels) if isinstance(op, Gemm) else _grouped(op, target, kernels)
    if not (kernels.quantises and op.weight_format.dequantised):
        return (main,)
    return (_quantise(op, target), main)


def _dense(op: Gemm, target: Target, kernels: VectorKernels) -> Kernel:
    passes = ceil_div(op.m, kernels.tokens_a_pass)
    count = _grid(op.weight.size_bytes, op.n, target)
    share = _Share(
        weights=ceil_div(op.n * op.k, count),
        round_trips=_ROUND_TRIPS,
        weight_bytes=ceil_div(op.weight.size_bytes, count),
        tokens=min(op.m, kernels.tokens_a_pass),
        out_bytes=ceil_div(op.out.size_bytes, count * passes),
    )
    kind = _kind(op, kernels, share, count=count * passes, sharers=1)
    return _kernel(op, segment_of(op.weight), (kind,))


def _grouped(op: GroupedGemm, target: Target, kernels: VectorKernels) -> Kernel:
    """Return one grid over the pairs of token and expert."""
    one = op.experts.size_bytes // len(op.tokens_per_expert)
    count = _grid(one, op.n, target)
    pairs = sum(op.tokens_per_expert)
    share = _Share(
        weights=ceil_div(op.n * op.k, count),
        round_trips=_expert_round_trips(op, kernels, count),
        weight_bytes=ceil_div(one, count),
        tokens=1,
        out_bytes=ceil_div(op.out.size_bytes, count * pairs),
    )
    kinds = tuple(
        _kind(
            op,
            kernels,
            share,
            count=count * tokens * experts,
            sharers=tokens if kernels.regroups else 1,
        )
        for tokens, experts in sorted(Counter(op.tokens_per_expert).items(), reverse=True)
        if tokens
    )
    read = experts_read_bytes(op) if kernels.regroups else one * pairs
    weight = Segment(
        name=op.experts.name,
        size_bytes=read,
        traffic=op.experts.traffic,
        layout=active_experts(op),
    )
    return _kernel(op, weight, kinds)


def _expert_round_trips(op: GroupedGemm, kernels: VectorKernels, count: int) -> int:
    if not kernels.warp_a_row or op.tokens == 1:
        return _ROUND_TRIPS
    return _ROW_ROUND_TRIPS * ceil_div(ceil_div(op.n, count), _ROWS_AT_A_TIME)


def _grid(size_bytes: int, rows: int, target: Target) -> int:
    wanted = max(ceil_div(size_bytes, _CTA_BYTES), target.sm_count)
    return min(rows, wanted, target.sm_count * _MOST_CTAS_PER_SM)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """What a CTA has: weights, their bytes, its tokens, its results, its dependent round trips."""

    weights: int
    round_trips: int
    weight_bytes: int
    tokens: int
    out_bytes: int


def _kind(
    op: Gemm | GroupedGemm, kernels: VectorKernels, share: _Share, *, count: int, sharers: int
) -> CtaKind:
    # Integers of 8 bits with a scale per 32 where they are quantised. Neighbours on an SM find in
    # L1 what one of them read.
    a_bytes = share.tokens * op.k * (9 if kernels.quantises else 16) // 8 // _CTAS_PER_SM
    flop = _flop_per_weight(op, kernels, share.tokens)
    phase = Phase(
        round_trips=share.round_trips,
        loads=(
            Load(segment=0, size_bytes=share.weight_bytes, sharers=sharers),
            Load(segment=1, size_bytes=a_bytes, sharers=count),
        ),
        vector_flop=flop * share.weights,
        stores=(Store(segment=2, size_bytes=share.out_bytes),),
    )
    return CtaKind(count=count, phases=(phase,), buffer_bytes=_BUFFER_BYTES)


def _flop_per_weight(op: Gemm | GroupedGemm, kernels: VectorKernels, tokens: int) -> int:
    if not op.weight_format.dequantised:
        return _PLAIN_PRODUCT_FLOP * tokens
    unpack = dequantise_flop(op.weight_format) + kernels.unpack_flop
    return unpack + kernels.product_flop * tokens


def _kernel(op: Gemm | GroupedGemm, weight: Segment, kinds: tuple[CtaKind, ...]) -> Kernel:
    return Kernel(
        name=f"matvec_{sum(kind.count for kind in kinds)}",
        operator=op.name,
        part=op.part,
        kinds=kinds,
        segments=(weight, segment_of(op.a), segment_of(op.out)),
        ctas_per_sm=_CTAS_PER_SM,
        flop=operator_flop(op),
    )


def _quantise(op: Gemm | GroupedGemm, target: Target) -> Kernel:
    values = op.a.size_bytes // 2
    count = min(ceil_div(values, _QUANTISED_VALUES), target.sm_count * _MOST_CTAS_PER_SM)
    quantised = Tensor(
        name=f"{op.a.name}.q8_1", size_bytes=ceil_div(values * 9, 8), traffic=Traffic.ACTIVATIONS
    )
    phase = Phase(
        round_trips=1,
        loads=(Load(segment=0, size_bytes=ceil_div(op.a.size_bytes, count)),),
        vector_flop=ceil_div(_QUANTISE_FLOP * values, count),
        stores=(Store(segment=1, size_bytes=ceil_div(quantised.size_bytes, count)),),
    )
    return Kernel(
        name="quantise_activations",
        operator=op.name,
        part=op.part,
        kinds=(CtaKind(count=count, phases=(phase,), buffer_bytes=_BUFFER_BYTES),),
        segments=(segment_of(op.a), segment_of(quantised)),
        ctas_per_sm=_CTAS_PER_SM,
        flop=0,
    )
