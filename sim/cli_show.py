"""The `list` and `show` commands."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from sim.cli_table import aligned, in_columns, wrapped
from sim.errors import InputError
from sim.hardware.spec import find_chip, load_chip
from sim.model.architecture import Layer, Model
from sim.resources import (
    chip_dirs,
    engine_dirs,
    model_dirs,
    named_files,
    named_models,
    scenario_dirs,
)
from sim.scenario.references import find_model
from sim.toml_source import KeyPath, read_toml


def listing(kinds: Iterable[str]) -> str:
    """Return the names of these kinds (chips, models, engines, scenarios) for people."""
    return "\n\n".join("\n".join((f"{kind}:", *_listed(kind))) for kind in kinds)


def _listed(kind: str) -> list[str]:
    if kind == "models":
        return in_columns(tuple(named_models(model_dirs())))
    dirs, key = {
        "chips": (chip_dirs, ("chip", "title")),
        "engines": (engine_dirs, ("note",)),
        "scenarios": (scenario_dirs, ("title",)),
    }[kind]
    return _titled(named_files(dirs()), key)


def _titled(files: dict[str, Path], key: KeyPath) -> list[str]:
    width = max(map(len, files), default=0) + 2
    return [
        line
        for name, path in files.items()
        for line in wrapped(_first_sentence(path, key), first=name.ljust(width), rest=" " * width)
    ]


def _first_sentence(path: Path, key: KeyPath) -> str:
    try:
        text = read_toml(path).get(key)
    except InputError:
        return "(not readable as TOML)"
    return text.split(". ")[0].rstrip(".") if isinstance(text, str) else ""


def chip_text(name: str) -> str:
    """Return every number of a chip as its spec has it, with kind and source."""
    chip = load_chip(name, chip_dirs())
    written = read_toml(find_chip(name, chip_dirs()))
    types = chip.hbm_type if chip.link is None else f"{chip.hbm_type}, {chip.link.type}"
    lines = [f"{chip.name}: {chip.title} ({chip.generation}, {types})"]
    for section, keys in groupby(chip.provenance, key=lambda dotted: dotted.rpartition(".")[0]):
        lines += ["", f"[{section}]"]
        for dotted in keys:
            kind, source = chip.provenance[dotted]
            value = written.get((*dotted.split("."), "value"))
            lines.append(f"{dotted.rpartition('.')[2]} = {value} ({kind})")
            lines += wrapped(source, first="    ", rest="    ")
    return "\n".join([*lines, *(line for note in chip.notes for line in ("", *wrapped(note)))])


def model_text(name: str) -> str:
    """Return what a model is made of: parameters, layers, and what is not simulated."""
    model = find_model(name)
    facts = [
        ("family", model.family),
        ("parameters", f"{model.parameters():,}"),
        ("active per token", f"{model.active_parameters():,}"),
        ("hidden", f"{model.hidden:,}"),
        ("vocabulary", f"{model.vocab:,}{' (tied)' if model.tied_embeddings else ''}"),
        ("layers", str(len(model.layers))),
    ]
    if model.moe:
        facts.append(("experts", f"{model.moe.top_k} of {model.moe.n_experts} per token"))
    lines = [f"{model.name} ({model.model_type})", "", *aligned(facts, left={0, 1})]
    lines += ["", *_layer_lines(model)]
    lines += [line for note in model.notes for line in ("", *wrapped(f"Not simulated: {note}"))]
    return "\n".join(lines)


def _layer_lines(model: Model) -> Sequence[str]:
    """Return each kind of layer with its number, most frequent first."""
    return [
        line
        for layer, count in Counter(model.layers).most_common()
        for line in wrapped(f"{count} x {_described(layer)}")
    ]


def _described(layer: Layer) -> str:
    return ", then ".join(
        " beside ".join(type(branch.component).__name__ for branch in sublayer.branches)
        for sublayer in layer.sublayers
    )
