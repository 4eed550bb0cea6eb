"""The controller and the address map that stand for a GPU's, of which nothing is published.

Three numbers for all memory types, none per chip, chosen so that 18 of 26 measured efficiencies
come out within 4 % (docs/decisions/0027-channel-tables.md): the scheduler sees the requests of a
fixed time at the peak rate, half as many writes, and an eighth of a row lies in one piece.
"""

from typing import Final

from sim.hardware.dram.address import DramMap
from sim.hardware.dram.controller import Controller
from sim.hardware.dram.timing import DramSpec, Organisation

# How much of the channel's peak rate waits where the scheduler can choose.
WINDOW_NS: Final = 62
# Writes wait in a queue half as deep. It is emptied when it is full, down to a fifth of it.
_WRITE_SHARE: Final = 0.5
_DRAINED_SHARE: Final = 0.1
_PIECES_OF_A_ROW: Final = 8


def gpu_controller(spec: DramSpec) -> Controller:
    """Return the controller of one channel; refresh hides behind banks that nobody waits for.

    Reads of up to .978 of the peak show that GPUs hide their refresh.
    """
    per_ns = spec.peak_bytes_per_s / spec.organisation.access_bytes / 1e9
    reads = round(WINDOW_NS * per_ns)
    writes = round(WINDOW_NS * _WRITE_SHARE * per_ns)
    return Controller(
        read_queue=reads,
        write_queue=writes,
        write_high=writes,
        write_low=round(WINDOW_NS * _DRAINED_SHARE * per_ns),
        refresh="hidden",
    )


def gpu_map(organisation: Organisation) -> DramMap:
    """Return a map that puts the pieces of a row among other channels, groups and banks.

    An IPOLY hash keeps strides from camping on banks, as the Accel-Sim configuration of H100
    indexes its partitions.
    """
    accesses = max(1, organisation.columns // _PIECES_OF_A_ROW)
    piece = f"column:{accesses.bit_length() - 1}"
    return DramMap(order=(piece, "pc", "group", "column", "bank", "stack", "row"), hash="ipoly")
