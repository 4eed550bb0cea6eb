"""What an engine profile says: how operators become kernels and how kernels are launched."""

from dataclasses import dataclass
from enum import StrEnum


class LaunchMode(StrEnum):
    """How dependent kernels follow each other."""

    STREAM = "stream"
    CUDA_GRAPH = "cuda_graph"


class AttentionVariant(StrEnum):
    """How decode attention is split over the SMs.

    `naive` writes the scores to memory, `flash` is one CTA per sequence and KV head,
    `flash_decoding` also splits the context until the SMs are full.
    """

    NAIVE = "naive"
    FLASH = "flash"
    FLASH_DECODING = "flash_decoding"


class LatentVariant(StrEnum):
    """Which kernel an engine runs for latent decode attention (`sim.kernel.lower.mla`).

    `flash_mla` has 64 heads a CTA and a scheduler that cuts all sequences into equal parts,
    `tiled` is a context kernel with the heads as its rows, without a split of the context,
    `grouped` has 16 heads a CTA and a fixed number of splits.
    """

    FLASH_MLA = "flash_mla"
    TILED = "tiled"
    GROUPED = "grouped"


class ScanVariant(StrEnum):
    """Which kernels run the delta rule of prefill: a sequence through memory, or one a head."""

    CHUNKED = "chunked"
    FUSED = "fused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine profile (`scenarios/engines/NAME.toml`).

    `fusions` are pairs or longer chains of element-wise kinds (`sim.kernel.operators`) that run as
    one kernel; `merge_projections` runs Q, K, V (and gate, up) as one GEMM each;
    `host_time_ps` is what the host adds to every step between the last kernel and the first;
    `kv_block_tokens` is the page size of the KV cache; `latent` is the kernel of latent attention,
    `scan` what runs the delta rule of prefill.
    """

    name: str
    launch: LaunchMode
    attention: AttentionVariant
    fusions: tuple[tuple[str, ...], ...]
    merge_projections: bool
    host_time_ps: int
    kv_block_tokens: int
    latent: LatentVariant = LatentVariant.FLASH_MLA
    scan: ScanVariant = ScanVariant.CHUNKED
    note: str = ""
