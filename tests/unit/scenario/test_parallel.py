"""`sim.scenario.parallel`: what keeps GPUs from sharing a model is told, all of it."""

from sim.hardware.spec import load_chip
from sim.model.importer import load_model
from sim.resources import chip_dirs, model_dirs
from sim.scenario.parallel import check_parallel


def told(chip: str, model: str, **gpus: int) -> list[str]:
    spec = load_chip(chip, chip_dirs())
    return check_parallel(spec, load_model(model, search_dirs=model_dirs()), **gpus)  # type: ignore[arg-type]


def test_what_fits_is_told_nothing() -> None:
    """Tensor-parallel, expert-parallel, replicas without a link."""
    assert told("RTXPRO6000", "qwen3-32b", tensor=2) == []
    assert told("RTXPRO6000", "qwen3-30b-a3b", tensor=1, data=2, expert=2) == []
    assert told("l4", "qwen3-8b", tensor=1, data=4) == []


def test_link_and_model_are_told_together() -> None:
    """A chip without a link, a model whose heads are odd."""
    assert told("l4", "falcon-7b", tensor=2) == [
        "l4: this chip has no [link], so it cannot take part in a collective",
        "falcon-7b cannot be shared by GPUs: 2 does not divide 71 query heads",
    ]


def test_more_gpus_than_a_node_has_are_told() -> None:
    """Sixteen in a node of eight."""
    assert told("h100-sxm", "qwen3-32b", tensor=16) == ["h100-sxm: no way joins 16 GPUs of a node"]


def test_experts_lie_on_the_gpus_that_step_together() -> None:
    """Four GPUs for the experts of two."""
    assert told("h100-sxm", "qwen3-30b-a3b", tensor=1, data=2, expert=4) == [
        "the experts are spread over 4 GPUs, but 2 step together"
    ]
