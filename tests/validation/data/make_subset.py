"""Cut the measured tables of this folder out of the full ones: `make_subset.py FULL_DIR [OUT_DIR]`.

The fastest engine of each shape is kept, as it is the reference that a prediction is judged by.
Standard library only; the output is sorted, so that a second run writes the same bytes.
"""

import csv
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

Row = dict[str, str]

GEMM_KEY = ("gpu", "dtype_a", "dtype_w", "m", "n", "k", "l2")
ATTENTION_KEY = (
    "gpu", "dtype_q", "dtype_kv", "batch", "context",
    "n_q_heads", "n_kv_heads", "head_dim", "window", "l2",
)  # fmt: skip


def fastest(rows: Iterable[Row], key: tuple[str, ...]) -> list[Row]:
    """Return the row with the smallest time of each key, sorted by key."""
    best: dict[tuple[str, ...], Row] = {}
    for row in rows:
        name = tuple(row[column] for column in key)
        if name not in best or float(row["time_us"]) < float(best[name]["time_us"]):
            best[name] = row
    return [best[name] for name in sorted(best, key=_natural)]


def _natural(name: tuple[str, ...]) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in name)


def cold_small_gemms(rows: list[Row]) -> list[Row]:
    """Return 16-bit GEMMs of at most 64 rows with cold weights on A100 SXM and H100 SXM."""
    chosen = (
        row
        for row in rows
        if row["gpu"] in ("A100-SXM-80G", "H100-SXM")
        and row["dtype_w"] in ("bf16", "fp16")
        and int(row["m"]) <= 64
        and row["l2"] == "cold"
    )
    return fastest(chosen, GEMM_KEY)


def h100_decode_attention(rows: list[Row]) -> list[Row]:
    """Return bf16 decode attention on H100 SXM whose L2 state is known."""
    chosen = (
        row
        for row in rows
        if row["gpu"] == "H100-SXM" and row["dtype_kv"] == "bf16" and row["l2"] in ("warm", "cold")
    )
    return fastest(chosen, ATTENTION_KEY)


def gpt_fast_decode(rows: list[Row]) -> list[Row]:
    """Return the single-GPU decode speeds that gpt-fast publishes."""
    return [
        row for row in rows if row["case_id"].startswith("GPTFAST") and float(row["n_gpus"]) == 1
    ]


def some_collectives(rows: list[Row]) -> list[Row]:
    """Return every 18th collective within a node of A100 SXM, H100 SXM and L40S."""
    return [row for row in rows if row["source"] == "aic-0.12.0"][::18]


def some_exchanges(rows: list[Row]) -> list[Row]:
    """Return every 27th all-to-all, and every one that the README of DeepEP states."""
    measured = [row for row in rows if row["source"] == "aic-0.12.0"][::27]
    return [*(row for row in rows if row["source"] == "DeepEP-README"), *measured]


TABLES: dict[str, Callable[[list[Row]], list[Row]]] = {
    "gemm.csv": cold_small_gemms,
    "attention_decode.csv": h100_decode_attention,
    "decode_e2e.csv": gpt_fast_decode,
    "allreduce.csv": some_collectives,
    "alltoall.csv": some_exchanges,
}


def main(full: Path, out: Path) -> None:
    """Write each table's subset, with the full table's header."""
    for name, select in TABLES.items():
        with (full / name).open(newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            rows = select(list(reader))
        with (out / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        sys.stdout.write(f"{name}: {len(rows)} rows\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent)
