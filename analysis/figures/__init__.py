"""The figures of a run, in the order in which a report shows them."""

from typing import Final

from analysis.figures.base import Drawing
from analysis.figures.bytes_per_token import BYTES_PER_TOKEN
from analysis.figures.cause_map import CAUSE_MAP
from analysis.figures.roofline import ROOFLINE
from analysis.figures.stall_stack import STALL_STACK_BATCH, STALL_STACK_CONTEXT
from analysis.figures.tokens_per_s import TOKENS_PER_S

DRAWINGS: Final[tuple[Drawing, ...]] = (
    STALL_STACK_BATCH,
    STALL_STACK_CONTEXT,
    CAUSE_MAP,
    TOKENS_PER_S,
    BYTES_PER_TOKEN,
    ROOFLINE,
)
