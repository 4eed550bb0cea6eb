"""`python -m analysis.validate.trust FOLDER`: writes docs/how_far_to_trust_it.md, with figures."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import jinja2

from analysis.command import run
from analysis.figures.canvas import pixels, png_bytes, styled
from analysis.figures.validation import Dot, validation_figure
from analysis.validate.predict import Predictor
from analysis.validate.run import Options, Validation, progress_bar, validated
from analysis.validate.score import Judged, Score, judge, score, scores
from analysis.validate.tables import Table

_TEMPLATES: Final = Path(__file__).parent.parent / "templates"
_WORST: Final = 3
# Figures of a document that is read at the width of a page.
_WIDTH_PX: Final = 1400
# Whole steps are shown by how well their conditions are known, not by publication, too.
_STEPS, _GRADE = "decode e2e", "grade"
_SHOWN: Final = ("source", "time_us", "value", "notes", "l2", "gpu")
# What is known about the largest errors that are left, by selection.
EXPLANATIONS: Final[Mapping[str, str]] = {
    "gemm 16-bit": (
        "cuBLAS picks worse tiles than a tuner between 65 and 256 tokens on A100; rows of the "
        "LLMServingSim profiles (PyTorch, unknown L2 state) spread by a third around their trend."
    ),
    "gemm 16-bit m<=64": (
        "The same A100 shape comes in two states 10 % apart in the data; profiled rows of tiny "
        "matrices are floors of the profiler more than of the GPU."
    ),
    "gemm quantised": (
        "DeepGEMM takes twice the prediction between 129 and 256 tokens and large n; packed 4-bit "
        "weights on A100 run kernels whose K splits differ by shape."
    ),
    "attention decode": (
        "Waves of short CTAs whose keys come from HBM: equal CTAs stay in lockstep here, hardware "
        "spreads them out. fp8 caches of 16 to 64 MB on H100 are read at half of L2's rate; "
        "FlashInfer reads many sequences slower than few long ones."
    ),
    "attention prefill": (
        "Short sequences in large batches: queries and outputs that exceed L2 together, and fp8 "
        "kernels of L40S, are read and multiplied as if they did not."
    ),
    "attention mixed": (
        "32 and 64 decodes of 16,384 tokens beside a chunk: heads that share keys drift apart in "
        "hardware and read them from memory again."
    ),
    "mla decode": (
        "The batched products around latent attention are cuBLAS batches of tiny matrices, "
        "predicted as grouped GEMMs; fp8 with 64 or 128 heads and short contexts has a slower "
        "kernel than FlashMLA's bf16 one."
    ),
    "moe balanced": (
        "fp8 layers of Llama 4 on H100 take five times as long in both engines that ran them as in "
        "any other format, for a reason we do not know; default tiles with 8,192 tokens on A100 "
        "lose another quarter where activations exceed L2."
    ),
    "moe other routing": (
        "The tables name an exponent, not the experts drawn: loads are reconstructed as ranks of a "
        "power law."
    ),
    "ssm decode": (
        "States as large as L2: how many lines survive until the next replay is a fraction here, "
        "and an order of accesses there. Convolutions of a few channels are floors of the harness."
    ),
    "ssm prefill": (
        "Short prefills are chains of five to seven launches with 2 us of work each; scans of many "
        "thousand tokens on H100 hide more of their turns than is predicted."
    ),
    "norm activation": (
        "Residual adds and single long rows in the Vidur profiles (1 us resolution) find less in "
        "L2 than the kernel before them should have left."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One selection of the document."""

    name: str
    slug: str
    figure: str
    des: Mapping[str, Score]
    roofline: Mapping[str, Score]
    worst: Sequence[str]
    explanation: str


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--out", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
@click.option("--sample", type=click.IntRange(min=1), default=1, help="Only every n-th key.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes [default: one per core].")
def main(folder: Path, out: Path, sample: int, jobs: int | None) -> None:
    """Predict the measured tables in FOLDER and write how far the predictions can be trusted."""
    found = []
    for predictor in Predictor:
        options = Options(
            folder=folder, predictor=predictor, sample=sample, jobs=jobs or os.cpu_count() or 1
        )
        with progress_bar() as report:
            found.append(validated(options, report)[0])
    des, roofline = found
    sections = _sections(des, roofline, out / "figures" / "trust")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    text = environment.get_template("how_far_to_trust_it.md").render(
        sections=sections,
        spreads=spreads(des),
        skipped=sorted(des.skipped().items()),
        percent=_percent,
    )
    path = out / "how_far_to_trust_it.md"
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    click.echo(f"{path} and {len(sections)} figures")


def spreads(validation: Validation) -> list[tuple[str, int, float, float]]:
    """Return (table, shapes that several engines ran, median and p90 of slowest over fastest - 1).

    This is what the data themselves are worth: no predictor of "the" time can do better than about
    half of it.
    """
    rows = []
    for table, predictions in zip(validation.tables, validation.predictions, strict=True):
        times: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
        for prediction in predictions:
            row = prediction.row
            if table.key and row.get("l2") != "partial":
                key = tuple(row.get(column, "") for column in table.key)
                times[key].append(float(row[table.measured]))
        found = score([max(t) / min(t) - 1 for t in times.values() if len(t) > 1])
        if found.n and found.median is not None and found.p90 is not None:
            rows.append((table.name, found.n, found.median, found.p90))
    return rows


def _sections(des: Validation, roofline: Validation, figures: Path) -> list[Section]:
    figures.mkdir(parents=True, exist_ok=True)
    sections = []
    for i, table in enumerate(des.tables):
        judged = judge(table, des.predictions[i])
        contrast = judge(table, roofline.predictions[i])
        for name in sorted({entry.selection for entry in judged}):
            if name.startswith(_STEPS) and _GRADE not in name:
                continue
            own = [entry for entry in judged if entry.selection == name]
            if all(entry.error is None for entry in own):
                continue
            roofs = [entry for entry in contrast if entry.selection == name]
            sections.append(_section(name, table, own, roofs, figures))
    return sections


def _section(
    name: str, table: Table, own: Sequence[Judged], roofs: Sequence[Judged], figures: Path
) -> Section:
    slug = "".join(c if c.isalnum() else "_" for c in name)
    _draw(name, table, own, roofs, figures / f"{slug}.png")
    known = [entry for entry in own if entry.error is not None]
    known.sort(key=lambda entry: -abs(entry.error or 0))
    return Section(
        name=name,
        slug=slug,
        figure=f"figures/trust/{slug}.png",
        des={gpu: found for (_, gpu), found in scores(own).items()},
        roofline={gpu: found for (_, gpu), found in scores(roofs).items()},
        worst=[_worst(entry) for entry in known[:_WORST]],
        explanation=EXPLANATIONS.get(name, ""),
    )


def _draw(
    name: str, table: Table, own: Sequence[Judged], roofs: Sequence[Judged], path: Path
) -> None:
    dots = []
    for entry, roof in zip(own, roofs, strict=True):
        predicted, line = entry.prediction.predicted, roof.prediction.predicted
        if predicted is not None and line is not None:
            dots.append(
                Dot(
                    gpu=entry.gpu,
                    measured=entry.measured,
                    predicted=predicted,
                    roofline=line,
                    size_bytes=table.case(entry.prediction.row).moved_bytes(),
                )
            )
    unit = "us" if table.measured == "time_us" else "in the row's metric"
    with styled():
        drawn = pixels(validation_figure(name, dots, unit))
        image = png_bytes(drawn.resize((_WIDTH_PX, drawn.height * _WIDTH_PX // drawn.width)))
    draft = path.with_suffix(".tmp")
    draft.write_bytes(image)
    draft.replace(path)


def _worst(entry: Judged) -> str:
    row = entry.prediction.row
    facts = ", ".join(f"{k} {v}" for k, v in row.items() if v and k not in _SHOWN)
    predicted = entry.prediction.predicted or 0.0
    return (
        f"{entry.gpu}: {predicted:.4g} for {entry.measured:.4g} "
        f"({100 * (entry.error or 0):+.0f} %): {facts}"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    run(main)
