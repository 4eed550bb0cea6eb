"""What one channel sees of a pattern: granules in the order in which they are asked for.

A kernel reads addresses of the whole chip, which are spread over its channels
(`sim.hardware.walk.Interleave`); the stream is what one channel holds of them.
"""

from collections.abc import Iterator
from math import ceil, gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.hardware.dram.patterns import Pattern, PatternName, Stream, make_stream
from sim.hardware.dram.timing import DramSpec
from sim.hardware.walk import Interleave
from sim.scenario.microscope_scenario import PatternSpec
from sim.scenario.microscope_schema import ELEMENT_BITS

Array = NDArray[np.int64]
Rounds = Iterator[Array]

_MAX_ROUNDS: Final = 4096
_PATIENCE: Final = 8  # times the walk that an even spread over channels would need
_NAMES: Final[dict[str, PatternName]] = {"sequential": "seq", "random": "random"}
_PLACES: Final[dict[str, PatternName]] = {"random": "streams_rand", "aligned": "streams_aligned"}


def stream_of(
    pattern: PatternSpec, spec: DramSpec, total_bytes: int, rng: np.random.Generator
) -> Stream:
    """Return the granules that a channel of `spec` is asked for, about `total_bytes` of them."""
    if pattern.kind in _ROUNDS:
        return _kernel_stream(pattern, spec, total_bytes, rng)
    name = _NAMES.get(pattern.kind) or _PLACES[pattern.text("bases")]
    asked = Pattern(
        name=name,
        chunk_bytes=pattern.integer("chunk"),
        total_bytes=total_bytes,
        n_streams=int(pattern.values.get("streams", 1)),
        read_frac=pattern.real("read_share"),
        offered_load=pattern.real("load"),
    )
    return make_stream(asked, spec, rng)


def _kernel_stream(
    pattern: PatternSpec, spec: DramSpec, total_bytes: int, rng: np.random.Generator
) -> Stream:
    chunk = gcd(pattern.integer("interleave"), _run_bytes(pattern))
    wanted = max(1, total_bytes // chunk)
    address = _asked(pattern, chunk, wanted, rng)
    load = pattern.real("load")
    arrive = np.zeros(wanted, dtype=np.int64)
    if load > 0:
        mean_ps = chunk * 1e12 / (spec.peak_bytes_per_s * load)
        arrive = np.cumsum(rng.exponential(mean_ps, wanted)).astype(np.int64)
    return Stream(
        address=address % spec.organisation.capacity_bytes,
        write=np.zeros(wanted, dtype=np.bool_),
        arrive_ps=arrive,
        chunk_bytes=chunk,
    )


def _asked(pattern: PatternSpec, chunk: int, wanted: int, rng: np.random.Generator) -> Array:
    """Return `wanted` granules of the channel of the kernel's first one.

    A kernel whose strides hardly meet that channel again is run once more, on the same addresses.
    """
    interleave = Interleave(
        channels=pattern.integer("channels"),
        chunk_bytes=pattern.integer("interleave"),
        hashed=bool(pattern.values["channel_hash"]),
    )
    found: list[Array] = []
    channel, had, walked = -1, 0, 0
    for chip in _ROUNDS[pattern.kind](pattern, chunk, rng):
        if channel < 0:
            channel = int(interleave.channel_of(chip[:1])[0])
        found.append(interleave.local(chip[interleave.channel_of(chip) == channel]))
        had, walked = had + len(found[-1]), walked + len(chip)
        if had >= wanted or walked > _PATIENCE * wanted * interleave.channels:
            break
    return np.resize(np.concatenate(found), wanted)


def _run_bytes(pattern: PatternSpec) -> int:
    """Return how many bytes lie side by side in what a CTA reads at once."""
    width = pattern.integer("head_dim" if pattern.kind == "paged_kv" else "tile_k")
    return width * ELEMENT_BITS[pattern.text("format")] // 8


def _side_by_side(bases: Array, run_bytes: int, chunk: int) -> Array:
    """Return the granules of runs that start at `bases` (CTA x run): CTAs take turns.

    Requests of one instant reach a channel interleaved, as the crossbar takes one of each source.
    """
    steps = np.arange(0, run_bytes, chunk, dtype=np.int64)
    return np.moveaxis(bases[:, :, None] + steps, 0, 2).ravel()


def _tiles(pattern: PatternSpec, chunk: int, rng: np.random.Generator) -> Rounds:
    """Yield the weight tiles of a matrix product, one step of all resident CTAs at a time.

    A CTA owns `tile_n` rows of the weights (out x in, `in` contiguous, as torch stores them) and
    walks along k, `tile_k` elements a step (NVIDIA, CUTLASS documentation, "Efficient GEMM in
    CUDA": the mainloop over CtaTileK, one iteration is one stage). The next `ctas` row tiles follow
    when these are done. The pipeline of `stages` lets a CTA run ahead of others: each starts up to
    `stages` - 1 steps ahead, at random, which is this model's assumption. Activations stay in L2.
    """
    yield from _walk(pattern, chunk, rng, np.zeros(1, dtype=np.int64))


def _experts(pattern: PatternSpec, chunk: int, rng: np.random.Generator) -> Rounds:
    """Yield the weight tiles of the experts that a batch touches.

    The weights of a layer are one tensor [experts, rows, cols], so an expert is contiguous, and
    the CTAs of one kernel take the tiles of one touched expert after the other (vLLM,
    `fused_moe.py`: `stride_be`, `expert_ids`). Which experts are touched is drawn uniformly.
    """
    bits = ELEMENT_BITS[pattern.text("format")]
    size = pattern.integer("rows") * pattern.integer("cols") * bits // 8
    drawn = rng.choice(pattern.integer("experts"), pattern.integer("touched"), replace=False)
    yield from _walk(pattern, chunk, rng, np.sort(drawn).astype(np.int64) * size)


def _walk(pattern: PatternSpec, chunk: int, rng: np.random.Generator, matrices: Array) -> Rounds:
    run = _run_bytes(pattern)
    row_bytes = pattern.integer("cols") * ELEMENT_BITS[pattern.text("format")] // 8
    tall = min(pattern.integer("tile_n"), pattern.integer("rows"))
    per_matrix = max(1, pattern.integer("rows") // tall)
    steps = max(1, row_bytes // run)
    ctas = np.arange(min(pattern.integer("ctas"), per_matrix * len(matrices)), dtype=np.int64)
    ahead = rng.integers(0, pattern.integer("stages"), len(ctas))
    rows = np.arange(tall, dtype=np.int64) * row_bytes
    for step in range(_MAX_ROUNDS):
        at = step + ahead
        tile = at // steps * len(ctas) + ctas
        # Beyond the last matrix comes the next layer's, behind it in memory.
        layer, tile = np.divmod(tile, per_matrix * len(matrices))
        expert, row_tile = np.divmod(tile, per_matrix)
        base = matrices[expert] + row_tile * tall * row_bytes + at % steps * run
        base += layer * (int(matrices[-1]) + pattern.integer("rows") * row_bytes)
        yield _side_by_side(base[:, None] + rows, run, chunk)


def _blocks(pattern: PatternSpec, chunk: int, rng: np.random.Generator) -> Rounds:
    """Yield the blocks of a paged KV cache that a decode step reads, one of each CTA at a time.

    A layer's cache is a tensor (2, blocks, block, kv_heads, head_dim), keys first (vLLM, backend
    flash_attn, layout NHD; with HND a block is kv_heads x block x head_dim). A CTA attends for one
    sequence and KV head and follows the block table: the keys of a block, then its values; `ctas`
    are resident at once. The blocks of a sequence lie at random places of a pool of which the
    share `fill` is taken, as after many requests have come and gone.
    """
    block, heads = pattern.integer("block"), pattern.integer("kv_heads")
    vector, sequences = _run_bytes(pattern), pattern.integer("sequences")
    per_sequence = ceil(pattern.integer("context") / block)
    used = sequences * per_sequence
    pool = ceil(used / pattern.real("fill"))
    by_token, by_head = (heads * vector, vector)
    if pattern.text("layout") == "hnd":
        by_token, by_head = (vector, block * vector)
    block_bytes = block * heads * vector
    tokens = np.arange(block, dtype=np.int64) * by_token
    work = np.arange(sequences * heads, dtype=np.int64)
    for layer in range(_MAX_ROUNDS):
        table = rng.choice(pool, used, replace=False).astype(np.int64).reshape(sequences, -1)
        for first in range(0, len(work), pattern.integer("ctas")):
            sequence, head = np.divmod(work[first : first + pattern.integer("ctas")], heads)
            for step in range(per_sequence):
                for values in (0, 1):
                    base = (2 * layer + values) * pool * block_bytes + head * by_head
                    base = base + table[sequence, step] * block_bytes
                    yield _side_by_side(base[:, None] + tokens, vector, chunk)


_ROUNDS: Final = {"gemm_tiles": _tiles, "moe_experts": _experts, "paged_kv": _blocks}
