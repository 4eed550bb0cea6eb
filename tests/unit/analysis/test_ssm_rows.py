"""`analysis.validate.rows.ssm`: what a row of a recurrent kernel timed, and what its clock saw."""

from dataclasses import replace

import pytest

from analysis.validate.case import KernelCase
from analysis.validate.rows.ssm import ssm_case
from sim.hardware.gpu import Gpu
from sim.hardware.spec import ChipSpec, load_chip
from sim.kernel.operators import ChunkedScan, Elementwise, StateUpdate
from sim.resources import chip_dirs
from sim.run.device import Device
from sim.run.memo import Memo

MIB = 1024 * 1024
HEAD_BYTES = 128 * 128 * 4
PACKED = "fused_recurrent_kda_packed_decode"


def chip(name: str = "h100-sxm") -> ChipSpec:
    return load_chip(name, chip_dirs())


def case(framework: str, kernel: str, **changes: object) -> KernelCase:
    """Return the case of a decode row of 16 heads, GDN unless said otherwise."""
    cells = {
        "gpu": "H100-SXM",
        "framework": framework,
        "family": "gdn",
        "kernel": kernel,
        "phase": "generation",
        "batch": "8",
        "seq_len": "1",
        "d_model": "2048",
        "d_conv": "4",
        "n_k_heads": "16",
        "k_dim": "128",
        "n_v_heads": "16",
        "v_dim": "128",
        "time_us": "7.0",
    }
    return ssm_case(cells | {key: str(value) for key, value in changes.items()})


def only(found: KernelCase) -> StateUpdate:
    (op,) = found.operators
    assert isinstance(op, StateUpdate)
    return op


def predicted(found: KernelCase, name: str = "h100-sxm") -> float:
    return found.predicted(chip(name), Memo(None))


def test_tensorrt_llm_reads_16_bits_and_writes_float32_elsewhere() -> None:
    """The old state is only read, so it is clean; the new one is what a replay dirties."""
    found = case("trtllm-1.3.0rc20", "fused_recurrent_gated_delta_rule")
    op = only(found)
    assert op.new_state is not None
    assert op.state.size_bytes == 8 * 16 * HEAD_BYTES // 2
    assert op.new_state.size_bytes == 8 * 16 * HEAD_BYTES
    assert ([t.name for t in found.warm], [t.name for t in found.dirty]) == (
        [op.state.name], ["new_state"],
    )  # fmt: skip


def test_the_first_request_of_vllms_kda_harness_is_padding() -> None:
    """Eight requests are seven; one is none, a grid whose CTAs write zeros and return."""
    op = only(case("vllm-0.1.dev19262", PACKED, family="kda"))
    assert op.state.size_bytes == 7 * 16 * HEAD_BYTES
    (none,) = case("vllm-0.1.dev19262", PACKED, family="kda", batch=1).operators
    assert isinstance(none, Elementwise)
    assert only(case("sglang-0.5.16", PACKED, family="kda")).state.size_bytes == 8 * 16 * HEAD_BYTES


def test_flashinfers_decode_keeps_a_state_of_16_bits_in_place() -> None:
    op = only(case("sglang-0.5.14", "flashinfer_gated_delta_rule_decode"))
    assert (op.state.size_bytes, op.new_state) == (8 * 16 * HEAD_BYTES // 2, None)


def test_kdas_fused_decode_is_one_kernel_with_the_state_of_the_convolution() -> None:
    """A head a CTA; no request of it is padding."""
    op = only(case("vllm-0.1.dev19262", "fused_kda_decode", family="kda"))
    assert op.tile_bytes == HEAD_BYTES
    assert op.state.size_bytes == 8 * 16 * HEAD_BYTES
    assert {"conv_state"} <= {t.name for t in op.reads()} & {t.name for t in op.writes()}


@pytest.mark.parametrize(
    ("framework", "repeats"), [("sglang-0.5.14", 10), ("vllm-0.24.0", 10), ("trtllm-1.3", 1)]
)
def test_recent_gdn_harnesses_repeat_a_kernel_in_one_graph(framework: str, repeats: int) -> None:
    assert case(framework, "causal_conv1d_update").repeats == repeats


def test_tensorrt_llms_scan_has_no_state_to_read_or_write() -> None:
    """Its harness asks for none, and gives normalised queries and keys no kernels."""
    (op,) = case("trtllm-1.3", "chunk_gated_delta_rule", phase="context", seq_len=64).operators
    assert isinstance(op, ChunkedScan)
    assert (op.state.size_bytes, op.norms) == (8 * 16, False)


def test_what_is_shorter_than_a_launch_by_the_host_takes_as_long() -> None:
    """A replay lasts 1.27 times the chip's smallest with TensorRT-LLM, whatever is in it."""
    spec = chip()
    smallest = spec.graph_to_graph_gap_ps + spec.kernel_start_ps + spec.l2_latency_ps
    small = [case("trtllm-1.3", "causal_conv1d_update", batch=batch) for batch in (1, 2)]
    assert [predicted(one) for one in small] == [pytest.approx(1.27 * smallest / 1e6)] * 2
    longer = case("trtllm-1.3", "causal_conv1d_update", batch=1024)
    assert predicted(longer) == predicted(replace(longer, host_pace=1.0))


@pytest.mark.parametrize(
    ("name", "mib", "least", "most"),
    [
        ("h100-sxm", 22, 0.999, 1.0),
        ("h100-sxm", 43, 0.4, 0.6),
        ("h100-sxm", 70, 0.0, 0.03),
        ("l40s", 66, 1.0, 1.0),
        ("l40s", 94, 0.6, 0.9),
        ("l40s", 121, 0.0, 0.01),
    ],
)
def test_states_fade_out_of_l2(name: str, mib: int, least: float, most: float) -> None:
    """A replay finds what the one before wrote, dirty; chips in partitions lose it earlier."""
    found = case("sglang-0.5.14", "fused_recurrent_gated_delta_rule_packed_decode", batch=mib)
    size = only(found).state.size_bytes
    assert size == mib * MIB  # 16 heads are a mebibyte a sequence
    first = found._first_l2(chip(name))
    device = Device(gpu=Gpu(spec=chip(name)), engine=found.engine, memo=Memo(None))
    (kernel,) = device.tune(found.operators[0])
    run = device.run(kernel, first)
    missed = dict(zip([s.name for s in kernel.segments], run.missed_bytes, strict=True))
    assert least <= 1 - missed["state"] / size <= most
