"""How figures and reports look: colours, labels and sizes, as plain data.

One colour per cause, traffic class and contestant, wherever it appears. Causes of one origin share
a hue (HBM blue, L2 green, compute orange, overheads grey) and differ in lightness, so that they
stay apart for colour-blind readers and in print.
"""

from types import MappingProxyType
from typing import Final

INK: Final = "#1d2430"
MUTED: Final = "#5b6573"
FAINT: Final = "#dfe3e8"
TITLE_PT, BODY_PT, LEGEND_PT, SMALL_PT = 15, 11, 10.5, 9
LIGHT: Final = 0.55
"""Backgrounds of this luma and above take dark text."""
_PT, SMALL_PT, TITLE_PT = 11, 9, 15

CAUSE_COLOURS: Final = MappingProxyType(
    {
        "tensor": "#b5440f",
        "vector": "#f09433",
        "sfu": "#fbd98a",
        "sync": "#e59a8f",
        "hbm_bandwidth": "#1f4e96",
        "hbm_latency": "#8db9e8",
        "l2_bandwidth": "#0b6e5d",
        "l2_latency": "#7fd0bd",
        "link": "#8a4fa8",
        "link_latency": "#c9a6da",
        "launch": "#6b7280",
        "tail": "#c3c8cf",
        "host": "#2b303a",
    }
)
REQUEST_COLOURS: Final = MappingProxyType(
    {
        **CAUSE_COLOURS,
        "queue": "#a89b4c",
        "prefill_wait": "#dcd5a2",
        "preempted": "#7a1733",
        "interference": "#d6437f",
        "kv_transfer": "#4a2360",
    }
)
"""What a request waits for has hues of its own: khaki before it runs, red where others rule."""
PHASE_COLOURS: Final = MappingProxyType(
    {"queue": "#a89b4c", "prefill": "#7aa82e", "decode": "#56b4d3", "preempted": "#7a1733"}
)
CAUSE_HATCHES: Final = MappingProxyType({"l2_bandwidth": "||||", "l2_latency": "||||"})
"""Green looks grey to many, so what is green carries lines as well (dots would swell the files)."""
HATCH_COLOURS: Final = MappingProxyType({"l2_bandwidth": "#7fd0bd", "l2_latency": "#0b6e5d"})
DRAM_COLOURS: Final = MappingProxyType(
    {
        "data": "#1f4e96",
        "row_miss": "#f09433",
        "bank_conflict": "#b5440f",
        "faw": "#fbd98a",
        "turnaround": "#8a4fa8",
        "refresh": "#0b6e5d",
        "column": "#8db9e8",
        "idle": "#dfe3e8",
    }
)
"""A data bus at work is blue, rows are orange, refresh is green."""
TRAFFIC_COLOURS: Final = MappingProxyType(
    {
        "weights": "#1f4e96",
        "experts": "#8db9e8",
        "kv": "#b5440f",
        "state": "#f2b84b",
        "activations": "#9aa3af",
    }
)
TRAFFIC_LABELS: Final = MappingProxyType(
    {
        "weights": "weights",
        "experts": "experts",
        "kv": "KV cache",
        "state": "state",
        "activations": "activations",
    }
)
CONTESTANT_COLOURS: Final = (
    "#332288", "#cc6677", "#117733", "#ddaa33", "#aa4499", "#44aa99", "#882255", "#555555",
)  # fmt: skip
CONTESTANT_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")

PART_COLOURS: Final = MappingProxyType(
    {
        "attention": "#1f4e96",
        "linear_attention": "#8db9e8",
        "ssm": "#0b6e5d",
        "recurrent": "#7fd0bd",
        "short_conv": "#999933",
        "mlp": "#e0812a",
        "moe": "#aa4499",
        "shared_block": "#882255",
        "norm": "#6b7280",
        "embedding": "#c3a06b",
        "head": "#2b303a",
    }
)
PART_MARKERS: Final = MappingProxyType(
    {
        "attention": "o",
        "linear_attention": "h",
        "ssm": "^",
        "recurrent": "<",
        "short_conv": "p",
        "mlp": "s",
        "moe": "D",
        "shared_block": "*",
        "norm": "v",
        "embedding": "X",
        "head": "P",
    }
)


def text_colour(background: str) -> str:
    """Return ink or white, whichever reads better on `background` (#rrggbb)."""
    red, green, blue = channels(background)
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > LIGHT else "white"


def mixed(colour: str, weight: float) -> str:
    """Return `colour` (#rrggbb) mixed with white; `weight` 1 is the colour, 0 is white."""
    mixture = (round(255 * (1 - weight * (1 - channel))) for channel in channels(colour))
    return "#" + "".join(f"{channel:02x}" for channel in mixture)


def channels(colour: str) -> tuple[float, float, float]:
    """Return red, green and blue of a #rrggbb colour, each from 0 to 1."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red / 255, green / 255, blue / 255
