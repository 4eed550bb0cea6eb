"""`analysis.collective_rows` and `analysis.expert_rows`: rows of tables become predictions."""

from dataclasses import replace

import pytest

from analysis.collective_rows import collective_us, in_machine
from analysis.expert_rows import alltoall_us, measured_us
from sim.errors import InputError
from sim.hardware.channel_check import efficiencies
from sim.hardware.spec import ChipSpec, load_chip
from sim.resources import chip_dirs


def chip(name: str = "h100-sxm") -> ChipSpec:
    return load_chip(name, chip_dirs())


def row(framework: str = "nccl-2.29.2", **changes: object) -> dict[str, str]:
    cells = {
        "gpu": "H100-SXM",
        "framework": framework,
        "op": "all_reduce",
        "gpus": "8",
        "bytes": "65536",
        "tokens": "128",
        "hidden": "7168",
        "topk": "8",
        "n_experts": "256",
        "time_us": "18.7",
    }
    return cells | {key: str(value) for key, value in changes.items()}


def test_an_eager_call_takes_the_host_at_least_and_copies_its_input() -> None:
    """Small calls all take the host's time; 1 GiB takes the graph's time and one copy."""
    eager, graph = "vllm-0.24.0:vLLM_custom_eager", "vllm-0.24.0:vLLM_custom_graph"
    small = [collective_us(row(eager, bytes=size, gpus=2), chip()) for size in (256, 65536)]
    assert small[0] == small[1] > collective_us(row(graph, bytes=65536, gpus=2), chip())
    large = [collective_us(row(name, bytes=2**30, gpus=2), chip()) for name in (eager, graph)]
    spec = chip()
    copy_us = 2**31 / float(spec.hbm_bytes_per_s * efficiencies(spec).copy) * 1e6
    gap_us = (spec.stream_gap_ps - spec.cuda_graph_gap_ps) / 1e6
    assert large[0] - large[1] == pytest.approx(copy_us + gap_us)


def test_gpus_beyond_a_node_are_reached_by_the_network() -> None:
    """16 GPUs at 8 a node take longer than 8."""
    a100 = chip("a100-sxm-80gb")
    times = [
        collective_us(
            row("torch-nccl(kineto,8/node)", gpu="A100-80G-DGX", gpus=gpus, bytes=2**26), a100
        )
        for gpus in (8, 16)
    ]
    assert times[1] > 2 * times[0]


def test_a_machine_may_have_other_links_than_its_chip() -> None:
    """H800 is an H100 with half the NVLink; a bridge joins two and multicasts nothing."""
    spec = chip()
    halved, bridged = in_machine(spec, "H800-SXM").link, in_machine(spec, "H100-pairNVL").link
    assert halved is not None
    assert halved.bytes_per_s == 200 * 10**9
    assert bridged is not None
    assert (bridged.ranks, bridged.multicast) == (2, False)
    assert in_machine(spec, "B200") is spec


def test_faster_links_predict_faster_collectives_on_chips_nobody_measured() -> None:
    """A large all-reduce on B200 takes less than on H200, an exchange of experts too."""
    large = row(bytes=2**30, gpu="any")
    experts = row("sglang-0.5.12:deepep_ll", op="dispatch", tokens=1024, gpu="any")
    for predict, cells in ((collective_us, large), (alltoall_us, experts)):
        times = [predict(cells, chip(name)) for name in ("b200", "h200-sxm", "a100-sxm-80gb")]
        assert times == sorted(times)
        assert times[0] < 0.7 * times[1]


def test_rows_in_nanoseconds_are_told_from_those_in_microseconds() -> None:
    """Only dispatches and combines of TensorRT-LLM and vLLM are in nanoseconds."""
    assert measured_us(row("trtllm-1.3.0rc11:trtllm_deepep_ll", op="combine", time_us=72080)) == (
        pytest.approx(72.08)
    )
    assert measured_us(row("vllm-0.24.0:deepep_ht", op="dispatch", time_us=278500)) == (
        pytest.approx(278.5)
    )
    assert measured_us(row("sglang-0.5.12:deepep_ll", op="dispatch", time_us=9.4)) == 9.4
    assert measured_us(row("vllm-0.24.0:vLLM_custom_graph", time_us=4.2)) == 4.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"framework": "gloo"}, r"row: framework = gloo: is not modelled as a collective"),
        ({"op": "broadcast"}, r"row: op = broadcast: is not modelled as a collective"),
        (
            {"framework": "gloo", "op": "dispatch"},
            r"row: framework = gloo: is not modelled as an exchange of experts",
        ),
        ({"gpus": "32"}, r"h100-sxm\.toml: link\.ranks: no way joins 32 GPUs of a node"),
    ],
)
def test_rows_that_nothing_models_are_refused(changes: dict[str, str], message: str) -> None:
    """By the column that is unknown, or by the chip's key."""
    with pytest.raises(InputError, match=message):
        alltoall_us({**row(), **changes}, chip())


def test_a_chip_without_a_link_takes_part_in_nothing() -> None:
    """Also in machines whose links a table names."""
    alone = replace(chip(), link=None)
    for gpu in ("H100-SXM", "any"):
        with pytest.raises(InputError, match=r"this chip has no \[link\]"):
            collective_us(row(gpu=gpu), alone)
