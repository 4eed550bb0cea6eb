"""What lowering may know of a chip: sizes and features, never times."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The shape of a chip as a kernel author sees it.

    `bulk_copy` tells whether asynchronous bulk copies (TMA, Hopper and later) feed
    warp-specialised kernels; `compute_formats` are the formats its tensor cores multiply.
    """

    sm_count: int
    shared_memory_bytes: int
    max_ctas: int
    bulk_copy: bool
    compute_formats: frozenset[str]

    def compute(self, wanted: str) -> str:
        """Return the format a multiply runs in: `wanted`, or bf16 where the chip lacks it."""
        return wanted if wanted in self.compute_formats else "bf16"
