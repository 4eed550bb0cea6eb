"""`sim.scenario.load`: a scenario is resolved whole or refused with every reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sim.errors import ScenarioError
from sim.hardware.residency import L2Policy
from sim.hardware.spec import available_chips
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.kernel.operators import Traffic
from sim.resources import (
    chip_dirs,
    engine_dirs,
    expected_names,
    model_dirs,
    named_models,
    scenario_dirs,
)
from sim.scenario.engines import available_engines
from sim.scenario.load import available_scenarios, load_scenario
from sim.scenario.scenario import Grid, ReportOptions, Routing, RoutingKind, Scenario, Simulation

GOOD = """\
title = "A small one"
hardware = "h100-sxm"
[grid]
batch = [1, 8]
context = [512]
[[contestants]]
model = "llama-3.2-1b"
[[contestants]]
name = "MoE"
model = "olmoe-1b-7b-0924"
weights = "fp8"
kv = "fp8"
routing = { kind = "zipf", exponent = 1.5, draws = 2 }
[simulation]
granule = "8 KiB"
symmetry = "off"
[report]
timeline = true
"""
Write = Callable[..., Scenario]
Told = Callable[..., list[str]]
CHIPS = expected_names(available_chips(chip_dirs()), what="chip")
MODELS = expected_names(tuple(named_models(model_dirs())), what="model")
ENGINES = expected_names(available_engines(engine_dirs()), what="engine")
WEIGHTS = f"one of {', '.join(WEIGHT_FORMATS)}"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes a scenario into the current directory and loads it."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str) -> Scenario:
        (tmp_path / "s.toml").write_text(text)
        return load_scenario("s.toml", overrides)

    return load


@pytest.fixture
def problems(write: Write) -> Told:
    """Return a function that gives the problems of GOOD after some replacements."""

    def told(*changes: tuple[str, str], sets: tuple[str, ...] = ()) -> list[str]:
        text = GOOD
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        with pytest.raises(ScenarioError) as caught:
            write(text, *sets)
        return str(caught.value).split("\n")

    return told


def test_everything_in_a_scenario_is_resolved(write: Write) -> None:
    """Names become chip, engine, models and formats; text becomes numbers."""
    scenario = write(GOOD)
    small, moe = scenario.contestants
    assert (scenario.name, scenario.title, scenario.seed) == ("s", "A small one", 0)
    assert scenario.hardware.name == "h100-sxm"
    assert scenario.engine.name == "cuda_graph"
    assert scenario.grid == Grid(batches=(1, 8), contexts=(512,))
    assert (small.name, small.model.name, small.routing) == ("llama-3.2-1b",) * 2 + (Routing(),)
    assert (small.weights, small.kv) == (WEIGHT_FORMATS["bf16"], KV_FORMATS["bf16"])
    assert (moe.name, moe.weights, moe.kv) == ("MoE", WEIGHT_FORMATS["fp8"], KV_FORMATS["fp8"])
    assert moe.routing == Routing(kind=RoutingKind.ZIPF, exponent=1.5, draws=2)
    assert scenario.simulation == Simulation(granule_bytes=8192, symmetry=False)
    assert scenario.report == ReportOptions(report=True, timeline=True)


def test_l2_of_a_scenario(write: Write) -> None:
    """Its size replaces the chip's, and says so; the other knobs are the simulation's."""
    plain = write(GOOD)
    assert (plain.simulation.l2_policy, plain.simulation.l2_kept) == (L2Policy(), False)
    sets = (
        "l2.capacity=100 MiB",
        "l2.policy=lru",
        'l2.pinned=["kv"]',
        "l2.pinned_size=8 MiB",
        "l2.between_steps=kept",
    )
    scenario = write(GOOD, *sets)
    pinned = L2Policy(lru=True, pinned=frozenset({Traffic.KV}), pinned_bytes=8 << 20)
    assert scenario.simulation.l2_policy == pinned
    assert scenario.simulation.l2_kept
    assert scenario.hardware.l2_bytes == 100 << 20
    assert scenario.hardware.notes[-1] == "L2 is 100 MiB in this scenario, 50 on the chip."
    assert scenario.hardware.fingerprint() != plain.hardware.fingerprint()


def test_l2_knobs_that_make_no_sense_are_refused(problems: Told) -> None:
    """A cache as large as memory, a region larger than the cache or without anything to keep."""
    assert problems(sets=("l2.capacity=1 TB", "l2.pinned_size=2 TB")) == [
        "--set l2.capacity: l2.capacity = 1 TB: is not smaller than HBM (expected a smaller L2)",
        "--set l2.pinned_size: l2.pinned_size = 2 TB: does nothing without pinned "
        "(expected both or neither)",
        "--set l2.pinned_size: l2.pinned_size = 2 TB: is larger than L2 "
        "(expected at most 1000000000000 B)",
    ]


def test_misspelt_names_are_told_with_the_nearest(problems: Told) -> None:
    """Chip, model, format and key, all at once."""
    assert problems(
        ('"h100-sxm"', '"h10-sxm"'),
        ('"llama-3.2-1b"', '"llama-3.2-1"'),
        ('weights = "fp8"', 'weights = "pf8"'),
        ("[simulation]", "[simulaton]"),
    ) == [
        f's.toml:2:12: hardware = "h10-sxm": unknown chip (expected {CHIPS}; '
        "did you mean 'h100-sxm'?)",
        f's.toml:7:9: contestants.0.model = "llama-3.2-1": unknown model (expected {MODELS}; '
        "did you mean 'llama-3.2-1b'?)",
        f's.toml:11:11: contestants.1.weights = "pf8": unknown weight format (expected {WEIGHTS}; '
        "did you mean 'fp8'?)",
        "s.toml:14:2: simulaton: unknown key (expected one of title, hardware, engine, seed, grid, "
        "contestants, simulation, l2, report; did you mean 'simulation'?)",
    ]


def test_numbers_that_cannot_be_are_refused(problems: Told) -> None:
    """Batches start at 1 and stand once; an axis is not empty; a granule has a unit."""
    assert problems(("[1, 8]", "[0, -1, 8, 8, 2.5]"), ("[512]", "[]"), ('"8 KiB"', '"8 kib"')) == [
        "s.toml:4:10: grid.batch.0 = 0: is too small (expected 1 or more)",
        "s.toml:4:13: grid.batch.1 = -1: is too small (expected 1 or more)",
        "s.toml:4:20: grid.batch.3 = 8: stands in this list already",
        "s.toml:4:23: grid.batch.4 = 2.5: is not an integer (expected an integer)",
        "s.toml:5:11: grid.context = []: is too short (expected 1 or more values)",
        's.toml:15:11: simulation.granule = "8 kib": is not a granule '
        '(expected "auto" or a size such as "8 KiB")',
    ]


def test_a_missing_key_is_told_at_its_table(problems: Told) -> None:
    """In the file, in a table, and in one of several tables."""
    assert problems(
        ('title = "A small one"\n', ""),
        ("batch = [1, 8]\n", ""),
        ('model = "olmoe-1b-7b-0924"', ""),
    ) == [
        "s.toml:1:1: title: is missing",
        "s.toml:2:2: grid.batch: is missing",
        "s.toml:6:1: contestants.1.model: is missing",
    ]


def test_several_gpus_may_share_a_model(write: Write) -> None:
    """A model too large for one is not refused for two."""
    text = GOOD.replace('"llama-3.2-1b"', '"llama-3.1-70b"\ntensor_parallel = 2')
    contestants = write(text).contestants
    assert [contestant.tensor_parallel for contestant in contestants] == [2, 1]


def test_gpus_that_cannot_share_are_told(problems: Told) -> None:
    """More than a node has; a number that is none."""
    assert problems(('kv = "fp8"', "tensor_parallel = 16")) == [
        "s.toml:12:19: contestants.1.tensor_parallel = 16: h100-sxm: no way joins 16 GPUs of a node"
    ]
    assert problems(('kv = "fp8"', "tensor_parallel = 0")) == [
        "s.toml:12:19: contestants.1.tensor_parallel = 0: is too small (expected 1 or more)"
    ]


def test_labels_are_unique(problems: Told) -> None:
    """A name may not repeat another name, nor the model that stands for one."""
    assert problems(('"MoE"', '"llama-3.2-1b"')) == [
        "s.toml:9:8: contestants.1.name = \"llama-3.2-1b\": 'llama-3.2-1b' is also the name of "
        "contestants.0 (expected a name of its own)"
    ]


@pytest.mark.parametrize(
    ("routing", "place", "message"),
    [
        ('{ kind = "zipf" }', "11:11", "exponent: is missing: zipf routing needs it"),
        (
            '{ kind = "zipf", exponent = 0 }',
            "11:39",
            "exponent = 0: is too small (expected more than 0)",
        ),
        (
            '{ kind = "uniform", exponent = 1.5 }',
            "11:42",
            "exponent = 1.5: is of no use to uniform routing (expected zipf routing)",
        ),
        ('{ kind = "counts" }', "11:11", "counts: is missing: counts routing needs it"),
        (
            '{ kind = "counts", counts = [8, 8] }',
            "11:39",
            "counts = [8, 8]: has 2 counts (expected one for each of 64 experts)",
        ),
        (
            '{ kind = "even" }',
            "11:20",
            'kind = "even": unknown routing (expected one of uniform, zipf, balanced, counts)',
        ),
    ],
)
def test_a_routing_that_makes_no_sense_is_refused(
    problems: Told,
    routing: str,
    place: str,
    message: str,
) -> None:
    """Options without their routing, a routing without its options, wrong sizes."""
    told = problems(
        ('weights = "fp8"\nkv = "fp8"\n', ""),
        ('{ kind = "zipf", exponent = 1.5, draws = 2 }', routing),
    )
    assert told == [f"s.toml:{place}: contestants.1.routing.{message}"]


def test_counts_must_route_every_batch(problems: Told) -> None:
    """A draw for one batch is no draw for another: 64 experts, top 8."""
    counts = f"[{', '.join(['1'] * 8 + ['0'] * 56)}]"
    (told,) = problems(('kind = "zipf", exponent = 1.5', f'kind = "counts", counts = {counts}'))
    assert told.endswith(
        "holds 8 choices and up to 1 for one expert, which is no routing of batch 8 "
        "(expected 64 choices, at most 8 for one expert)"
    )


def test_a_model_without_experts_has_no_routing(problems: Told) -> None:
    """Also if `--set` made the routing, which is then the place."""
    assert problems(sets=("contestants.0.routing.kind=balanced",)) == [
        "--set contestants.0.routing.kind: contestants.0.routing: "
        "llama-3.2-1b has no experts to route to (expected no routing)"
    ]


def test_a_format_that_the_chip_cannot_compute_is_refused(problems: Told) -> None:
    """Ampere has no fp8 tensor cores; formats that it computes in 16 bits are offered."""
    assert problems(('"h100-sxm"', '"a100-sxm-80gb"')) == [
        's.toml:11:11: contestants.1.weights = "fp8": a100-sxm-80gb has no fp8 tensor rate '
        "(expected one of bf16, fp16, int8, int8_w8a8, int4, q4_k_m, q4_k, "
        "q2_k_m, q8_0, q4_0, q4_0_qat, "
        "int8_linear, int4_g32, mxfp4, mxfp4_q8)"
    ]


def test_a_model_that_fits_at_no_point_is_refused(problems: Told) -> None:
    """The smallest point decides, and the message says what takes the room."""
    assert problems(('"h100-sxm"', '"rtx4090"'), ('"llama-3.2-1b"', '"qwen3-32b"')) == [
        's.toml:7:9: contestants.0.model = "qwen3-32b": does not fit at any point: '
        "needs 65.7 GB of 25.8 GB: weights 65.5, KV 0.1"
    ]


def test_a_model_that_fits_at_some_point_is_accepted(write: Write) -> None:
    """What does not fit only at large points is for the run to tell."""
    assert write(GOOD, "grid.batch=[1, 4096]", "grid.context=[131072]").grid.batches == (1, 4096)


def test_overrides_are_checked_like_the_file(problems: Told) -> None:
    """Their problems come last and name the option as the place."""
    assert problems(
        ('"h100-sxm"', '"h10-sxm"'),
        sets=("contestants.0.weights=fp9", "grid.batch=[1, 0]", "engine=eagre", "nonsense"),
    ) == [
        f's.toml:2:12: hardware = "h10-sxm": unknown chip (expected {CHIPS}; '
        "did you mean 'h100-sxm'?)",
        "--set nonsense: is no change (expected KEY=VALUE)",
        "--set grid.batch: grid.batch.1 = 0: is too small (expected 1 or more)",
        "--set contestants.0.weights: contestants.0.weights = fp9: unknown weight format "
        f"(expected {WEIGHTS}; did you mean 'fp8'?)",
        f"--set engine: engine = eagre: unknown engine (expected {ENGINES}; did you mean 'eager'?)",
    ]


def test_overrides_change_the_scenario(write: Write) -> None:
    """A bare word is text, anything else TOML."""
    scenario = write(GOOD, "hardware=h200-sxm", "contestants.0.name=small", "grid.batch=[3]")
    assert scenario.hardware.name == "h200-sxm"
    assert scenario.contestants[0].name == "small"
    assert scenario.grid.batches == (3,)


def test_paths_start_at_the_scenario(write: Write, tmp_path: Path) -> None:
    """A spec beside the scenario is found, and its problems are told at the reference."""
    (tmp_path / "mine.toml").write_text("[chip]\nname = 3\n")
    with pytest.raises(ScenarioError) as caught:
        write(GOOD.replace("h100-sxm", "mine.toml"))
    first = str(caught.value).split("\n")[0]
    assert first.startswith('s.toml:2:12: hardware = "mine.toml": mine.toml:1:1: sm: is missing')


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in available_scenarios(scenario_dirs())
        if not name.startswith(("serve_", "microscope_"))
    ],
)
def test_every_shipped_scenario_is_valid(name: str) -> None:
    """Each resolves, and compares at least two contestants."""
    scenario = load_scenario(name)
    assert scenario.name == name
    assert len(scenario.contestants) > 1


def test_an_unknown_scenario_is_told_with_the_nearest() -> None:
    """The names that could be meant are those of the folders."""
    with pytest.raises(ScenarioError, match="did you mean 'moe_vs_dense'"):
        load_scenario("moe_vs_dens")
