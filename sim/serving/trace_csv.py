"""The project's own traces: CSV of `arrival_s,input_tokens,output_tokens` and maybe `prefix`.

`arrival_s` are seconds since the start of the trace. `prefix` holds the content hashes of a
prompt's leading blocks of 512 tokens, separated by spaces; blocks of another length are said in the
column's name (`prefix_64`). Columns may stand in any order, and others among them are ignored.
"""

import re
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from sim.errors import InputError
from sim.serving.request import Trace
from sim.serving.trace_rows import PREFIX_BLOCK_TOKENS, Reading, Row, csv_cells, table
from sim.units import PS_PER_S

FIELDS: Final = ("arrival_s", "input_tokens", "output_tokens")

_PREFIX: Final = re.compile(r"prefix(?:_([1-9][0-9]{0,8}))?")


def read_csv(lines: list[str], reading: Reading) -> list[Row]:
    """Return the rows of a CSV in the project's own form, on its own clock."""
    column = _prefix_column(lines, reading)
    rows = []
    for cells in table(lines, reading, FIELDS, column):
        arrival_ps = reading.time_ps("arrival_s", cells[0], PS_PER_S)
        inputs = reading.tokens("input_tokens", cells[1], 1)
        outputs = reading.tokens("output_tokens", cells[2], 0)
        if arrival_ps is None or inputs is None or outputs is None:
            continue
        hashes = cells[3].split() if column else ()
        if (prefix := reading.hashes("prefix", hashes, inputs)) is not None:
            rows.append(Row(arrival_ps, inputs, outputs, prefix))
    return rows


def write_csv(trace: Trace, path: Path) -> None:
    """Write the requests of `trace` so that reading them gives the same ones."""
    shared = any(request.prefix for request in trace.requests)
    blocks = trace.prefix_block_tokens
    column = "prefix" if blocks == PREFIX_BLOCK_TOKENS else f"prefix_{blocks}"
    lines = [",".join((*FIELDS, column) if shared else FIELDS)]
    for r in trace.requests:
        cells = [_seconds(r.arrival_ps), str(r.input_tokens), str(r.output_tokens)]
        if shared:
            cells.append(" ".join(str(hashed) for hashed in r.prefix))
        lines.append(",".join(cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _seconds(time_ps: int) -> str:
    text = f"{Decimal(time_ps).scaleb(-12):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _prefix_column(lines: list[str], reading: Reading) -> tuple[str, ...]:
    """Return the name of the column of hashes, if there is one, and set the blocks' length."""
    names = [name.strip() for name in csv_cells(next(reading.numbered(lines), ""))]
    for name in names:
        if match := _PREFIX.fullmatch(name):
            reading.prefix_block_tokens = int(match[1] or PREFIX_BLOCK_TOKENS)
            return (name,)
    for name in get_close_matches("prefix", names, cutoff=0.8):
        reading.wrong("unknown column", key=name, likely="prefix")
        raise InputError(reading.problems)
    return ()
