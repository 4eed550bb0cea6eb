"""`sim.kernel.formats`: bits per value, scales included."""

from fractions import Fraction

import pytest

from sim.kernel.formats import BF16, KV_FORMATS, WEIGHT_FORMATS


@pytest.mark.parametrize(
    ("name", "size_bytes"),
    [
        ("bf16", 2_560_000),
        ("fp16", 2_560_000),
        ("fp8", 1_280_000),
        ("int8", 1_280_000),
        ("int8_w8a8", 1_280_000),
        # 128 weights: 64 bytes, a 16-bit scale and a 4-bit zero point.
        ("int4", 665_000),
        ("q4_k_m", 776_000),
        # 32 weights: 32 bytes and a 16-bit scale.
        ("q8_0", 1_360_000),
        # 32 weights: 16 bytes and an 8-bit scale.
        ("mxfp4", 680_000),
    ],
)
def test_a_million_weights_take_their_bits_and_their_scales(name: str, size_bytes: int) -> None:
    """1,280,000 weights, so that every block format divides."""
    assert WEIGHT_FORMATS[name].bytes_of(1_280_000) == size_bytes


def test_sizes_are_rounded_up_to_whole_bytes() -> None:
    """One weight of 4.15625 bits takes a byte, two take two."""
    int4 = WEIGHT_FORMATS["int4"]
    assert [int4.bytes_of(n) for n in (0, 1, 2, 3)] == [0, 1, 2, 2]


def test_formats_are_listed_under_their_own_names() -> None:
    """A scenario's word is the format's name."""
    assert all(name == fmt.name for name, fmt in WEIGHT_FORMATS.items())
    assert all(name == fmt.name for name, fmt in KV_FORMATS.items())
    assert WEIGHT_FORMATS["bf16"] is BF16


def test_only_formats_that_multiply_their_own_width_quantise_activations() -> None:
    """The others are unpacked to 16 bits first, or are 16 bits wide."""
    by_activation = {n for n, f in WEIGHT_FORMATS.items() if f.quantises_activations}
    unpacked = {n for n, f in WEIGHT_FORMATS.items() if f.dequantised}
    assert by_activation == {"fp8", "fp8_block", "nvfp4", "int8_w8a8"}
    assert unpacked == {
        "int8",
        "int8_linear",
        "int4",
        "int4_g32",
        "q4_k_m",
        "q4_k",
        "q2_k_m",
        "q8_0",
        "q4_0",
        "q4_0_qat",
        "mxfp4",
        "mxfp4_q8",
    }
    assert all(WEIGHT_FORMATS[n].compute == "bf16" for n in unpacked)


def test_formats_of_experts_store_other_matrices_otherwise() -> None:
    """gpt-oss quantises its experts only, Nemotron-3-Super's file the rest less."""
    assert [n for n, f in WEIGHT_FORMATS.items() if f.dense] == ["q4_k", "mxfp4", "mxfp4_q8"]


def test_rows_that_blocks_do_not_divide_are_stored_in_more_bits() -> None:
    """4,480 is no multiple of 256, 10,240 is: Nemotron Nano's two kinds of Q4_K_M matrices."""
    fmt = WEIGHT_FORMATS["q4_k_m"]
    assert fmt.of_width(10_240) is fmt
    assert fmt.of_width(4_480).bits == 6
    assert BF16.of_width(7) is BF16


@pytest.mark.parametrize(
    ("name", "size_bytes"), [("bf16", 2560), ("fp16", 2560), ("fp8", 1280), ("int8", 1300)]
)
def test_ten_head_vectors_take_their_values_and_their_scales(name: str, size_bytes: int) -> None:
    """Of 128 values; int8 has a 16-bit scale per vector."""
    assert KV_FORMATS[name].bytes_of(10, 128) == size_bytes


def test_bits_are_exact_fractions() -> None:
    """4.85 bits are 97/20, not a float near it."""
    assert WEIGHT_FORMATS["q4_k_m"].bits == Fraction(97, 20)
