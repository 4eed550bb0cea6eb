"""`sim.scenario.serve_load`: a serving scenario is resolved whole or refused with every reason."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from sim.errors import ScenarioError
from sim.resources import named_files, scenario_dirs
from sim.scenario.load import load_any, load_scenario
from sim.scenario.serve_scenario import ServeScenario
from sim.serving.config import Slo, Speculation

GOOD = """\
title = "A small one"
hardware = "h100-sxm"
model = "llama-3.2-1b"
seed = 3
[serve]
max_num_seqs = 8
max_num_batched_tokens = 256
[serve.traffic]
requests = 5
arrivals = { law = "poisson", rate_per_s = 2 }
input_tokens = { law = "fixed", tokens = 100 }
output_tokens = { law = "uniform", least = 2, most = 9 }
[serve.slo]
ttft = "1 s"
[serve.sweep]
rates = [0.5, 2]
max_rate = true
"""
Write = Callable[..., ServeScenario]
Told = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes a scenario into the current directory and loads it."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str) -> ServeScenario:
        (tmp_path / "s.toml").write_text(text)
        loaded = load_any("s.toml", overrides)
        assert isinstance(loaded, ServeScenario)
        return loaded

    return load


@pytest.fixture
def told(write: Write) -> Told:
    """Return a function that loads a scenario and returns what is said about it."""

    def problems(text: str, *overrides: str) -> list[str]:
        with pytest.raises(ScenarioError) as caught:
            write(text, *overrides)
        return [str(problem) for problem in caught.value.problems]

    return problems


def test_a_scenario_says_what_it_serves_and_how(write: Write) -> None:
    """Traffic is drawn, arguments are as said, else vLLM's defaults."""
    loaded = write(GOOD)
    assert len(loaded.trace.requests) == 5
    assert {request.input_tokens for request in loaded.trace.requests} == {100}
    (contestant,) = loaded.contestants
    assert contestant.name == "llama-3.2-1b"
    assert contestant.engine.name == "vllm"
    assert (contestant.config.max_num_seqs, contestant.config.block_tokens) == (8, 16)
    assert contestant.config.policy == "chunked_prefill"
    assert loaded.slo == Slo(ttft_ps=10**12)
    assert loaded.sweep is not None
    assert loaded.sweep.rates == (Fraction(1, 2), Fraction(2))


def test_contestants_differ_in_what_they_say(write: Write) -> None:
    """A contestant's own keys come before those of the file."""
    loaded = write(
        GOOD
        + """
[[contestants]]
name = "as it is"
[[contestants]]
name = "fp8 apart"
weights = "fp8"
serve = { replicas = 2, prefill_replicas = 1, max_num_seqs = 4 }
[[contestants]]
name = "draft"
model = "llama-3.1-8b"
serve.speculation = { draft_model = "llama-3.2-1b", draft_tokens = 2, acceptance = [0.5, 0.25] }
"""
    )
    plain, apart, draft = loaded.contestants
    assert (plain.config.max_num_seqs, plain.config.replicas) == (8, 1)
    assert (apart.config.max_num_seqs, apart.config.prefill_replicas) == (4, 1)
    assert apart.weights.name == "fp8"
    assert draft.config.speculation == Speculation(draft_tokens=2, acceptance=(0.5, 0.25))
    assert draft.draft is not None
    assert draft.draft.name == "llama-3.2-1b"


def test_a_measured_run_brings_its_settings(write: Write) -> None:
    """What the run states holds unless the scenario says otherwise."""
    text = (
        'title = "m"\nhardware = "rtx4090"\nmodel = "llama-3.1-8b"\n'
        '[serve]\ntrace = "vllm_rtx4090_llama-3.1-8b"\n'
    )
    (as_stated,) = write(text).contestants
    assert as_stated.config.max_num_seqs == 256
    assert as_stated.config.kv_blocks == 2588
    assert as_stated.config.max_model_len == 32768
    (changed,) = write(text, "serve.num_gpu_blocks=1000").contestants
    assert changed.config.kv_blocks == 1000


def test_every_problem_is_told_at_once(told: Told) -> None:
    """Unknown keys, laws, models and impossible limits, each where it stands."""
    text = GOOD.replace('"llama-3.2-1b"', '"llama-3.2-1bb"')
    problems = told(text, "serve.polcy=static", "serve.max_num_seqs=512")
    assert [problem.partition(" (")[0] for problem in problems] == [
        's.toml:3:9: model = "llama-3.2-1bb": unknown model',
        "--set serve.polcy: serve.polcy: unknown key",
    ]
    assert "did you mean 'llama-3.2-1b'?" in problems[0]
    assert "did you mean 'policy'?" in problems[1]


def test_a_law_that_nobody_knows_is_told_where_it_stands(told: Told) -> None:
    """With the laws that there are, and the nearest."""
    (problem,) = told(GOOD.replace('law = "poisson"', 'law = "poison"'))
    assert problem.startswith("s.toml:10:20: serve.traffic.arrivals.law")
    assert "did you mean 'poisson'?" in problem


def test_settings_that_exclude_each_other_are_told(told: Told) -> None:
    """Where they stand, with what would be right."""
    assert told(GOOD, "serve.max_num_seqs=512") == [
        "s.toml:7:26: serve.max_num_batched_tokens = 256: is less than max_num_seqs (512): a step "
        "could not hold its decodes (expected 512 or more)"
    ]
    assert told(GOOD, "serve.prefill_replicas=1") == [
        "--set serve.prefill_replicas: serve.prefill_replicas = 1: leaves none of 1 replicas to "
        "decode (expected fewer than replicas)"
    ]
    assert told(GOOD, "model=llama-3.1-70b") == [
        "s.toml:5:2: serve: llama-3.1-70b leaves no room for KV on h100-sxm: weights 141.1, "
        "activations 0.0, runtime 0.1 GB of 77.0 GB (0.9 of its memory)"
    ]


def test_traffic_and_a_trace_exclude_each_other(told: Told) -> None:
    """One of them must be there."""
    assert told(GOOD, "serve.trace=azure2023_code") == [
        "--set serve.trace: serve.trace = azure2023_code: stands beside traffic "
        "(expected one of them)"
    ]
    bare = 'title = "t"\nhardware = "h100-sxm"\nmodel = "llama-3.2-1b"\n[serve]\n'
    assert told(bare) == ["s.toml:4:2: serve: needs a trace or traffic (expected one of them)"]


def test_a_serving_scenario_is_no_grid_of_points(tmp_path: Path) -> None:
    """`load_scenario` says so."""
    path = tmp_path / "s.toml"
    path.write_text(GOOD)
    with pytest.raises(ScenarioError, match="grid"):
        load_scenario(str(path))


@pytest.mark.parametrize(
    "name", [name for name in named_files(scenario_dirs()) if name.startswith("serve_")]
)
def test_shipped_serving_scenarios_load(name: str) -> None:
    """With contestants and requests."""
    loaded = load_any(name)
    assert isinstance(loaded, ServeScenario)
    assert loaded.contestants
    assert loaded.trace.requests
