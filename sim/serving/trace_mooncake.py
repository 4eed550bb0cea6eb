"""Mooncake traces: JSON lines of one request each.

Format: github.com/kvcache-ai/Mooncake, FAST25-release (`timestamp` in ms since the start of the
trace, `input_length`, `output_length`, and optional `hash_ids` of the prompt's 512-token blocks).
"""

from collections.abc import Iterable
from typing import Final

from sim.serving.trace_rows import Reading, Row, objects
from sim.units import TIME_PS

FIELDS: Final = ("timestamp", "input_length", "output_length", "hash_ids")


def read_mooncake(lines: Iterable[str], reading: Reading) -> list[Row]:
    """Return the rows of a Mooncake trace, on its own clock."""
    rows = []
    for found in objects(lines, reading):
        arrival_ps = reading.time_ps("timestamp", found.get("timestamp"), TIME_PS["ms"])
        inputs = reading.tokens("input_length", found.get("input_length"), 1)
        outputs = reading.tokens("output_length", found.get("output_length"), 0)
        if arrival_ps is None or inputs is None or outputs is None:
            continue
        hashes = found.get("hash_ids") or ()
        if not isinstance(hashes, list | tuple):
            reading.wrong("is not a list", key="hash_ids", value=hashes, expected="integers")
        elif (prefix := reading.hashes("hash_ids", hashes, inputs)) is not None:
            rows.append(Row(arrival_ps, inputs, outputs, prefix))
    return rows
