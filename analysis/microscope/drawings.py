"""The figures of a microscope report, in its order."""

from typing import Final

from analysis.microscope.bandwidth import BANDWIDTH
from analysis.microscope.banks import BANKS
from analysis.microscope.causes import CAUSES
from analysis.microscope.latency import CDF, PERCENTILES

DRAWINGS: Final = (BANDWIDTH, CAUSES, PERCENTILES, CDF, BANKS)
