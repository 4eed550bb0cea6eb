"""The figures of serving runs, in the order in which a report shows them."""

from typing import Final

from analysis.serving.base import ServeDrawing
from analysis.serving.compare import COMPARE
from analysis.serving.gantt import GANTT
from analysis.serving.latency_cdf import LATENCY_CDF
from analysis.serving.occupancy import OCCUPANCY
from analysis.serving.stall_time import STALL_TIME
from analysis.serving.sweep import SWEEP

DRAWINGS: Final[tuple[ServeDrawing, ...]] = (
    COMPARE,
    LATENCY_CDF,
    STALL_TIME,
    OCCUPANCY,
    GANTT,
    SWEEP,
)
