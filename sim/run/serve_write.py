"""Writes a serving run: what vLLM's benchmark writes, tables, a summary and, asked for, more.

Two equal runs give the same bytes. Everything is checked and rendered before the first file
appears, and the files appear together.
"""

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.run.serve_bench import bench_result
from sim.run.serve_result import Served
from sim.run.serve_summary import summary
from sim.run.serve_tables import requests_csv, steps_csv, timeseries_csv
from sim.run.serve_timeline import FILE_NAME, Window, timeline_gz
from sim.run.staging import staged
from sim.run.write import write_whole

GZIP_LEVEL = 4
"""A table of steps shrinks to a fifth; higher levels take three times as long for little."""
SUMMARY, REQUESTS = "summary.json", "requests.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeFiles:
    """What to write beside the standard files.

    `detailed` adds the arrays of `--save-detailed` to `serve.json` and writes `steps.csv.gz`;
    `timeline` writes `timeline.json.gz` of that window.
    """

    detailed: bool = False
    timeline: Window | None = None


def write_serve(one: Served, out_dir: Path, wanted: ServeFiles | None = None) -> list[Path]:
    """Write the files of `one` into `out_dir`, all or none; return their paths.

    Raises InvariantError if the causes of a request do not sum to its life, InputError if the
    folder cannot be written.
    """
    return write_results([one], out_dir, wanted)


def write_results(
    results: Sequence[Served], out_dir: Path, wanted: ServeFiles | None = None
) -> list[Path]:
    """Write the files of all contestants of a scenario, all or none; return their paths.

    Those of a single contestant go into `out_dir` itself, those of several into a folder each,
    named by `folder_names`. Raises as `write_serve` does.
    """
    names = folder_names([one.info.contestant for one in results])
    places = [Path(name) for name in names] if len(results) > 1 else [Path()]
    files = {
        place / name: data
        for place, one in zip(places, results, strict=True)
        for name, data in rendered(one, wanted or ServeFiles()).items()
    }
    with staged(out_dir) as folder:
        for name, data in files.items():
            write_whole(folder / name, data)
    return [out_dir / name for name in files]


def folder_names(contestants: Sequence[str]) -> list[str]:
    """Return a name for the folder of each contestant: safe in any file system, and its own.

    >>> folder_names(["Qwen3 32B, fp8", "Qwen3-32B fp8", "§"])
    ['qwen3-32b-fp8', 'qwen3-32b-fp8-2', 'contestant']
    """
    found: list[str] = []
    for contestant in contestants:
        plain = re.sub(r"[^a-z0-9._]+", "-", contestant.lower()).strip("-.") or "contestant"
        name, nth = plain, 1
        while name in found:
            nth += 1
            name = f"{plain}-{nth}"
        found.append(name)
    return found


def rendered(one: Served, wanted: ServeFiles) -> dict[str, bytes]:
    """Return every file of `one` by name."""
    files = {
        REQUESTS: requests_csv(one).encode(),
        "timeseries.csv": timeseries_csv(one).encode(),
        "serve.json": _json(bench_result(one, detailed=wanted.detailed)),
        SUMMARY: _json(summary(one)),
    }
    if wanted.detailed:
        files["steps.csv.gz"] = gzip.compress(steps_csv(one.run).encode(), GZIP_LEVEL, mtime=0)
    if wanted.timeline is not None:
        files[FILE_NAME] = timeline_gz(one, wanted.timeline)
    return files


def _json(content: dict[str, object]) -> bytes:
    """Return `content` with a line per member, to diff well, in its own order."""
    lines = (
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in content.items()
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
