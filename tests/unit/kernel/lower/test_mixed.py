"""`sim.kernel.lower.mixed`: a chunk of prefill and decodes in one grid."""

from dataclasses import replace

from sim.kernel.kernel import Kernel
from sim.kernel.lower import lower
from sim.kernel.operators import Attention, MixedAttention, Tensor
from sim.kernel.target import Target
from sim.kernel.work import operator_flop
from tests.unit.kernel.samples import AMPERE, HOPPER, attention, engine


def renamed(op: Attention, name: str) -> Attention:
    """Return an attention whose tensors have names of their own."""

    def own(tensor: Tensor) -> Tensor:
        return replace(tensor, name=f"{name}.{tensor.name}")

    return replace(op, name=name, q=own(op.q), kv=own(op.kv), out=own(op.out))


def mixed(*, chunk: int, batch: int, context: int) -> MixedAttention:
    """Return a chunk without a prefix beside decodes."""
    prefill = renamed(attention(q_len=chunk, context=chunk), "chunk")
    decode = renamed(attention(batch=batch, context=context), "decode")
    return MixedAttention(name="attention", part="attention", attentions=(prefill, decode))


def lowered(op: MixedAttention, target: Target = AMPERE) -> tuple[Kernel, ...]:
    """Return the only sequence of kernels of an operator."""
    (kernels,) = lower(op, target, engine())
    return kernels


def test_decodes_beside_a_chunk_are_a_cta_for_every_query_head() -> None:
    """One kernel: two blocks of 64 queries and four decodes for each of 32 heads."""
    (kernel,) = lowered(mixed(chunk=128, batch=4, context=1024))
    assert kernel.n_ctas == (2 + 4) * 32


def test_a_decode_computes_the_rows_of_the_chunks_tile_and_is_not_split() -> None:
    """One token of 1,024 keys takes as long as 64 queries would."""
    (kernel,) = lowered(mixed(chunk=64, batch=1, context=1024))
    walks = [phase for _, phase in kernel.phases() if phase.load_bytes > 1024 * 2 * 256]
    assert {walk.tensor_flop for walk in walks} == {64 * 1024 * (4 * 128 + 133)}


def test_a_longer_chunk_makes_decodes_wait_for_ctas_without_a_query() -> None:
    """Every block of queries that a decode lacks is a CTA that exits."""
    waits = []
    for chunk in (64, 128):
        (kernel,) = lowered(mixed(chunk=chunk, batch=1, context=4096))
        waits.append(max(p.round_trips for _, p in kernel.phases() if p.load_bytes > 2**20))
    assert waits[1] - waits[0] == 3


def test_heads_of_a_group_share_reads_only_as_far_as_they_run_together() -> None:
    """Few sequences: the four heads of a group; more than the chip holds: each reads alone."""
    sharers = []
    for batch in (8, 400):
        (kernel,) = lowered(mixed(chunk=64, batch=batch, context=4096))
        sharers.append({x.sharers for _, p in kernel.phases() for x in p.loads if p.steps == 64})
    assert sharers[0] == {1, 4}
    assert sharers[1] == {1}


def test_all_of_the_cache_is_asked_for_by_every_head() -> None:
    """Four heads of a group ask for the KV of their head once each."""
    op = mixed(chunk=64, batch=4, context=1024)
    (kernel,) = lowered(op)
    names = [segment.name for segment in kernel.segments]
    asked = sum(
        kind.count * load.size_bytes
        for kind, phase in kernel.phases()
        for load in phase.loads
        if names[load.segment].startswith("decode.kv")
    )
    assert asked == 4 * op.attentions[1].kv_read_bytes
    assert kernel.flop == operator_flop(op) == sum(operator_flop(a) for a in op.attentions)


def test_hopper_runs_chunk_and_decodes_apart() -> None:
    """Its kernel packs and splits whatever is beside it."""
    kernels = lowered(mixed(chunk=64, batch=4, context=1024), HOPPER)
    assert len(kernels) > 1
    assert {kernel.operator for kernel in kernels} == {"attention"}
