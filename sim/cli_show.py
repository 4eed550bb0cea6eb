"""The `list` and `show` commands."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path

from sim.cli_table import aligned, in_columns, wrapped
from sim.errors import InputError
from sim.hardware.spec import ChipSpec, load_chip
from sim.model import load_model
from sim.model.architecture import Layer, Model
from sim.resources import (
    chip_dirs,
    engine_dirs,
    model_dirs,
    named_files,
    named_models,
    scenario_dirs,
)
from sim.toml_source import KeyPath, read_toml
from sim.units import (
    format_bytes,
    format_flop_rate,
    format_frequency,
    format_rate,
    format_time,
)


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
    lines: list[str] = []
    for name, path in files.items():
        text = wrapped(f"{name:{width}}{_first_sentence(path, key)}")
        lines += [text[0], *(f"{'':{width}}{rest}" for rest in text[1:])]
    return lines


def _first_sentence(path: Path, key: KeyPath) -> str:
    try:
        text = read_toml(path).get(key)
    except InputError:
        return "(not readable as TOML)"
    return text.split(". ")[0].rstrip(".") if isinstance(text, str) else ""


def chip_text(name: str) -> str:
    """Return every number of a chip with its kind and source."""
    chip = load_chip(name, chip_dirs())
    lines = [f"{chip.name}: {chip.title} ({chip.generation}, {chip.hbm_type})"]
    for section, rows in groupby(_chip_rows(chip), key=lambda row: row[0].split(".")[0]):
        lines += ["", f"[{section}]"]
        for (key, value), (kind, source) in ((row, chip.provenance[row[0]]) for row in rows):
            lines.append(f"{key.split('.')[1]} = {value} ({kind})")
            lines += wrapped(source, indent="    ")
    lines += [line for note in chip.notes for line in ("", *wrapped(note))]
    return "\n".join(lines)


def _chip_rows(chip: ChipSpec) -> Iterator[tuple[str, str]]:
    yield "sm.count", str(chip.sm_count)
    yield "sm.clock", format_frequency(chip.clock_hz)
    yield "sm.shared_memory", f"{chip.shared_memory_bytes // 1024} KiB"
    yield "sm.max_ctas", str(chip.max_ctas)
    yield "sm.l2_port_bytes_per_clock", str(chip.l2_port_bytes_per_clock)
    yield "sm.vector_flop_per_s", format_flop_rate(chip.vector_flop_per_s)
    yield "sm.sfu_ops_per_clock", str(chip.sfu_ops_per_clock)
    for compute, rate in chip.tensor_flop_per_s.items():
        yield f"tensor.{compute}", format_flop_rate(rate)
    yield "tensor.sustained_fraction", _ratio(chip.sustained_fraction)
    yield "l2.capacity", format_bytes(chip.l2_bytes)
    yield "l2.bandwidth", format_rate(chip.l2_bytes_per_s)
    yield "l2.latency", format_time(chip.l2_latency_ps)
    yield "hbm.capacity", format_bytes(chip.hbm_bytes)
    yield "hbm.peak_bandwidth", format_rate(chip.hbm_bytes_per_s)
    yield "hbm.pseudo_channels", str(chip.pseudo_channels)
    yield "hbm.interleave", format_bytes(chip.interleave_bytes)
    yield "hbm.read_efficiency", _ratio(chip.read_efficiency)
    yield "hbm.copy_efficiency", _ratio(chip.copy_efficiency)
    yield "hbm.latency", format_time(chip.hbm_latency_ps)
    yield "launch.stream_gap", format_time(chip.stream_gap_ps)
    yield "launch.cuda_graph_gap", format_time(chip.cuda_graph_gap_ps)
    yield "launch.graph_to_graph_gap", format_time(chip.graph_to_graph_gap_ps)
    yield "launch.kernel_start", format_time(chip.kernel_start_ps)


def _ratio(value: Fraction) -> str:
    return f"{float(value):g}"


def model_text(name: str) -> str:
    """Return what a model is made of: parameters, layers, and what is not simulated."""
    model = load_model(name, search_dirs=model_dirs())
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
