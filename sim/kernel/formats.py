"""Number formats of weights and KV cache: bits per value, scales, and what computes on them.

Sources of the layouts: OCP Microscaling Formats 1.0 (mxfp4: 32 values share an 8-bit scale);
AutoAWQ/GPTQ (int4: groups of 128 with a 16-bit scale and a 4-bit zero point); llama.cpp
`ggml-quants` (Q4_K_M: a mix of Q4_K and Q6_K blocks, 4.85 bits a weight on Llama-class models;
Q8_0: 32 values share a 16-bit scale; q2_k_m: 3.17 bits on GLM-4.7-Flash); DeepSeek-V3 and
DeepGEMM (fp8_block: a 32-bit scale for 128 x 128 weights and for 1 x 128 activations); gpt-fast
`quantize.py` (int8_linear: one scale a row; int4_g32: groups of 32 with a 16-bit scale and zero
point; both of every linear layer, the head included); llama.cpp (q4_0: 32 values share a 16-bit
scale, the head is Q6_K; q4_0_qat: the Gemma QAT files, head Q8_0; mxfp4_q8: its gpt-oss files, Q8_0
but for the experts); NVFP4 (16 values share an 8-bit scale).
"""

from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from sim.units import ceil_div

SCALE_BYTES: Final = 4
"""An activation quantised per token carries one fp32 scale (vLLM `scaled_fp8_quant`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How a weight matrix is stored and multiplied.

    `bits` counts scales and zero points; `compute` names the tensor-core rate used (a key of a
    chip's tensor rates); `dequantised` weights cost `dequantise_flop` of vector work each before
    the multiply (an instruction counts as two FLOP, a slow conversion as eight; interleaved
    layouts, byte permutes and paired multiply-adds take about one, as in fpA_intB of TensorRT-LLM
    and in Marlin); `quantises_activations` formats need the activations quantised too, to
    `activation_bits` with their block scales (one fp32 scale a token comes on top where there are
    no blocks). `dense` is the format of all that is no expert (None: this one). Embedding table and
    LM head are in the format `head` if there is one, else in this one if `quantises_head`, else in
    16 bits. Rows that are no multiple of `block` are stored as `unaligned`.
    """

    name: str
    bits: Fraction
    compute: str
    dequantised: bool = False
    dequantise_flop: int = 2
    quantises_activations: bool = False
    activation_bits: Fraction = Fraction(8)
    dense: "WeightFormat | None" = None
    quantises_head: bool = False
    head: "WeightFormat | None" = None
    block: int = 1
    unaligned: "WeightFormat | None" = None

    def of_width(self, n_in: int) -> "WeightFormat":
        """Return the format of a matrix with rows of `n_in` weights."""
        whole = n_in % self.block == 0
        return self if whole or self.unaligned is None else self.unaligned

    def bytes_of(self, n_weights: int) -> int:
        """Return the stored size of `n_weights` weights, scales included, rounded up."""
        return ceil_div(n_weights * self.bits.numerator, self.bits.denominator * 8)

    def activation_bytes_of(self, rows: int, width: int) -> int:
        """Return the size of `rows` x `width` activations as the multiply reads them."""
        if not self.quantises_activations:
            return 2 * rows * width
        bits = self.activation_bits
        per_token = SCALE_BYTES * rows if bits.denominator == 1 else 0
        return ceil_div(rows * width * bits.numerator, bits.denominator * 8) + per_token


@dataclass(frozen=True, slots=True, kw_only=True)
class KvFormat:
    """How keys and values are stored: bits per value, and scale bits per head vector."""

    name: str
    bits: int
    scale_bits_per_vector: int = 0

    def bytes_of(self, n_vectors: int, width: int) -> int:
        """Return the size of `n_vectors` head vectors of `width` values each."""
        return ceil_div(n_vectors * (width * self.bits + self.scale_bits_per_vector), 8)


BF16: Final = WeightFormat(name="bf16", bits=Fraction(16), compute="bf16", quantises_head=True)

Q8_0: Final = WeightFormat(
    name="q8_0", bits=Fraction(85, 10), compute="bf16", dequantised=True, quantises_head=True
)
# llama.cpp `tensor_type_fallback`: rows that the blocks of K-quants (256) do not divide are Q5_0 in
# place of Q4_K, Q8_0 in place of Q6_K and Q4_0 in place of Q2_K. A sixth of Q4_K_M is Q6_K.
_Q4_K_M_UNALIGNED: Final = WeightFormat(
    name="q4_k_m_unaligned",
    bits=Fraction(6),
    compute="bf16",
    dequantised=True,
    quantises_head=True,
)
_Q4_0: Final = WeightFormat(
    name="q4_0_plain", bits=Fraction(45, 10), compute="bf16", dequantised=True, quantises_head=True
)
# All but the experts of ggml-org's Nemotron-3-Super: what its 65.10 GiB leave beside experts of 4.5
# bits.
_BESIDE_EXPERTS: Final = WeightFormat(
    name="q4_k_dense",
    bits=Fraction(654, 100),
    compute="bf16",
    dequantised=True,
    quantises_head=True,
)
_Q6_K: Final = WeightFormat(
    name="q6_k", bits=Fraction(105, 16), compute="bf16", dequantised=True, quantises_head=True
)

# gpt-fast's int8 weights are widened by Inductor's code with two conversions (int8 to float, float
# to bf16) that run at a quarter of the FMA rate; its int4 kernel (tinygemm) unpacks, scales and
# adds a zero point. 10 and 6 FLOP are what its A100 speeds of Llama-2-70B leave room for (README
# @6ecad9b, GPTFAST-004 and -005).
WEIGHT_FORMATS: Final = MappingProxyType(
    {
        f.name: f
        for f in (
            BF16,
            WeightFormat(name="fp16", bits=Fraction(16), compute="fp16", quantises_head=True),
            WeightFormat(name="fp8", bits=Fraction(8), compute="fp8", quantises_activations=True),
            WeightFormat(
                name="fp8_block",
                bits=8 + Fraction(32, 128 * 128),
                compute="fp8",
                quantises_activations=True,
                activation_bits=8 + Fraction(32, 128),
            ),
            WeightFormat(
                name="nvfp4",
                bits=4 + Fraction(8, 16),
                compute="fp4",
                quantises_activations=True,
                activation_bits=4 + Fraction(8, 16),
            ),
            WeightFormat(name="int8", bits=Fraction(8), compute="bf16", dequantised=True),
            WeightFormat(
                name="int8_w8a8", bits=Fraction(8), compute="int8", quantises_activations=True
            ),
            WeightFormat(name="int4", bits=4 + Fraction(20, 128), compute="bf16", dequantised=True),
            WeightFormat(
                name="q4_k_m",
                bits=Fraction(485, 100),
                compute="bf16",
                dequantised=True,
                quantises_head=True,
                block=256,
                unaligned=_Q4_K_M_UNALIGNED,
            ),
            WeightFormat(
                name="q4_k",
                bits=Fraction(45, 10),
                compute="bf16",
                dequantised=True,
                dense=_BESIDE_EXPERTS,
            ),
            WeightFormat(
                name="q2_k_m",
                bits=Fraction(317, 100),
                compute="bf16",
                dequantised=True,
                dequantise_flop=20,
                quantises_head=True,
                block=256,
                unaligned=_Q4_0,
            ),
            Q8_0,
            WeightFormat(
                name="q4_0",
                bits=Fraction(45, 10),
                compute="bf16",
                dequantised=True,
                head=_Q6_K,
            ),
            WeightFormat(
                name="q4_0_qat",
                bits=Fraction(45, 10),
                compute="bf16",
                dequantised=True,
                head=Q8_0,
            ),
            WeightFormat(
                name="int8_linear",
                bits=Fraction(8),
                compute="bf16",
                dequantised=True,
                dequantise_flop=10,
                quantises_head=True,
            ),
            WeightFormat(
                name="int4_g32",
                bits=4 + Fraction(32, 32),
                compute="bf16",
                dequantised=True,
                dequantise_flop=6,
                quantises_head=True,
            ),
            WeightFormat(
                name="mxfp4",
                bits=4 + Fraction(8, 32),
                compute="bf16",
                dequantised=True,
                dense=BF16,
            ),
            WeightFormat(
                name="mxfp4_q8",
                bits=4 + Fraction(8, 32),
                compute="bf16",
                dequantised=True,
                dense=Q8_0,
            ),
        )
    }
)

KV_FORMATS: Final = MappingProxyType(
    {
        f.name: f
        for f in (
            KvFormat(name="bf16", bits=16),
            KvFormat(name="fp16", bits=16),
            KvFormat(name="fp8", bits=8),
            KvFormat(name="int8", bits=8, scale_bits_per_vector=16),
        )
    }
)
