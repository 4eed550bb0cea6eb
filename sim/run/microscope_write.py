"""Writes what a microscope run found: two tables, a summary, and the timeline."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sim.run.microscope_result import (
    DRAM_CAUSES,
    MICRO_SCHEMA_VERSION,
    PERCENTILES,
    MicroResult,
    MicroResults,
)
from sim.run.microscope_timeline import FILE_NAME, timeline_gz
from sim.run.write import Cell, csv_text, write_whole

_PLACE: Final = ("contestant", "pattern", "axis_1", "value_1", "axis_2", "value_2")
COLUMNS: Final = (
    *_PLACE, "device", "map", "refresh", "kind", "chunk_bytes", "moved_bytes", "peak_bytes_per_s",
    "bandwidth_fraction", "bytes_per_s", "reads", "mean_ns",
    *(f"p{p}_ns" for p in PERCENTILES), "max_ns", "row_hit_rate", "bank_utilisation",
    "activations", "refreshes", "span_ps", "span_edges", "pseudo_channels",
    *(f"{cause}_edges" for cause in DRAM_CAUSES),
)  # fmt: skip
HISTOGRAM_COLUMNS: Final = (*_PLACE, "from_ns", "to_ns", "reads")


def write_microscope(results: MicroResults, out_dir: Path) -> list[Path]:
    """Write `microscope.csv`, `latency.csv` and `summary.json`; return their paths.

    The timeline comes with them if the run kept its commands. Raises InputError if the folder
    cannot be written.
    """
    files = {
        "microscope.csv": csv_text(COLUMNS, map(_row, results.points)).encode(),
        "latency.csv": csv_text(HISTOGRAM_COLUMNS, _histograms(results.points)).encode(),
        "summary.json": _summary(results).encode(),
    }
    if results.log is not None:
        files[FILE_NAME] = timeline_gz(results.log)
    return [write_whole(out_dir / name, data) for name, data in files.items()]


def _place(point: MicroResult) -> tuple[Cell, ...]:
    cells: list[Cell] = [point.contestant, point.pattern]
    for axis in point.axes:
        cells += [axis.key, axis.value]
    return (*cells, *("",) * (len(_PLACE) - len(cells)))


def _row(point: MicroResult) -> tuple[Cell, ...]:
    latency = point.latency
    times: tuple[Cell, ...] = (0, *("",) * (2 + len(PERCENTILES)))
    if latency is not None:
        times = (latency.reads, latency.mean_ns, *latency.percentiles_ns, latency.max_ns)
    return (
        *_place(point), point.device, point.map_label, point.refresh, point.kind,
        point.chunk_bytes, point.moved_bytes, point.peak_bytes_per_s, point.bandwidth_fraction,
        point.bytes_per_s, *times, point.row_hit_rate, point.bank_utilisation, point.activations,
        point.refreshes, point.span_ps, point.span_edges, point.pseudo_channels,
        *(point.cause_edges[cause] for cause in DRAM_CAUSES),
    )  # fmt: skip


def _histograms(points: Iterable[MicroResult]) -> Iterable[tuple[Cell, ...]]:
    for point in points:
        if point.latency is None:
            continue
        edges = point.latency.edges_ns
        for low, high, count in zip(edges, edges[1:], point.latency.counts, strict=False):
            if count:
                yield (*_place(point), low, high, count)


def _summary(results: MicroResults) -> str:
    head = {
        "schema_version": MICRO_SCHEMA_VERSION,
        "kind": "microscope",
        "name": results.name,
        "title": results.title,
        "version": results.version,
        "seed": results.seed,
        "total_bytes": results.total_bytes,
    }
    points = [
        {
            **dict(zip(COLUMNS, _row(point), strict=True)),
            "bank_bytes": list(point.bank_bytes),
        }
        for point in results.points
    ]
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()
    ]
    rows = ",\n".join(json.dumps(point, ensure_ascii=False, allow_nan=False) for point in points)
    return "{\n" + ",\n".join(lines) + f',\n"points": [\n{rows}\n]\n' + "}\n"
