"""Importer: from a model's name or a config.json to a Model, or to all that is wrong with it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sim.errors import ModelError, Problem, nearest
from sim.model.aliases import model_ids, model_named
from sim.model.architecture import Model
from sim.model.config import Config, read_config
from sim.model.families.common import with_notes
from sim.model.families.registry import BUILDERS

CONFIG_NAME = "config.json"
VISION_NOTE = "The vision tower of this multimodal model is not simulated."


def load_model(name_or_path: str, *, search_dirs: Sequence[Path]) -> Model:
    """Return the model that a name or a path stands for.

    A bare name is looked up as NAME/config.json in `search_dirs`, in order; anything else is the
    path of a config.json or of a folder with one, or an id in `aliases.toml`. Raises ModelError
    with every problem of the file: unknown name, unreadable or broken JSON, unsupported
    `model_type`, missing or wrong fields.
    """
    config = read_config(_locate(name_or_path, search_dirs))
    builder = _builder(config)
    model = builder(config)
    config.finish()
    return with_notes(model, VISION_NOTE) if "vision_config" in config else model


def known_models(search_dirs: Sequence[Path]) -> tuple[str, ...]:
    """Return the names that `load_model` finds in these folders, sorted."""
    return tuple(
        sorted({path.parent.name for each in search_dirs for path in each.glob(f"*/{CONFIG_NAME}")})
    )


def _locate(name_or_path: str, search_dirs: Sequence[Path]) -> Path:
    found = _named(name_or_path, search_dirs)
    path = Path(name_or_path)
    if found is None and path.is_dir() and (path / CONFIG_NAME).is_file():
        return path / CONFIG_NAME
    if found is None and path.is_file():
        return path
    found = found or _named(model_named(name_or_path, search_dirs), search_dirs)
    if found is not None:
        return found
    known = (*known_models(search_dirs), *model_ids(search_dirs))
    folders = ", ".join(str(folder) for folder in search_dirs) or "no folder"
    raise ModelError(
        [
            Problem(
                file=name_or_path,
                message="is no model",
                expected=f"a folder in {folders}, or the path of a {CONFIG_NAME}",
                nearest=nearest(name_or_path, known),
            )
        ]
    )


def _named(name: str, search_dirs: Sequence[Path]) -> Path | None:
    if "/" not in name and not name.endswith(".json"):
        for folder in search_dirs:
            path = folder / name / CONFIG_NAME
            if path.is_file():
                return path
    return None


def _builder(config: Config) -> Callable[[Config], Model]:
    key = "model_type"
    if key not in config:
        problem = Problem(file=config.file, key=key, message="is missing", expected=_supported())
        raise ModelError([problem])
    model_type = config.word(key, default="")
    config.finish()
    if model_type not in BUILDERS:
        near = nearest(model_type, tuple(BUILDERS))
        config.wrong(key, "is not supported", expected=_supported(), near=near)
        config.finish()
    return BUILDERS[model_type]


def _supported() -> str:
    return f"one of {', '.join(BUILDERS)}"
