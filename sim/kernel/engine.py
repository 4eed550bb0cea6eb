"""What an engine profile says: how operators become kernels and how kernels are launched."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class LaunchMode(StrEnum):
    """How dependent kernels follow each other.

    A `megakernel` is one persistent kernel: its parts wait for each other at counters in L2, which
    the start of each part includes, and no launch lies between them.
    """

    STREAM = "stream"
    CUDA_GRAPH = "cuda_graph"
    MEGAKERNEL = "megakernel"


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
    `grouped` has 16 heads a CTA and a fixed number of splits, `vector` a CTA per head and part of
    the context, which reads keys and values apart and uses no tensor cores, `packed` a tile of 16
    heads, or of 4 where 16 do not divide them, and part of the context (llama.cpp's CUDA backend).
    """

    FLASH_MLA = "flash_mla"
    TILED = "tiled"
    GROUPED = "grouped"
    VECTOR = "vector"
    PACKED = "packed"


class ScanVariant(StrEnum):
    """Which kernels run the delta rule of prefill: a sequence through memory, or one a head."""

    CHUNKED = "chunked"
    FUSED = "fused"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedTile:
    """A fixed tile of grouped GEMMs: weight rows, tokens, and bytes of K at a time.

    A pipeline of `stages` has one buffer less than those; the grid runs through all weight rows for
    `group` token blocks of an expert at a time.
    """

    rows: int
    tokens: int
    k_bytes: int
    stages: int = 3
    group: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedKernels:
    """The grouped GEMM kernels of an engine: tiles to choose from, and how they keep tensor cores.

    `slowdown` is how much longer than a library's GEMM the tensor cores take for the same tile;
    `short_rows` says that weights of a few bits lie row by row, which a tile reads in short pieces;
    `setup_trips` are the dependent L2 round trips before the first tile of an SM;
    `expert_trips` is how long, in L2 round trips, a CTA that looks for its first tile takes to pass
    over one expert.
    """

    rows: tuple[int, ...] = (32, 64, 128)
    tokens: tuple[int, ...] = (16, 32, 64, 128)
    slowdown: Fraction = Fraction(1)
    short_rows: bool = False
    setup_trips: int = 3
    expert_trips: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorKernels:
    """Matrix-vector kernels for up to `most_tokens` tokens (`sim.kernel.lower.matvec`).

    Weights of 16 bits are multiplied so up to `most_plain_tokens`, experts up to
    `most_grouped_tokens`. A pass over the weights serves `tokens_a_pass` tokens; a quantised weight
    costs `unpack_flop` of vector work a pass, beside what its format says, and `product_flop` per
    token. With `quantises` a kernel quantises the activations first. With `regroups` tokens that
    share an expert read it together; without, the grid goes token by token and each reads its
    experts from memory. With `warp_a_row` the experts of several tokens have a warp for each row.
    """

    most_tokens: int
    most_plain_tokens: int
    most_grouped_tokens: int
    tokens_a_pass: int
    unpack_flop: int
    product_flop: int
    quantises: bool
    regroups: bool
    warp_a_row: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKernels:
    """Element-wise kernels that give every row (token) one CTA, as vLLM's CUDA kernels do.

    `threads` is the most that a CTA has; each loads `load_bytes` of every input at a time: 2 where
    a loop goes over single 16-bit values, 16 or 32 where it is vectorised. `warp_clocks` is how
    long an SM's instructions for one iteration of one warp take (0: its bytes take longer), and
    `round_trips` what a row waits for beside its loop: its address, what joins its warps.
    `setup_round_trips` is what the kernel's launch takes beyond an empty one's.
    """

    threads: int
    load_bytes: int
    warp_clocks: int = 0
    round_trips: int = 2
    setup_round_trips: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherKernels:
    """PyTorch's kernels of an embedding (`index_select` in Indexing.cu).

    Up to `serial_rows` rows a thread copies its value of one row after the other. Of more, threads
    go over all values, one at a time, each with `warp_clocks` of address arithmetic; with 0 of it,
    rows are copied in 16-byte pieces, as PyTorch does since 2025.
    """

    serial_rows: int
    warp_clocks: int


class DecodeKernel(StrEnum):
    """Decode kernels with split KV.

    `flash_attention` is FlashAttention-2, on Hopper and later -3, with tiles of 64 rows;
    `flash_attention_3` is the latter's code for Ampere, too; `flashinfer` and `xqa` have tiles of
    16 rows. `vector` uses no tensor cores: a CTA per query head multiplies on the vector pipes (the
    masked multi-head attention of FasterTransformer and TensorRT-LLM, `fattn-vec` of llama.cpp).
    """

    FLASH_ATTENTION = "flash_attention"
    FLASH_ATTENTION_3 = "flash_attention_3"
    FLASHINFER = "flashinfer"
    XQA = "xqa"
    VECTOR = "vector"


class PrefillKernel(StrEnum):
    """Prefill kernels of chips without bulk copies (Hopper and later all run FlashAttention-3's).

    `flash_attention` is FlashAttention-2 over a paged cache; `flashinfer` packs query heads of a
    group and takes blocks of 16, 64 or 128 queries and 64 keys; `flash_attention_3` is the latter's
    code for Ampere chips with large shared memory, elsewhere FlashInfer; `tensorrt_llm` takes 64 by
    64;
    `triton` is SGLang's kernel for models with attention sinks: it masks a window but visits all.
    """

    FLASH_ATTENTION = "flash_attention"
    FLASH_ATTENTION_3 = "flash_attention_3"
    FLASHINFER = "flashinfer"
    TENSORRT_LLM = "tensorrt_llm"
    TRITON = "triton"


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedTile:
    """The GEMM tile for up to `most_tokens` tokens: `rows` of the weight by `tokens`."""

    most_tokens: int
    rows: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSet:
    """The GEMM kernels of a library to choose from: weight rows of tiles, and K splits."""

    rows: tuple[int, ...]
    most_splits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine profile (`scenarios/engines/NAME.toml`).

    `fusions` are pairs or longer chains of element-wise kinds (`sim.kernel.operators`) that run as
    one kernel; `merge_projections` runs Q, K, V (and gate, up) as one GEMM each;
    `host_time_ps` is what the host adds to every step between the last kernel and the first, and
    `host_time_per_sequence_ps` what it adds for each sequence of the batch;
    `kv_block_tokens` is the page size of the KV cache; `row_kernels` says that element-wise kernels
    have a CTA per row (None: a grid of vectorised blocks over all rows); `gather` says how an
    embedding copies its rows (None: as any other pass); `prefill` says which
    prefill kernel runs on chips without bulk copies, where engines differ; `decode` says which
    decode kernel runs, with `decode_helpers` small kernels before it (schedulers, quantisation of
    the query) and at most `decode_splits` splits of the context; `latent` is the kernel of latent
    attention, `scan` what runs the delta rule of prefill;
    `grouped_tile` is the tile of all grouped GEMMs (None: tuned over `grouped`).
    GEMMs of 8-bit activations take
    the first of `fixed_tiles` that covers their tokens, else the last, unsplit and one CTA an SM,
    as CUTLASS kernels dispatched by the number of tokens do (none: tuned).
    `tile_set` limits what all other GEMMs are tuned over; `vector` replaces them for few tokens.
    With `packs_queries` a few new tokens a sequence share tiles of decode attention with the heads
    of their group; without, more than one is prefill. With `copies_state` recurrent states are
    gathered before their update and stored after it, not updated in place. `router_helpers` are
    the small kernels that choosing and weighting experts takes beside one. `graph_sizes` are the
    numbers of tokens for which CUDA graphs were captured: a serving engine pads a batch to the next
    of them. `collectives` names the
    library that runs exchanges between GPUs (`sim.hardware.collective_library`).
    """

    name: str
    launch: LaunchMode
    attention: AttentionVariant
    fusions: tuple[tuple[str, ...], ...]
    merge_projections: bool
    host_time_ps: int
    kv_block_tokens: int
    host_time_per_sequence_ps: int = 0
    latent: LatentVariant = LatentVariant.FLASH_MLA
    scan: ScanVariant = ScanVariant.CHUNKED
    note: str = ""
    row_kernels: RowKernels | None = None
    gather: GatherKernels | None = None
    prefill: PrefillKernel = PrefillKernel.FLASH_ATTENTION
    decode: DecodeKernel = DecodeKernel.FLASH_ATTENTION
    decode_helpers: int = 0
    decode_splits: int = 128
    grouped_tile: GroupedTile | None = None
    grouped: GroupedKernels = GroupedKernels()
    fixed_tiles: tuple[FixedTile, ...] = ()
    tile_set: TileSet = TileSet(rows=(64, 128, 256), most_splits=32)
    vector: VectorKernels | None = None
    packs_queries: bool = False
    copies_state: bool = False
    router_helpers: int = 0
    graph_sizes: tuple[int, ...] = ()
    collectives: str = "nccl"
