"""Azure LLM inference traces: CSV of `TIMESTAMP,ContextTokens,GeneratedTokens`.

Format: github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023 (timestamps with seven
decimals and no zone) and 2024 (six decimals and `+00:00`).
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from sim.serving.trace_rows import Reading, Row, table
from sim.units import PS_PER_S

FIELDS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

_DECIMALS: Final = 12
_TIMESTAMP: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))? ?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1)
_SECOND: Final = timedelta(seconds=1)


def read_azure(lines: Iterable[str], reading: Reading) -> list[Row]:
    """Return the rows of an Azure trace, on a clock that starts with the first request."""
    found = []
    for stamp, context, generated in table(lines, reading, FIELDS):
        arrival_ps = _since_1970_ps(stamp)
        inputs = reading.tokens("ContextTokens", context, 1)
        outputs = reading.tokens("GeneratedTokens", generated, 0)
        if arrival_ps is None:
            example = "2023-11-16 18:17:03.9799600"
            reading.wrong("is not a time", key="TIMESTAMP", value=stamp, expected=f"as {example}")
        elif inputs is not None and outputs is not None:
            found.append((arrival_ps, inputs, outputs))
    first_ps = min(found)[0] if found else 0
    return [Row(at_ps - first_ps, inputs, outputs) for at_ps, inputs, outputs in found]


def _since_1970_ps(stamp: str) -> int | None:
    match = _TIMESTAMP.fullmatch(stamp)
    if match is None:
        return None
    day, clock, decimals, zone = match.groups()
    second = _second(day, clock, zone)
    if second is None:
        return None
    return second * PS_PER_S + int((decimals or "0").ljust(_DECIMALS, "0"))


@lru_cache(maxsize=1024)
def _second(day: str, clock: str, zone: str | None) -> int | None:
    """Return the whole seconds since 1970 UTC; a time without a zone is in UTC."""
    try:
        at = datetime.fromisoformat(f"{day} {clock}{zone or ''}")
    except ValueError:
        return None
    offset = at.utcoffset() or timedelta()
    return (at.replace(tzinfo=None) - _EPOCH - offset) // _SECOND
