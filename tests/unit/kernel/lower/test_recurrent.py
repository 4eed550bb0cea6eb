"""`sim.kernel.lower.recurrent` and `scan`: bytes of a state update, the kernels of a scan."""

from dataclasses import replace

import pytest

from sim.kernel.engine import ScanVariant
from sim.kernel.kernel import Kernel, Load, Store
from sim.kernel.lower.recurrent import lower_state_update
from sim.kernel.lower.scan import lower_scan
from sim.kernel.operators import ChunkedScan, StateUpdate, Tensor, Traffic
from tests.unit.kernel.samples import AMPERE, HOPPER, activation

KIB = 1024
STATE = Tensor(name="state", size_bytes=64 * KIB, traffic=Traffic.STATE)
HEADS, TOKENS, WIDTH = 4, 256, 128
ROWS = HEADS * TOKENS
DELTA = ChunkedScan(
    name="delta",
    part="ssm",
    batch=1,
    n_heads=HEADS,
    q_len=TOKENS,
    chunk=64,
    state=Tensor(name="state", size_bytes=4 * HEADS * WIDTH * WIDTH, traffic=Traffic.STATE),
    inputs=(activation("qkv", 6 * WIDTH * ROWS), activation("gates", 4 * ROWS)),
    outputs=(activation("out", 2 * WIDTH * ROWS),),
    tensor_flop=ROWS * (2 * 64 * 5 * WIDTH + 6 * WIDTH * WIDTH),
    vector_flop=ROWS,
    key_dim=WIDTH,
)


def stored(kernel: Kernel, name: str) -> int:
    """Return the bytes that a kernel stores to a segment."""
    index = [segment.name for segment in kernel.segments].index(name)
    return sum(
        kind.count * store.size_bytes
        for kind, phase in kernel.phases()
        for store in phase.stores
        if store.segment == index
    )


def test_a_state_update_reads_and_writes_the_whole_state() -> None:
    """Two sequences of four heads: eight CTAs, each with its slice of state in and out."""
    op = StateUpdate(
        name="update",
        part="ssm",
        batch=2,
        n_heads=4,
        state=STATE,
        inputs=(activation("x", 800),),
        outputs=(activation("y", 400),),
        vector_flop=8000,
        sfu_ops=16,
    )
    (kernel,) = lower_state_update(op, AMPERE, copied=False)
    (kind,) = kernel.kinds
    _before, phase = kind.phases
    assert kind.count == 8
    assert [s.name for s in kernel.segments] == ["x", "state", "y"]
    assert phase.loads == (
        Load(segment=0, size_bytes=100),
        Load(segment=1, size_bytes=8 * KIB),
    )
    assert phase.stores == (
        Store(segment=2, size_bytes=50),
        Store(segment=1, size_bytes=8 * KIB, in_place=True),
    )
    assert (phase.vector_flop, phase.sfu_ops) == (1000, 2)


@pytest.mark.parametrize(("q_len", "round_trips"), [(1, 3), (64, 3), (65, 4), (640, 12)])
def test_a_scan_walks_its_chunks_in_order(q_len: int, round_trips: int) -> None:
    """Two round trips to begin with and one for each chunk of 64 tokens."""
    op = ChunkedScan(
        name="scan",
        part="ssm",
        batch=3,
        n_heads=4,
        q_len=q_len,
        chunk=64,
        state=STATE,
        inputs=(activation("x", 1200),),
        outputs=(activation("y", 1200),),
        tensor_flop=120,
        vector_flop=12,
        sfu_ops=1,
    )
    (kernel,) = lower_scan(op, HOPPER)
    (kind,) = kernel.kinds
    (phase,) = kind.phases
    assert kernel.name == "chunked_scan_64"
    assert kind.count == 12
    assert phase.round_trips == round_trips
    assert (phase.tensor_flop, phase.vector_flop, phase.sfu_ops) == (10, 1, 1)
    assert phase.loads[1] == Load(segment=1, size_bytes=-(-64 * KIB // 12))
    assert phase.stores[1] == Store(segment=1, size_bytes=-(-64 * KIB // 12), in_place=True)
    assert kernel.flop == 132


def test_a_new_state_elsewhere_is_written_instead_of_the_old_one() -> None:
    """A 16-bit state is read, a float32 one is written to memory of its own."""
    new = replace(STATE, name="new", size_bytes=128 * KIB)
    op = StateUpdate(
        name="update",
        part="ssm",
        batch=2,
        n_heads=4,
        state=STATE,
        inputs=(),
        outputs=(),
        vector_flop=8,
        new_state=new,
        tile_bytes=4 * KIB,
    )
    (kernel,) = lower_state_update(op, AMPERE, copied=False)
    assert kernel.n_ctas == 16
    assert kernel.requested_bytes == STATE.size_bytes
    assert kernel.stored_bytes == new.size_bytes


def update(op: StateUpdate) -> Kernel:
    """Return the kernel of a step whose state stays where it is."""
    (kernel,) = lower_state_update(op, AMPERE, copied=False)
    return kernel


def tiles(batch: int, **changes: int) -> StateUpdate:
    """Return a step of four heads of 64 KiB a sequence, in float32, and nothing else."""
    op = StateUpdate(
        name="update",
        part="ssm",
        batch=batch,
        n_heads=4,
        state=Tensor(name="state", size_bytes=batch * 4 * 64 * KIB, traffic=Traffic.STATE),
        inputs=(),
        outputs=(),
        vector_flop=8,
    )
    return replace(op, **changes)  # type: ignore[arg-type]


def test_a_tile_waits_for_its_chains_and_then_for_its_turn() -> None:
    """Of 16 KiB: 27 chains before the loads, 11 in which the CTA holds the load/store unit."""
    (kind,) = update(tiles(1)).kinds
    before, burst = kind.phases
    assert kind.count == 16
    assert (before.round_trips, before.steps, before.port_steps) == (1, 27, 0)
    assert (burst.steps, burst.port_steps) == (11, 11)


def test_more_warps_shorten_a_tiles_chains_but_not_its_turn() -> None:
    """Four warps: 2 + 25/4 chains; what a kernel does beside the update is added."""
    (kind,) = update(tiles(1, warps=4, extra_steps=5)).kinds
    before, burst = kind.phases
    assert (before.steps, burst.port_steps) == (14, 11)


def test_a_grid_of_many_waves_hides_its_starts() -> None:
    """Eight tiles an SM at a time: from six waves on, all chains are of the one phase."""
    edge = AMPERE.sm_count * 8 * 6 // 16
    (few,) = update(tiles(edge - 1)).kinds
    (many,) = update(tiles(edge)).kinds
    assert len(few.phases) == 2
    assert [(p.steps, p.port_steps) for p in many.phases] == [(38, 11)]


def test_tiles_of_very_many_waves_share_a_cta_that_moves_and_does_as_much() -> None:
    """Of 100 waves three tiles are one CTA: fewer events, the same bytes, chains and turns."""
    op = tiles(AMPERE.sm_count * 8 * 100 // 16)
    kernel = update(op)
    (kind,) = kernel.kinds
    (phase,) = kind.phases
    assert kind.count == AMPERE.sm_count * 8 * 100 // 3
    assert (phase.steps, phase.port_steps) == (3 * 38, 3 * 11)
    assert kernel.requested_bytes == pytest.approx(op.state.size_bytes, rel=1e-6)


def test_a_short_convolution_is_one_phase_of_small_tiles() -> None:
    """256 channels a CTA: two chains, and two more in its turn, if it does not take longer."""
    op = tiles(1, n_heads=256)
    for turn_steps, expected in ((None, (4, 2)), (3, (5, 3))):
        (kind,) = update(replace(op, turn_steps=turn_steps)).kinds
        (phase,) = kind.phases
        assert (phase.steps, phase.port_steps) == expected


def test_a_copied_state_is_gathered_before_and_stored_after_its_update() -> None:
    """llama.cpp reads and writes a state three times."""
    op = StateUpdate(
        name="update",
        part="ssm",
        batch=2,
        n_heads=4,
        state=STATE,
        inputs=(),
        outputs=(),
        vector_flop=8,
    )
    kernels = lower_state_update(op, AMPERE, copied=True)
    assert [kernel.name for kernel in kernels] == ["gather_state", "state_update", "store_state"]
    assert [kernel.requested_bytes for kernel in kernels] == [STATE.size_bytes] * 3
    assert [kernel.stored_bytes for kernel in kernels] == [STATE.size_bytes] * 3


def test_a_delta_rule_in_parts_does_its_work_once_and_leaves_every_chunks_state() -> None:
    """The kernels' FLOP are the operator's; a state of 16 bits a chunk goes through memory."""
    kernels = lower_scan(DELTA, HOPPER, ScanVariant.CHUNKED)
    assert sum(kernel.flop for kernel in kernels) == DELTA.tensor_flop
    by_name = {kernel.name: kernel for kernel in kernels}
    assert list(by_name)[2:] == [
        "delta_gates", "delta_keys", "delta_solve", "delta_w_u", "delta_states", "delta_outputs",
    ]  # fmt: skip
    chunks = HEADS * TOKENS // 64
    assert stored(by_name["delta_states"], "scan_states") == chunks * 2 * WIDTH * WIDTH
    assert stored(by_name["delta_states"], "state") == DELTA.state.size_bytes


def test_a_fused_delta_rule_walks_one_head_a_cta() -> None:
    """Four heads are four CTAs; inputs and outputs move once."""
    (kernel,) = lower_scan(DELTA, HOPPER, ScanVariant.FUSED)
    assert kernel.n_ctas == HEADS
    assert stored(kernel, "out") == DELTA.outputs[0].size_bytes


@pytest.mark.parametrize("variant", list(ScanVariant))
def test_gates_per_channel_add_a_kernel(variant: ScanVariant) -> None:
    """They are applied, or make the diagonal of the triangle, by a kernel of their own."""
    gated = replace(DELTA, channel_gates=True)
    more = lower_scan(gated, HOPPER, variant)
    assert len(more) == len(lower_scan(DELTA, HOPPER, variant)) + 1


def test_norms_are_kernels_of_a_scan_only_if_it_is_to_normalise() -> None:
    """Queries and keys that come normalised save two kernels, one CTA a chunk and key head each."""
    kernels = {kernel.name: kernel for kernel in lower_scan(DELTA, HOPPER)}
    assert kernels["delta_norm_q"].n_ctas == HEADS * TOKENS // 64
    bare = lower_scan(replace(DELTA, norms=False), HOPPER)
    assert [kernel.name for kernel in bare] == list(kernels)[2:]


def test_only_a_walk_with_chains_starts_up_before_its_first_chunk() -> None:
    """A fused delta rule sets up first; another recurrence has the round trips of its phase."""
    (fused,) = lower_scan(DELTA, HOPPER, ScanVariant.FUSED)
    (other,) = lower_scan(replace(DELTA, key_dim=None), HOPPER)
    assert [len(kind.phases) for kind in (*fused.kinds, *other.kinds)] == [2, 1]
    assert fused.kinds[0].phases[0].steps > 0
