"""Checks of a model that several GPUs share: the chip must reach so many, the model divide."""

from collections.abc import Iterator

from sim.errors import InputError
from sim.hardware.link import Route
from sim.hardware.spec import ChipSpec
from sim.model.architecture import Model
from sim.model.parallel import shard


def check_parallel(
    chip: ChipSpec, model: Model, *, tensor: int = 1, data: int = 1, expert: int = 1
) -> list[str]:
    """Return everything that keeps `tensor` x `data` GPUs of this chip from sharing a model.

    Data-parallel GPUs that do not share experts (`expert` 1) need no link.
    """
    return [*_link_problems(chip, tensor, data, expert), *_model_problems(model, tensor, expert)]


def _link_problems(chip: ChipSpec, tensor: int, data: int, expert: int) -> Iterator[str]:
    ranks = tensor * data
    if expert not in (1, ranks):
        yield f"the experts are spread over {expert} GPUs, but {ranks} step together"
    together = tensor if expert == 1 else ranks
    if together == 1:
        return
    try:
        Route.of(chip, together, together)
    except InputError as error:
        yield from (f"{chip.name}: {problem.message}" for problem in error.problems)


def _model_problems(model: Model, tensor: int, expert: int) -> Iterator[str]:
    try:
        shard(model, tensor=tensor, expert=expert)
    except ValueError as error:
        yield str(error)
