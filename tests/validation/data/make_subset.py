"""Cut the measured tables of this folder out of the full ones: `make_subset.py FULL_DIR [OUT_DIR]`.

Every n-th shape is kept, with the rows of all engines that ran it, so that the fastest of them and
the spread between them can be told. Standard library only; the output is in the order of the full
tables, so that a second run writes the same bytes.
"""

import csv
import sys
from pathlib import Path

Row = dict[str, str]

# Table: keep one shape in so many; columns that make a shape (none: every row is one).
TABLES: dict[str, tuple[int, tuple[str, ...]]] = {
    "gemm": (3, ("gpu", "dtype_a", "dtype_w", "m", "n", "k", "l2")),
    "attention_decode": (
        2,
        ("gpu", "dtype_q", "dtype_kv", "batch", "context", "n_q_heads", "n_kv_heads", "head_dim",
         "window", "l2"),
    ),
    "attention_prefill": (
        2,
        ("gpu", "dtype", "batch", "seq_len", "prefix_len", "n_q_heads", "n_kv_heads", "head_dim",
         "window"),
    ),
    "attention_mixed": (
        2,
        ("gpu", "n_q_heads", "n_kv_heads", "head_dim", "prefill_chunk", "kv_prefill", "n_decode",
         "kv_decode"),
    ),
    "mla_decode": (
        2, ("gpu", "op", "dtype_kv", "batch", "context", "n_q_heads", "kv_lora", "rope_dim", "l2"),
    ),
    "moe": (
        2,
        ("gpu", "dtype", "tokens", "hidden", "inter", "n_experts", "topk", "tp", "ep", "routing"),
    ),
    "ssm": (
        2,
        ("gpu", "family", "kernel", "phase", "batch", "seq_len", "d_model", "d_conv", "n_k_heads",
         "k_dim", "n_v_heads", "v_dim"),
    ),
    "norm_activation": (2, ("gpu", "op", "dtype", "tokens", "hidden", "bytes")),
    "allreduce": (2, ("gpu", "op", "gpus", "bytes", "framework")),
    "alltoall": (
        1, ("gpu", "framework", "op", "gpus", "bytes", "tokens", "hidden", "topk", "n_experts"),
    ),
    "decode_e2e": (1, ()),
}  # fmt: skip


def every(rows: list[Row], step: int, key: tuple[str, ...]) -> list[Row]:
    """Return the rows of every `step`-th shape; rows with a partly warm L2 are judged by nobody."""
    place: dict[tuple[str, ...], int] = {}
    kept = []
    for i, row in enumerate(rows):
        if row.get("l2") == "partial":
            continue
        shape = tuple(row[column] for column in key) or (str(i),)
        if place.setdefault(shape, len(place)) % step == 0:
            kept.append(row)
    return kept


def main(full: Path, out: Path) -> None:
    """Write each table's subset, with the full table's header."""
    for name, (step, key) in TABLES.items():
        with (full / f"{name}.csv").open(newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            rows = every(list(reader), step, key)
        with (out / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        sys.stdout.write(f"{name}: {len(rows)} rows\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent)
