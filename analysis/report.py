"""The report of a run: every figure as SVG and PNG, and one page that holds them all."""

import multiprocessing
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from analysis.page import TINT, Drawn, Figures, drawn, render, write_report
from analysis.style import CAUSE_COLOURS, mixed
from sim.measure.causes import CAUSES
from sim.run.answer import CAUSE_LABELS, format_context
from sim.run.result import ContestantInfo, PointResult, Result
from sim.run.write import does_not_fit_note
from sim.units import format_bytes, format_rate, format_time

NOT_COVERED: Final = (
    "A point is one step in steady state at a fixed batch and context: no arrivals, queues, "
    "prefill or mixed batches.",
    "All sequences of a batch have the same context.",
    "Power and thermal limits do not change clocks during a run; rates are those of the hardware "
    "file.",
    "Models and number formats are compared by time and bytes, never by the quality of what they "
    "answer.",
    "A roofline takes the bytes and FLOP of the simulated step at the chip's peak rates with "
    "perfect overlap: a bound, not a prediction.",
)
_CORES: Final = 2
SMALL: Final = 0.095
"""Shares below this keep a decimal."""


def write(result: Result, out_dir: Path) -> list[Path]:
    """Write all figures and `report.html` into `out_dir`; return their paths.

    Nothing is written before everything is rendered. Raises InputError if the folder cannot be
    written.
    """
    return write_report(_drawn(result), lambda figures: page(result, figures), out_dir)


def page(result: Result, figures: Figures) -> str:
    """Return the report as HTML; `figures` have `name`, `caption` and inline `svg`."""
    return render(
        "report.html",
        title=result.title,
        version=result.version,
        seed=result.seed,
        result=result,
        answer=result.answer,
        figures=figures,
        chip={**chip_facts(result), "engine": result.engine},
        contestants=[(card, contestant_facts(card)) for card in result.contestants],
        points=[point_cells(p) for p in result.points],
        misfits=sum(not p.fits for p in result.points),
        causes=[(CAUSE_LABELS[cause], text) for cause, text in CAUSES.items()],
        shown_causes=[CAUSE_LABELS[cause] for cause in used_causes(result.points)],
        ledger=[ledger_cells(p, used_causes(result.points)) for p in result.points if p.fits],
        not_covered=NOT_COVERED,
    )


def chip_facts(result: Result) -> dict[str, str]:
    """Return what the card of the chip says."""
    chip = result.chip
    rates = (f"{name} {rate / 1e12:,.0f}" for name, rate in sorted(chip.tensor_flop_per_s.items()))
    return {
        "memory": f"{format_bytes(chip.memory_bytes)} at {format_rate(chip.peak_bytes_per_s)} peak",
        "L2": f"{chip.l2_bytes / 2**20:.3g} MiB",
        "SMs": str(chip.sm_count),
        "tensor peak (TFLOPS, dense)": ", ".join(rates),
    }


def contestant_facts(card: ContestantInfo) -> dict[str, str]:
    """Return what the card of a contestant says."""
    parameters = f"{card.parameters / 1e9:.3g} billion"
    if card.active_parameters != card.parameters:
        parameters += f", {card.active_parameters / 1e9:.3g} active per token"
    return {
        "model": f"{card.model} ({card.family})",
        "parameters": parameters,
        "weights": f"{card.weight_format}, {format_bytes(card.weights_bytes)}",
        "KV cache": f"{card.kv_format}, {format_bytes(card.kv_bytes_per_token)} per token",
    }


def point_cells(p: PointResult) -> dict[str, object]:
    """Return the row of a point in the table of points; `note` is set if it does not fit."""
    place = (p.contestant, str(p.batch), format_context(p.context))
    if not p.fits:
        return {"place": place, "note": does_not_fit_note(p.memory), "cells": ()}
    cells = (
        format_time(p.step_ps),
        f"{p.tokens_per_s:,.0f}",
        _percent(p.roofline_ps / p.step_ps),
        _percent(p.mbu),
        _percent(p.mfu),
        CAUSE_LABELS[p.bound],
        format_bytes(p.memory.total_bytes),
    )
    return {"place": place, "note": "", "cells": cells}


def used_causes(points: Iterable[PointResult]) -> list[str]:
    """Return the causes that any point is charged for, in their order."""
    charged = {cause for p in points for cause, time_ps in p.ledger_ps.items() if time_ps}
    return [cause for cause in CAUSES if cause in charged]


def ledger_cells(p: PointResult, causes: Iterable[str]) -> dict[str, object]:
    """Return the row of a point in the ledger: percent of the step and a tint per cause."""
    shares = [(cause, p.ledger_ps.get(cause, 0) / p.step_ps) for cause in causes]
    return {
        "place": (p.contestant, str(p.batch), format_context(p.context)),
        "step": format_time(p.step_ps),
        "shares": [(f"{100 * s:.1f}", mixed(CAUSE_COLOURS[c], TINT * s)) for c, s in shares],
    }


def _drawn(result: Result) -> list[Drawn]:
    """Return every figure, drawn on up to two cores."""
    # Matplotlib takes half a second to load; only a report that is really written pays for it.
    from analysis.figures import DRAWINGS  # noqa: PLC0415

    jobs = [(result, index) for index in range(len(DRAWINGS))]
    if (os.cpu_count() or 1) < _CORES:
        return [_draw(job) for job in jobs]
    with multiprocessing.Pool(_CORES) as pool:
        return pool.map(_draw, jobs, chunksize=1)


def _draw(job: tuple[Result, int]) -> Drawn:
    from analysis.figures import DRAWINGS  # noqa: PLC0415

    result, index = job
    return drawn(DRAWINGS[index], result)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= SMALL else f"{100 * share:.1f} %"
