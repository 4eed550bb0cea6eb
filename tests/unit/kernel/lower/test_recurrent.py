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
    (phase,) = kind.phases
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
    """A float32 state is read, a 16-bit one is written to memory of its own."""
    new = replace(STATE, name="new", size_bytes=32 * KIB)
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
        "delta_keys", "delta_solve", "delta_w_u", "delta_states", "delta_outputs",
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
    """They are applied, or summed up, by a kernel of their own."""
    gated = replace(DELTA, channel_gates=True)
    more = lower_scan(gated, HOPPER, variant)
    assert len(more) == len(lower_scan(DELTA, HOPPER, variant)) + 1
