"""The measured tables: their key columns, their rows as cases, their judged selections."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from analysis.validate.case import Case, Row
from analysis.validate.rows.attention import decode_case, mixed_case, prefill_case
from analysis.validate.rows.collectives import allreduce_case, alltoall_case
from analysis.validate.rows.gemm import gemm_case
from analysis.validate.rows.mla import mla_case
from analysis.validate.rows.moe import moe_case
from analysis.validate.rows.ssm import ssm_case
from analysis.validate.rows.steps import step_case
from analysis.validate.rows.streaming import streaming_case
from sim.errors import InputError, Problem

Selections = Callable[[Row], Iterator[str]]
_SMALL_M: Final = 64
_SIXTEEN_BIT: Final = ("bf16", "fp16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A measured table `NAME.csv`.

    Rows that agree in the columns `key` measure the same thing, by different engines; no key
    means that every row stands alone. `case` maps a row to what was timed, `selections` to the
    names under which its error is summed up.
    """

    name: str
    case: Callable[[Row], Case]
    selections: Selections
    key: tuple[str, ...] = ()
    measured: str = "time_us"
    predicted: str = "predicted_us"


def _by_name(name: str) -> Selections:
    def selections(_row: Row) -> Iterator[str]:
        yield name

    return selections


def _gemm_selections(row: Row) -> Iterator[str]:
    if row["dtype_w"] in _SIXTEEN_BIT:
        if float(row["m"]) <= _SMALL_M:
            yield "gemm 16-bit m<=64"
        yield "gemm 16-bit"
    elif row["dtype_w"] != "fp32":
        yield "gemm quantised"


def _moe_selections(row: Row) -> Iterator[str]:
    yield "moe balanced" if row["routing"] == "balanced" else "moe other routing"


def _ssm_selections(row: Row) -> Iterator[str]:
    yield "ssm decode" if row["phase"] == "generation" else "ssm prefill"


def _step_selections(row: Row) -> Iterator[str]:
    gpus = "1 GPU" if row["n_gpus"] in ("1", "1.0") else "several GPUs"
    yield f"decode e2e grade {row['grade']}, {gpus}"
    yield f"decode e2e {row['case_id'].split('-')[0]}"


_TABLES: Final = (
    Table(
        name="gemm",
        case=gemm_case,
        selections=_gemm_selections,
        key=("gpu", "dtype_a", "dtype_w", "m", "n", "k", "l2"),
    ),
    Table(
        name="attention_decode",
        case=decode_case,
        selections=_by_name("attention decode"),
        key=(
            "gpu", "dtype_q", "dtype_kv", "batch", "context", "n_q_heads", "n_kv_heads", "head_dim",
            "window", "l2",
        ),
    ),
    Table(
        name="attention_prefill",
        case=prefill_case,
        selections=_by_name("attention prefill"),
        key=(
            "gpu", "dtype", "batch", "seq_len", "prefix_len", "n_q_heads", "n_kv_heads", "head_dim",
            "window",
        ),
    ),
    Table(
        name="attention_mixed",
        case=mixed_case,
        selections=_by_name("attention mixed"),
        key=(
            "gpu", "n_q_heads", "n_kv_heads", "head_dim", "prefill_chunk", "kv_prefill", "n_decode",
            "kv_decode",
        ),
    ),
    Table(
        name="mla_decode",
        case=mla_case,
        selections=_by_name("mla decode"),
        key=(
            "gpu", "op", "dtype_kv", "batch", "context", "n_q_heads", "kv_lora", "rope_dim", "l2",
        ),
    ),
    Table(
        name="moe",
        case=moe_case,
        selections=_moe_selections,
        key=(
            "gpu", "dtype", "tokens", "hidden", "inter", "n_experts", "topk", "tp", "ep", "routing",
        ),
    ),
    Table(
        name="ssm",
        case=ssm_case,
        selections=_ssm_selections,
        key=(
            "gpu", "family", "kernel", "phase", "batch", "seq_len", "d_model", "d_conv",
            "n_k_heads", "k_dim", "n_v_heads", "v_dim",
        ),
    ),
    Table(
        name="norm_activation",
        case=streaming_case,
        selections=_by_name("norm activation"),
        key=("gpu", "op", "dtype", "tokens", "hidden", "bytes"),
    ),
    Table(
        name="allreduce",
        case=allreduce_case,
        selections=_by_name("allreduce"),
        key=("gpu", "op", "gpus", "bytes", "framework"),
    ),
    Table(
        name="alltoall",
        case=alltoall_case,
        selections=_by_name("alltoall"),
        key=(
            "gpu", "framework", "op", "gpus", "bytes", "tokens", "hidden", "topk", "n_experts",
        ),
    ),
    Table(
        name="decode_e2e",
        case=step_case,
        selections=_step_selections,
        measured="value",
        predicted="predicted_value",
    ),
)  # fmt: skip
TABLES: Final = {table.name: table for table in _TABLES}


def read_table(path: Path, table: Table) -> list[dict[str, str]]:
    """Return the rows of a table.

    Raises InputError if it cannot be read, lacks a column, or measures something not positive.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError([Problem(file=str(path), message=f"cannot be read: {error}")]) from error
    needed = ("gpu", table.measured, *(key for key in table.key if key != "l2"))
    missing = [name for name in needed if name not in columns]
    if missing:
        raise InputError(
            [Problem(file=str(path), message=f"lacks the columns {', '.join(missing)}")]
        )
    problems = [
        Problem(file=str(path), line=line, key=table.measured, message="is not a positive number",
                value=row[table.measured])
        for line, row in enumerate(rows, 2)
        if not _is_positive(row[table.measured])
    ]  # fmt: skip
    if problems:
        raise InputError(problems)
    return rows


def _is_positive(text: str | None) -> bool:
    try:
        return float(text or "nan") > 0
    except ValueError:
        return False
