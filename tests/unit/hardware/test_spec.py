"""`sim.hardware.spec`: a chip is read whole or refused with every reason."""

import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from sim.errors import SpecError
from sim.hardware.spec import ChipSpec, available_chips, load_chip, parse_chip
from sim.resources import chip_dirs

FROM = 'kind = "spec", source = "a datasheet"'
TOY = f"""\
[chip]
name = "toy"
title = "Toy 80 GB"
generation = "hopper"
aliases = ["TOY-SXM", "toy_sxm"]
notes = ["Made up."]
[sm]
count = {{ value = 132, {FROM} }}
clock = {{ value = "1.755 GHz", {FROM} }}
shared_memory = {{ value = "228 KiB", {FROM} }}
max_ctas = {{ value = 32, {FROM} }}
l2_port_bytes_per_clock = {{ value = 64, {FROM} }}
vector_flop_per_s = {{ value = "66.9 TFLOPS", {FROM} }}
sfu_ops_per_clock = {{ value = 16, {FROM} }}
step_latency = {{ value = "70 ns", {FROM} }}
[tensor]
bf16 = {{ value = "989.4 TFLOPS", {FROM} }}
fp16 = {{ value = "989.4 TFLOPS", {FROM} }}
fp8 = {{ value = "1979 TFLOPS", kind = "derived", source = "twice bf16" }}
sustained_fraction = {{ value = 0.8, {FROM} }}
[l2]
capacity = {{ value = "50 MiB", {FROM} }}
bandwidth = {{ value = "5.5 TB/s", {FROM} }}
latency = {{ value = "200 ns", {FROM} }}
[hbm]
type = "HBM3"
capacity = {{ value = "80 GB", {FROM} }}
peak_bandwidth = {{ value = "3.35 TB/s", {FROM} }}
pseudo_channels = {{ value = 160, {FROM} }}
interleave = {{ value = "256 B", {FROM} }}
read_efficiency = {{ value = 0.949, {FROM} }}
copy_efficiency = {{ value = 0.866, {FROM} }}
tile_efficiency = {{ value = 0.89, {FROM} }}
latency = {{ value = "370 ns", {FROM} }}
[launch]
stream_gap = {{ value = "2.5 us", {FROM} }}
cuda_graph_gap = {{ value = "1.3 us", {FROM} }}
graph_to_graph_gap = {{ value = "2.0 us", {FROM} }}
kernel_start = {{ value = "0.5 us", {FROM} }}
"""
RATES = "B/s, kB/s, KB/s, MB/s, GB/s, TB/s, PB/s, KiB/s, MiB/s, GiB/s, TiB/s"


def toy(text: str = TOY) -> ChipSpec:
    return parse_chip(text, file="toy.toml", stem="toy")


def problems_of(*changes: tuple[str, str]) -> list[str]:
    text = TOY
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    with pytest.raises(SpecError) as caught:
        toy(text)
    return str(caught.value).split("\n")


def test_every_number_is_read_in_base_units() -> None:
    """The whole record, so that no field can be mixed up with another."""
    chip = toy()
    assert chip == ChipSpec(
        name="toy",
        title="Toy 80 GB",
        generation="hopper",
        aliases=("TOY-SXM", "toy_sxm"),
        notes=("Made up.",),
        sm_count=132,
        clock_hz=1_755_000_000,
        shared_memory_bytes=233_472,
        max_ctas=32,
        l2_port_bytes_per_clock=64,
        vector_flop_per_s=66_900_000_000_000,
        sfu_ops_per_clock=16,
        step_latency_ps=70_000,
        tensor_flop_per_s={
            "bf16": 989_400_000_000_000,
            "fp16": 989_400_000_000_000,
            "fp8": 1_979_000_000_000_000,
        },
        sustained_fraction=Fraction(4, 5),
        l2_bytes=52_428_800,
        l2_bytes_per_s=5_500_000_000_000,
        l2_latency_ps=200_000,
        hbm_type="HBM3",
        hbm_bytes=80_000_000_000,
        hbm_bytes_per_s=3_350_000_000_000,
        pseudo_channels=160,
        interleave_bytes=256,
        read_efficiency=Fraction(949, 1000),
        copy_efficiency=Fraction(866, 1000),
        tile_efficiency=Fraction(89, 100),
        hbm_latency_ps=370_000,
        stream_gap_ps=2_500_000,
        cuda_graph_gap_ps=1_300_000,
        graph_to_graph_gap_ps=2_000_000,
        kernel_start_ps=500_000,
        graph_replay_ps=2_700_000,
        provenance=chip.provenance,
    )


def test_every_number_keeps_its_kind_and_source() -> None:
    """Provenance has one entry for each cited number and none for plain text."""
    provenance = toy().provenance
    assert provenance["tensor.fp8"] == ("derived", "twice bf16")
    assert provenance["hbm.latency"] == ("spec", "a datasheet")
    assert "hbm.type" not in provenance
    assert len(provenance) == 27


def test_a_number_without_kind_or_source_is_refused() -> None:
    """A bare number and a citation that lacks a part are both refused, all at once."""
    assert problems_of(
        (f"count = {{ value = 132, {FROM} }}", "count = 132"),
        (f'value = "5.5 TB/s", {FROM}', 'value = "5.5 TB/s", kind = "guess", source = ""'),
        (f'value = "80 GB", {FROM}', 'value = "80 GB", kind = "spec"'),
    ) == [
        "toy.toml:8:9: sm.count = 132: is not a table "
        "(expected { value = ..., kind = ..., source = ... })",
        'toy.toml:23:42: l2.bandwidth.kind = "guess": unknown kind '
        "(expected one of spec, measured, calibrated, derived, estimate)",
        'toy.toml:23:60: l2.bandwidth.source = "": is empty (expected some text)',
        "toy.toml:27:12: hbm.capacity.source: is missing",
    ]


def test_wrong_units_are_told_with_the_right_ones() -> None:
    """A wrong unit, a number without one, and a text that is no number."""
    assert problems_of(
        ('"3.35 TB/s"', '"3.35 TBs"'), ('"256 B"', "256"), ('"1.3 us"', '"fast"')
    ) == [
        "toy.toml:28:28: hbm.peak_bandwidth.value = \"3.35 TBs\": unknown unit 'TBs' "
        f"(expected a number and one of {RATES}; did you mean 'TB/s'?)",
        "toy.toml:30:24: hbm.interleave.value = 256: is not a quantity "
        "(expected in quotes, a number and one of "
        "B, kB, KB, MB, GB, TB, PB, KiB, MiB, GiB, TiB)",
        'toy.toml:37:28: launch.cuda_graph_gap.value = "fast": is not a quantity '
        "(expected a number and one of ps, ns, us, ms, s)",
    ]


def test_numbers_out_of_range_are_refused() -> None:
    """Counts start at 1, sizes above 0, ratios end at 1."""
    assert problems_of(
        ("value = 132", "value = 0"), ('"50 MiB"', '"-1 MiB"'), ("value = 0.949", "value = 1.2")
    ) == [
        "toy.toml:8:19: sm.count.value = 0: is too small (expected 1 or more)",
        'toy.toml:22:22: l2.capacity.value = "-1 MiB": is too small (expected more than 0)',
        "toy.toml:31:29: hbm.read_efficiency.value = 1.2: is not a ratio "
        "(expected a number above 0, at most 1)",
    ]


def test_misspelt_keys_are_told_with_the_nearest() -> None:
    """A misspelt key, a misspelt section and what is missing for them."""
    assert problems_of(("max_ctas", "max_cta"), ("[launch]", "[lunch]")) == [
        "toy.toml:1:1: launch: is missing "
        "(expected a table of stream_gap, cuda_graph_gap, graph_to_graph_gap, kernel_start, "
        "graph_replay)",
        "toy.toml:7:2: sm.max_ctas: is missing "
        "(expected { value = ..., kind = ..., source = ... })",
        "toy.toml:11:1: sm.max_cta: unknown key (expected one of count, clock, shared_memory, "
        "max_ctas, l2_port_bytes_per_clock, vector_flop_per_s, sfu_ops_per_clock, step_latency; "
        "did you mean 'max_ctas'?)",
        "toy.toml:35:2: lunch: unknown key (expected one of chip, sm, tensor, l2, hbm, launch, "
        "link; did you mean 'launch'?)",
    ]


def test_numbers_that_contradict_each_other_are_refused() -> None:
    """Name and file, hit and miss, read and copy, L2 and HBM, graph and stream."""
    assert problems_of(
        ('name = "toy"', 'name = "tos"'),
        ('"370 ns"', '"200 ns"'),
        ("0.866", "0.95"),
        ('"80 GB"', '"50 MB"'),
        ('"1.3 us"', '"2.6 us"'),
    ) == [
        "toy.toml:2:8: chip.name = \"tos\": is not the name of the file (expected 'toy')",
        'toy.toml:27:22: hbm.capacity.value = "50 MB": is not larger than L2 '
        "(expected more than l2.capacity)",
        "toy.toml:32:29: hbm.copy_efficiency.value = 0.95: copies cannot be more efficient than "
        "reads (expected at most read_efficiency, 0.949)",
        'toy.toml:34:21: hbm.latency.value = "200 ns": a miss cannot be faster than a hit '
        "(expected more than l2.latency)",
        'toy.toml:37:28: launch.cuda_graph_gap.value = "2.6 us": a graph cannot launch more '
        "slowly than a stream (expected at most launch.stream_gap)",
    ]


NEAR = f'near_latency = {{ value = "150 ns", {FROM} }}'
FAR = f'far_latency = {{ value = "300 ns", {FROM} }}'
BRIDGE = f'far_bandwidth = {{ value = "2.7 TB/s", {FROM} }}'
TWO = f"partitions = {{ value = 2, {FROM} }}"
HIT = f'latency = {{ value = "200 ns", {FROM} }}\n[hbm]'


def test_an_l2_of_two_partitions_has_all_their_numbers(tmp_path: Path) -> None:
    """Without any it is one; with all, near, far and the bridge between them are read."""
    one = parse_chip(TOY, file="toy.toml", stem="toy")
    assert (one.l2_partitions, one.l2_near_latency_ps, one.l2_far_bytes_per_s) == (1, None, None)
    text = TOY.replace(HIT, "\n".join((HIT[:-6], NEAR, FAR, BRIDGE, TWO, "[hbm]")))
    two = parse_chip(text, file="toy.toml", stem="toy")
    assert two.l2_partitions == 2
    assert (two.l2_near_latency_ps, two.l2_far_latency_ps) == (150_000, 300_000)
    assert two.l2_far_bytes_per_s == 2_700_000_000_000
    assert two.fingerprint() != one.fingerprint()


def test_partitions_by_halves_and_a_mean_outside_them_are_refused() -> None:
    """The nearest missing key is named; 200 ns is not between 210 and 300."""
    told = problems_of((HIT, "\n".join((HIT[:-6], NEAR.replace("150", "210"), FAR, TWO, "[hbm]"))))
    assert told == [
        'toy.toml:24:21: l2.latency.value = "200 ns": is not between the latencies of the two '
        "partitions (expected l2.near_latency to l2.far_latency)",
        'toy.toml:27:14: l2.partitions = { value = 2, kind = "spec", source = "a datasheet" }: '
        "stands without far_bandwidth (expected partitions, near_latency, far_latency, "
        "far_bandwidth)",
    ]


def test_a_contradiction_is_told_even_if_another_section_is_wrong() -> None:
    """Checks between keys do not wait until all else is right."""
    told = problems_of(("max_ctas", "max_cta"), ("0.866", "0.95"))
    assert any("copies cannot be more efficient than reads" in line for line in told)


def test_the_fingerprint_follows_numbers_and_not_words() -> None:
    """A new clock changes the fingerprint; a new source, title or alias does not."""
    chip = toy()
    words = toy(
        TOY.replace("a datasheet", "another").replace("Toy 80 GB", "Toy").replace("TOY", "T")
    )
    assert words.fingerprint() == chip.fingerprint()
    numbers = {
        replace(chip, clock_hz=1).fingerprint(),
        replace(chip, read_efficiency=Fraction(1, 3)).fingerprint(),
        replace(chip, tensor_flop_per_s={"bf16": 1, "fp16": 1}).fingerprint(),
        chip.fingerprint(),
    }
    assert len(numbers) == 4


def test_a_chip_can_be_hashed_and_sent_to_another_process() -> None:
    """Memo keys and worker processes need both."""
    chip = toy()
    assert hash(chip) == hash(toy())
    assert pickle.loads(pickle.dumps(chip)) == chip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.toml").write_text(TOY)
    (tmp_path / "broken.toml").write_text("[")
    return tmp_path


@pytest.mark.parametrize("name", ["toy", "TOY-SXM", "toy_sxm", "Toy"])
def test_a_chip_is_found_by_name_and_alias(folder: Path, name: str) -> None:
    """Case and underscores of an alias do not matter, nor does a broken file beside it."""
    assert load_chip(name, [folder]).name == "toy"


def test_a_chip_is_found_by_path(folder: Path) -> None:
    """A path needs no search folder."""
    assert load_chip(str(folder / "toy.toml"), []).name == "toy"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tooy",
            "tooy: unknown chip (expected a path or one of broken, toy; did you mean 'toy'?)",
        ),
        ("none/toy.toml", "none/toy.toml: no such file"),
    ],
)
def test_an_unknown_chip_is_told_with_the_nearest(folder: Path, name: str, message: str) -> None:
    """Names get a suggestion, paths do not."""
    with pytest.raises(SpecError) as caught:
        load_chip(name, [folder])
    assert str(caught.value) == message


def test_chips_are_listed_by_name(folder: Path) -> None:
    """Every TOML of the folder counts, broken ones too."""
    assert available_chips([folder]) == ("broken", "toy")


@pytest.mark.parametrize("name", available_chips(chip_dirs()))
def test_every_shipped_chip_is_valid(name: str) -> None:
    """Each spec loads and cites a source for every number."""
    chip = load_chip(name, chip_dirs())
    assert chip.name == name
    assert all(source for _, source in chip.provenance.values())
