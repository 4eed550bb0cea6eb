"""`python -m analysis.calibrate`: fits physical parameters of a chip to measured rows.

A parameter is one number of the chip's spec, shared by every kernel: a latency, a launch gap, an
efficiency, a sustained rate. The fit minimises the robust (soft L1) squared logarithm of predicted
over measured time, by `scipy.optimize.least_squares`. Held-out errors come from k folds over groups
of shapes (or models), so that no shape is judged by a fit that saw it.
"""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

from analysis.command import run
from analysis.validate.case import Case, Row, UnpredictableError
from analysis.validate.predict import Plan, Prediction, simulate
from analysis.validate.score import references, score
from analysis.validate.tables import TABLES, Table, read_table
from sim.errors import InputError, Problem, nearest
from sim.hardware.spec import ChipSpec, find_chip, load_chip
from sim.resources import chip_dirs

# A parameter may move by this factor either way: beyond it the model is wrong, not the number.
_MOST: Final = 2.5
# Errors beyond this (in logarithms) count linearly: outliers must not steer the fit.
_ROBUST: Final = 0.1
_DIFFERENCE: Final = 0.03
_EVALUATIONS: Final = 12


_AS_STATED: Final = ", as stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A number of the spec: its field in ChipSpec, how it is written, and its largest value."""

    field: str
    text: Callable[[float], str]
    highest: float = math.inf
    whole: bool = True


def _ns(ps: float) -> str:
    return f'"{ps / 1000:.4g} ns"'


def _tb(rate: float) -> str:
    return f'"{rate / 1e12:.4g} TB/s"'


def _ratio(value: float) -> str:
    return f"{value:.3f}"


PARAMETERS: Final = MappingProxyType(
    {
        "hbm.read_efficiency": Parameter(
            field="read_efficiency", text=_ratio, highest=1, whole=False
        ),
        "hbm.copy_efficiency": Parameter(
            field="copy_efficiency", text=_ratio, highest=1, whole=False
        ),
        "hbm.tile_efficiency": Parameter(
            field="tile_efficiency", text=_ratio, highest=1, whole=False
        ),
        "hbm.latency": Parameter(field="hbm_latency_ps", text=_ns),
        "l2.bandwidth": Parameter(field="l2_bytes_per_s", text=_tb),
        "l2.latency": Parameter(field="l2_latency_ps", text=_ns),
        "sm.step_latency": Parameter(field="step_latency_ps", text=_ns),
        "tensor.sustained_fraction": Parameter(
            field="sustained_fraction", text=_ratio, highest=1, whole=False
        ),
        "launch.cuda_graph_gap": Parameter(field="cuda_graph_gap_ps", text=_ns),
        "launch.graph_to_graph_gap": Parameter(field="graph_to_graph_gap_ps", text=_ns),
        "launch.kernel_start": Parameter(field="kernel_start_ps", text=_ns),
    }
)
# The columns that make a group of rows that are held out together: shapes, not batch sizes.
_GROUPS: Final = MappingProxyType(
    {
        "gemm": ("n", "k"),
        "attention_decode": ("n_q_heads", "n_kv_heads", "head_dim", "window"),
        "attention_prefill": ("n_q_heads", "n_kv_heads", "head_dim", "window"),
        "mla_decode": ("n_q_heads", "op"),
        "moe": ("hidden", "inter", "n_experts", "topk"),
        "ssm": ("model", "kernel"),
        "norm_activation": ("op", "hidden"),
        "decode_e2e": ("model",),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A measured row that takes part: its case, its time and the group it is held out with."""

    table: Table
    row: Row
    case: Case
    measured: float
    group: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Fitted values by key in base units, and median absolute errors of both halves."""

    values: dict[str, float]
    train: float
    held_out: float | None


def with_values(chip: ChipSpec, values: dict[str, float]) -> ChipSpec:
    """Return the chip with other parameters.

    Efficiencies of HBM are what is fitted, so no table of its memory may stand in for them.
    """
    changes: dict[str, int | Fraction | str] = {}
    if any(key.startswith("hbm.") for key in values):
        changes["hbm_type"] = f"{chip.hbm_type.removesuffix(_AS_STATED)}{_AS_STATED}"
    for key, value in values.items():
        parameter = PARAMETERS[key]
        whole = round(value)
        changes[parameter.field] = (
            whole if parameter.whole else Fraction(value).limit_denominator(10_000)
        )
    return replace(chip, **changes)  # type: ignore[arg-type]


def log_ratios(chip: ChipSpec, samples: Sequence[Sample], jobs: int) -> list[float]:
    """Return ln(predicted / measured) of every sample."""
    plans = [Plan(chip, sample.case) for sample in samples]
    found = simulate(set(plans), jobs=jobs)
    return [
        math.log(float(found[plan]) / sample.measured)
        for plan, sample in zip(plans, samples, strict=True)
    ]


def fit(chip: ChipSpec, samples: Sequence[Sample], keys: Sequence[str], jobs: int = 1) -> ChipSpec:
    """Return the chip with the parameters `keys` fitted to `samples`."""
    from scipy.optimize import least_squares  # type: ignore[import-untyped]  # noqa: PLC0415 - slow

    start = [float(getattr(chip, PARAMETERS[key].field)) for key in keys]
    highest = [
        min(math.log(_MOST), math.log(PARAMETERS[key].highest / value))
        for key, value in zip(keys, start, strict=True)
    ]

    # The unknowns are 1 + ln(value / start): finite differences are relative and need them off 0.
    def changed(unknowns: Sequence[float]) -> ChipSpec:
        values = (value * math.exp(x - 1) for value, x in zip(start, unknowns, strict=True))
        return with_values(chip, dict(zip(keys, values, strict=True)))

    def residuals(unknowns: Sequence[float]) -> list[float]:
        return log_ratios(changed(unknowns), samples, jobs)

    solution = least_squares(
        residuals,
        x0=[min(1.0, 1 + top - 1e-3) for top in highest],
        bounds=([1 - math.log(_MOST)] * len(keys), [1 + top for top in highest]),
        loss="soft_l1",
        f_scale=_ROBUST,
        diff_step=_DIFFERENCE,
        max_nfev=_EVALUATIONS,
    )
    return changed(solution.x)


def median_error(chip: ChipSpec, samples: Sequence[Sample], jobs: int = 1) -> float:
    """Return the median absolute relative error of a chip on samples."""
    errors = [math.exp(x) - 1 for x in log_ratios(chip, samples, jobs)]
    return score(errors).median or 0.0


def folds(samples: Sequence[Sample], count: int) -> list[tuple[list[Sample], list[Sample]]]:
    """Return `count` pairs (train, held out); the groups of samples are dealt out in turn."""
    groups = sorted({(s.table.name, s.group) for s in samples})
    place = {group: i % count for i, group in enumerate(groups)}
    pairs = []
    for fold in range(min(count, len(groups))):
        out = [s for s in samples if place[s.table.name, s.group] == fold]
        pairs.append(([s for s in samples if place[s.table.name, s.group] != fold], out))
    return pairs


def read_samples(
    chip: ChipSpec, folder: Path, ops: Sequence[str], where: Sequence[str], step: int
) -> list[Sample]:
    """Return every `step`-th judged row of `ops` that is of this chip and passes all of `where`.

    Raises InputError for a table that cannot be read.
    """
    names = {chip.name, *chip.aliases}
    samples = []
    for op in ops:
        table = TABLES[op]
        rows = [
            row
            for row in read_table(folder / f"{op}.csv", table)
            if row["gpu"] in names and all(_passes(row, test) for test in where)
        ]
        best = references(table, [Prediction(row=row, predicted=None) for row in rows])
        for prediction in best[::step]:
            row = prediction.row
            try:
                case = table.case(row)
            except UnpredictableError:
                continue
            group = tuple(row.get(column, "") for column in _GROUPS.get(op, table.key))
            samples.append(
                Sample(table=table, row=row, case=case, measured=float(row[table.measured]),
                       group=group)
            )  # fmt: skip
    return samples


def _passes(row: Row, test: str) -> bool:
    """Tell whether a row passes `column=text`, `column<=number` or `column>=number`."""
    match = re.fullmatch(r"(\w+)(<=|>=|=)(.*)", test)
    if match is None:
        raise InputError(
            [Problem(file="--where", message="is no test", value=test, expected="column<=number")]
        )
    column, relation, text = match.groups()
    value = row.get(column, "")
    if relation == "=":
        return value == text
    if not value:
        return False
    return float(value) <= float(text) if relation == "<=" else float(value) >= float(text)


def rewritten(toml: str, values: dict[str, float], source: str) -> str:
    """Return the text of a spec with new values of kind "calibrated".

    Raises InputError if the spec does not hold a key on one line of its own.
    """
    for key, value in values.items():
        section, name = key.split(".")
        entry = f'{name} = {{ value = {PARAMETERS[key].text(value)}, kind = "calibrated", '
        entry += f'source = "{source}" }}'
        pattern = rf"(^\[{section}\]\n(?:(?!\[).*\n)*?){name} = \{{.*\}}$"
        replacement = rf"\g<1>{entry}"
        toml, count = re.subn(pattern, replacement, toml, flags=re.MULTILINE)
        if count != 1:
            raise InputError([Problem(file="spec", key=key, message="is not on one line")])
    return toml


@click.command()
@click.argument("chip")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--op", "ops", multiple=True, required=True, help="Table to fit to; repeatable.")
@click.option("--parameter", "keys", multiple=True, required=True, help="Key to fit; repeatable.")
@click.option("--where", multiple=True, help="Only rows with column=text, <=number or >=number.")
@click.option("--step", type=click.IntRange(min=1), default=5, help="Take every n-th row.")
@click.option("--folds", "n_folds", type=click.IntRange(min=2), default=4, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes [default: one per core].")
@click.option("--write", is_flag=True, help="Write the numbers into the spec.")
def main(  # noqa: PLR0913, PLR0917 - one argument per option
    chip: str,
    folder: Path,
    ops: tuple[str, ...],
    keys: tuple[str, ...],
    where: tuple[str, ...],
    step: int,
    n_folds: int,
    jobs: int | None,
    write: bool,
) -> None:
    """Fit parameters of CHIP to the measured tables in FOLDER and print the errors."""
    _check(ops, tuple(TABLES), "--op")
    _check(keys, tuple(PARAMETERS), "--parameter")
    workers = jobs or os.cpu_count() or 1
    spec = load_chip(chip, chip_dirs())
    samples = read_samples(spec, folder, ops, where, step)
    if not samples:
        raise InputError([Problem(file=str(folder), message=f"holds no such rows of {chip}")])
    click.echo(f"{len(samples)} rows; before: median {median_error(spec, samples, workers):.1%}")
    held_out = []
    for i, (train, out) in enumerate(folds(samples, n_folds), 1):
        fitted = fit(spec, train, keys, workers)
        held_out.append(median_error(fitted, out, workers))
        error = median_error(fitted, train, workers)
        click.echo(f"fold {i}: train {error:.1%}, held out {held_out[-1]:.1%}")
    fitted = fit(spec, samples, keys, workers)
    mean = sum(held_out) / len(held_out)
    click.echo(f"all: {median_error(fitted, samples, workers):.1%}, held out {mean:.1%} on average")
    values = {key: float(getattr(fitted, PARAMETERS[key].field)) for key in keys}
    for key, value in values.items():
        before = float(getattr(spec, PARAMETERS[key].field))
        text = PARAMETERS[key].text
        click.echo(f"{key}: {text(before)} -> {text(value)}")
    if write:
        tests = "".join(f", {test}" for test in where)
        origin = ", ".join(sorted({sample.row["source"] for sample in samples}))
        what = f"{len(samples)} rows of {', '.join(ops)}{tests} ({origin})"
        _write(chip, values, f"{what}; held out {mean:.1%}")


def _write(chip: str, values: dict[str, float], note: str) -> None:
    """Put the numbers into the chip's spec, with a note of what they were fitted to."""
    path = find_chip(chip, chip_dirs())
    source = f"analysis.calibrate {datetime.now(tz=UTC).date().isoformat()}: {note}"
    draft = path.with_suffix(".tmp")
    draft.write_text(rewritten(path.read_text(encoding="utf-8"), values, source), encoding="utf-8")
    draft.replace(path)


def _check(names: Sequence[str], known: Sequence[str], option: str) -> None:
    problems = [
        Problem(file=option, message="is not known", value=name, expected=", ".join(known),
                nearest=nearest(name, known))
        for name in names
        if name not in known
    ]  # fmt: skip
    if problems:
        raise InputError(problems)


if __name__ == "__main__":
    run(main)
