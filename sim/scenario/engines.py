"""Reads engine profiles, `scenarios/engines/NAME.toml`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from sim.checking import Checker, Cited, Count, Duration, Table, one_of
from sim.errors import EngineError, InputError
from sim.hardware.collective_library import LIBRARIES
from sim.kernel.engine import (
    AttentionVariant,
    DecodeKernel,
    Engine,
    LatentVariant,
    LaunchMode,
    VectorKernels,
)
from sim.kernel.operators import ELEMENTWISE_KINDS
from sim.resources import display, find_file, named_files
from sim.toml_source import TomlSource, read_toml

_Kind = Annotated[str, one_of("element-wise kind", ELEMENTWISE_KINDS)]
_Chain = Annotated[list[_Kind], Field(min_length=2)]


class _Vector(Table):
    most_tokens: Count
    most_plain_tokens: Count
    most_grouped_tokens: Count
    tokens_a_pass: Count
    unpack_flop: Annotated[int, Field(ge=0)]
    product_flop: Count
    quantises: bool
    regroups: bool
    warp_a_row: bool


class _Profile(Table):
    launch: Annotated[str, one_of("launch mode", tuple(LaunchMode))]
    attention: Annotated[str, one_of("attention variant", tuple(AttentionVariant))]
    fusions: list[_Chain]
    merge_projections: bool
    host_time: Cited[Duration]
    host_time_per_sequence: Cited[Duration] | None = None
    kv_block_tokens: Count
    note: str = ""
    decode: Annotated[str, one_of("decode kernel", tuple(DecodeKernel))] = (
        DecodeKernel.FLASH_ATTENTION
    )
    latent: Annotated[str, one_of("latent variant", tuple(LatentVariant))] = LatentVariant.FLASH_MLA
    packs_queries: bool = False
    copies_state: bool = False
    router_helpers: Annotated[int, Field(ge=0)] = 0
    graph_sizes: Annotated[list[Count], Field(default_factory=list)]
    vector_kernels: _Vector | None = None
    collectives: Annotated[str, one_of("collective library", tuple(LIBRARIES))] = "nccl"


def available_engines(search_dirs: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of all engine profiles in `search_dirs`, sorted."""
    return tuple(named_files(search_dirs))


def load_engine(name_or_path: str, search_dirs: Sequence[Path]) -> Engine:
    """Return the engine profile of this name or path.

    Raises EngineError with every problem of the profile; if there is no such profile, its only
    Problem has `name_or_path` as its file.
    """
    try:
        path = find_file(name_or_path, named_files(search_dirs), what="engine")
        source = read_toml(path, file=display(path))
    except InputError as error:
        raise EngineError(error.problems) from error
    return _engine_of(source, name=path.stem)


def _engine_of(source: TomlSource, *, name: str) -> Engine:
    checker = Checker(source)
    profile = checker.table(_Profile)
    if profile is None:
        raise checker.error(EngineError)
    return Engine(
        name=name,
        launch=LaunchMode(profile.launch),
        attention=AttentionVariant(profile.attention),
        fusions=tuple(tuple(chain) for chain in profile.fusions),
        merge_projections=profile.merge_projections,
        host_time_ps=profile.host_time.value,
        kv_block_tokens=profile.kv_block_tokens,
        host_time_per_sequence_ps=(
            profile.host_time_per_sequence.value if profile.host_time_per_sequence else 0
        ),
        note=profile.note,
        decode=DecodeKernel(profile.decode),
        latent=LatentVariant(profile.latent),
        packs_queries=profile.packs_queries,
        copies_state=profile.copies_state,
        router_helpers=profile.router_helpers,
        graph_sizes=tuple(sorted(profile.graph_sizes)),
        vector=_vector_of(profile.vector_kernels),
        collectives=profile.collectives,
    )


def _vector_of(table: _Vector | None) -> VectorKernels | None:
    return None if table is None else VectorKernels(**table.model_dump())
