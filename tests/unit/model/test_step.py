"""Steps: what is read, written and computed, and in which order."""

from collections.abc import Callable
from typing import TypeVar

import networkx as nx
import pytest

from sim.kernel.formats import BF16, KV_FORMATS, WEIGHT_FORMATS
from sim.kernel.operators import (
    ELEMENTWISE_KINDS,
    Attention,
    ChunkedScan,
    Elementwise,
    Gemm,
    GroupedGemm,
    MlaAttention,
    Operator,
    StateUpdate,
    Traffic,
)
from sim.kernel.work import experts_read_bytes, operator_flop
from sim.model.architecture import Model
from sim.model.memory import weights_bytes
from sim.model.step import StepGraph

Load = Callable[[str], Model]
BuildStep = Callable[..., StepGraph]
Kind = TypeVar("Kind", bound=Operator)

STORED = (Traffic.WEIGHTS, Traffic.EXPERTS)
SHAPES = {
    "decode": {"batch": 3, "q_len": 1, "context": 700},
    "prefill": {"batch": 2, "q_len": 32, "context": 96},
}


def stored_bytes(graph: StepGraph) -> int:
    """Return the size of all weight tensors that the step's operators name."""
    return sum(
        tensor.size_bytes
        for _, operator in graph.operators()
        for tensor in operator.reads()
        if tensor.traffic in STORED
    )


def of_kind(graph: StepGraph, kind: type[Kind]) -> list[Kind]:
    """Return the operators of one class in execution order."""
    return [operator for _, operator in graph.operators() if isinstance(operator, kind)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_activation_is_made_before_it_is_read(
    model: Model, step: BuildStep, shape: dict[str, int]
) -> None:
    """No operator of any model reads a buffer that nobody wrote."""
    made: set[str] = set()
    for index, operator in step(model, **shape).operators():
        for tensor in operator.reads():
            if tensor.traffic is Traffic.ACTIVATIONS:
                assert tensor.name in made, f"{index}/{operator.name} reads {tensor.name}"
        made.update(tensor.name for tensor in operator.writes())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_operators_form_one_acyclic_graph_from_embedding_to_sample(
    model: Model, step: BuildStep, shape: dict[str, int]
) -> None:
    """Every operator hangs on the embedding, and the sampled token is reached from it."""
    graph = step(model, **shape).to_networkx()
    assert nx.is_directed_acyclic_graph(graph)
    assert [node for node, degree in graph.in_degree() if degree == 0] == ["-1/embedding"]
    assert nx.has_path(graph, "-1/embedding", f"{len(model.layers)}/sample")


def test_edges_join_the_last_writer_to_the_reader(load: Load, step: BuildStep) -> None:
    """The chain of one Llama layer, spelt out."""
    graph = step(load("llama-2-7b")).to_networkx()
    assert set(graph.predecessors("0/attention")) == {"0/rope", "0/kv_append"}
    assert set(graph.predecessors("0/mixer_residual_add")) == {"0/o", "-1/embedding"}
    assert set(graph.predecessors("1/qkv")) == {"0/next_norm"}
    assert graph.edges["0/o", "0/mixer_residual_add"]["tensor"] == "mixer_out"


@pytest.mark.parametrize("format_name", ["bf16", "fp8", "int4", "q4_k_m", "mxfp4"])
def test_lowered_weights_are_exactly_the_stored_weights(
    model: Model, step: BuildStep, format_name: str
) -> None:
    """Each stored byte is named by an operator once.

    Two exceptions, both exact: a tied table is named by the embedding look-up and by the head
    but stored once; a block that layers share is named at each use but stored once.
    """
    weight_format = WEIGHT_FORMATS[format_name]
    graph = step(model, weight_format=weight_format, merge_projections=False)
    twice = model.embedding().tensor(weight_format).size_bytes if model.tied_embeddings else 0
    executed = sum(p.tensor(weight_format).size_bytes for p in model.executed_parameters())
    repeated = executed - weights_bytes(model, weight_format)
    assert stored_bytes(graph) - twice - repeated == weights_bytes(model, weight_format)
    assert (repeated > 0) == (model.name == "zamba2-7b")


def test_merging_projections_changes_no_bytes(model: Model, step: BuildStep) -> None:
    """Q, K, V in one GEMM are the same weights as three."""
    merged, apart = (step(model, merge_projections=merge) for merge in (True, False))
    assert stored_bytes(merged) == stored_bytes(apart)


def test_decode_flop_is_twice_the_active_parameters(model: Model, step: BuildStep) -> None:
    """At context 1 a token multiplies each weight once; states and norms add a few per cent."""
    flop = sum(operator_flop(operator) for _, operator in step(model).operators())
    assert flop / (2 * model.active_parameters(input_embedding=False)) == pytest.approx(
        1.0, rel=0.002 if model.family in {"dense", "MoE", "MoE + MLA"} else 0.06
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_elementwise_operators_have_known_kinds_and_matching_byte_lists(
    model: Model, step: BuildStep, shape: dict[str, int]
) -> None:
    """One byte count stands beside each tensor, and never above the tensor's size."""
    for operator in of_kind(step(model, **shape), Elementwise):
        assert operator.kind in ELEMENTWISE_KINDS
        for tensors, sizes in (
            (operator.inputs, operator.read_bytes),
            (operator.outputs, operator.written_bytes),
        ):
            assert len(tensors) == len(sizes)
            for tensor, size in zip(tensors, sizes, strict=True):
                assert 0 <= size <= tensor.size_bytes, f"{operator.name}: {tensor.name}"
            named = {tensor.name for tensor in tensors}
            assert len(named) == len(tensors), f"{operator.name} touches a buffer twice"


def test_identical_layers_share_one_operators_object(load: Load, step: BuildStep) -> None:
    """All 32 Llama layers are one kind, the last one included."""
    blocks = step(load("llama-2-7b")).blocks
    assert [block.index for block in blocks] == [-1, *range(33)]
    assert len({id(block.operators) for block in blocks[1:-1]}) == 1


def test_layers_take_routing_draws_in_turn(load: Load, step: BuildStep) -> None:
    """Layer i routes by draw i modulo the number of draws, and kinds multiply with them."""
    draws = ((2, 2, 0, 0, 0, 0, 0, 0), (0, 0, 2, 2, 0, 0, 0, 0))
    graph = step(load("mixtral-8x7b-v0.1"), batch=2, routing_draws=draws)
    first, second, third = graph.blocks[1:4]
    assert first.operators is third.operators
    assert first.operators is not second.operators
    experts = [op for op in second.operators if isinstance(op, GroupedGemm)]
    assert {op.tokens_per_expert for op in experts} == {draws[1]}


def test_an_moe_without_draws_is_refused(load: Load, step: BuildStep) -> None:
    """The message names what is missing."""
    with pytest.raises(ValueError, match="routing_draws is empty, but the model routes"):
        step(load("mixtral-8x7b-v0.1"), routing_draws=())


def test_a_shape_without_tokens_is_refused(load: Load, step: BuildStep) -> None:
    """The context counts the new tokens, so it cannot be shorter."""
    with pytest.raises(ValueError, match=r"context \(= 3\) must be at least q_len \(= 4\)"):
        step(load("llama-2-7b"), q_len=4, context=3)
    with pytest.raises(ValueError, match=r"batch \(= 0\) must be at least 1"):
        step(load("llama-2-7b"), batch=0)


def test_windowed_attention_reads_no_more_beyond_its_window(load: Load, step: BuildStep) -> None:
    """Mistral's cache reads grow up to 4,096 tokens and stay there."""
    model = load("mistral-7b-v0.1")
    reads = [
        of_kind(step(model, batch=2, context=context), Attention)[0].kv_read_bytes
        for context in (4095, 4096, 4097, 32768)
    ]
    per_token = 2 * 2 * 8 * 128 * 2
    assert reads == [4095 * per_token, 4096 * per_token, 4096 * per_token, 4096 * per_token]


def test_kv_append_writes_the_new_tokens_only(load: Load, step: BuildStep) -> None:
    """A decode step of 4 sequences writes 4 tokens of 8 heads, however long the context."""
    graph = step(load("llama-3.1-8b"), batch=4, context=9000, kv_format=KV_FORMATS["fp8"])
    append = next(op for op in of_kind(graph, Elementwise) if op.kind == "kv_append")
    assert append.written_bytes == (4 * 2 * 8 * 128,)
    assert append.outputs[0] == of_kind(graph, Attention)[0].kv


def test_expert_bytes_follow_the_distinct_experts_hit(load: Load, step: BuildStep) -> None:
    """The same 64 routed tokens read 8 experts or 64, and a dense layer's bytes do not care."""
    model = load("qwen3-30b-a3b")
    narrow, wide = (
        of_kind(step(model, batch=8, routing_draws=(draw,)), GroupedGemm)[0]
        for draw in ((8,) * 8 + (0,) * 120, (1,) * 64 + (0,) * 64)
    )
    assert experts_read_bytes(narrow) == 8 * 2 * 768 * 2048 * 2
    assert experts_read_bytes(wide) == 8 * experts_read_bytes(narrow)
    assert operator_flop(narrow) == operator_flop(wide)


def test_router_gemms_stay_in_16_bits(load: Load, step: BuildStep) -> None:
    """fp8 covers experts and projections but not the router."""
    graph = step(load("qwen3-30b-a3b"), weight_format=WEIGHT_FORMATS["fp8"])
    gemms = {op.name: op.weight_format.name for op in of_kind(graph, Gemm)}
    assert (gemms["router"], gemms["qkv"], gemms["lm_head"]) == ("bf16", "fp8", "bf16")


def test_mxfp4_quantises_experts_only(load: Load, step: BuildStep) -> None:
    """gpt-oss keeps attention in 16 bits."""
    graph = step(load("gpt-oss-20b"), weight_format=WEIGHT_FORMATS["mxfp4"])
    assert {op.weight_format.name for op in of_kind(graph, Gemm)} == {"bf16"}
    assert {op.weight_format.name for op in of_kind(graph, GroupedGemm)} == {"mxfp4"}


def test_activations_are_quantised_once_per_input(load: Load, step: BuildStep) -> None:
    """Unmerged Q, K and V share one quantised copy of their input."""
    graph = step(load("llama-2-7b"), weight_format=WEIGHT_FORMATS["fp8"], merge_projections=False)
    assert [op.name for op in graph.blocks[1].operators][:4] == ["q", "k", "v", "rope"]
    assert graph.blocks[1].operators[0] in of_kind(graph, Gemm)
    quantise = graph.blocks[0].operators[-1]
    assert isinstance(quantise, Elementwise)
    assert (quantise.kind, quantise.written_bytes) == ("quantise", (4096 + 4,))


def test_the_next_layer_s_input_is_quantised_right_behind_its_norm(
    load: Load, step: BuildStep
) -> None:
    """So an engine can fuse both; the head stays in 16 bits, so the last layer ends in its norm."""
    graph = step(load("llama-2-7b"), weight_format=WEIGHT_FORMATS["fp8"])
    tails = [[op.name for op in block.operators[-2:]] for block in graph.blocks[:-1]]
    assert tails[:-1] == [["next_norm", "next_quantise"]] * 32
    assert tails[-1] == ["ffn_residual_add", "next_norm"]
    assert len({id(block.operators) for block in graph.blocks[1:-1]}) == 2


def test_a_buffer_that_was_overwritten_is_quantised_again(load: Load, step: BuildStep) -> None:
    """The norms before attention and before the MLP write the same buffer."""
    graph = step(load("llama-2-7b"), weight_format=WEIGHT_FORMATS["fp8"])
    names = [op.name for op in graph.blocks[1].operators if "quantise" in op.name]
    assert names == ["quantise 1: attn_out", "quantise 2: x", "quantise 3: act", "next_quantise"]


def test_decode_of_latent_attention_is_absorbed_and_prefill_expanded(
    load: Load, step: BuildStep
) -> None:
    """Decode reads the latent cache; prefill expands it into per-head keys and values."""
    model = load("deepseek-v3")
    decode = step(model, batch=2, context=1000)
    assert of_kind(decode, MlaAttention)[0].kv_read_bytes == 2 * 1000 * 576 * 2
    assert not of_kind(decode, Attention)
    absorb = next(op for op in of_kind(decode, Gemm) if op.name == "k_up")
    assert operator_flop(absorb) == 2 * 2 * 128 * 128 * 512
    assert absorb.weight.size_bytes == 128 * 128 * 512 * 2
    prefill = step(model, q_len=64, context=128)
    expand = next(op for op in of_kind(prefill, Gemm) if op.name == "k_up")
    assert (expand.m, expand.n, expand.k) == (128, 128 * 128, 512)
    assert of_kind(prefill, Attention)[0].qk_dim == 192


def test_a_recurrent_decode_step_reads_state_and_no_cache(load: Load, step: BuildStep) -> None:
    """Mamba-2's bytes do not depend on the context."""
    model = load("mamba2-2.7b")
    short, long = (step(model, batch=4, context=context) for context in (1, 100_000))
    assert short.blocks == long.blocks
    states = {op.state.name: op.state.size_bytes for op in of_kind(short, StateUpdate)}
    assert states["state"] == 4 * 80 * 64 * 128 * 4
    assert states["conv_state"] == 4 * (80 * 64 + 2 * 128) * 3 * 2


def test_a_recurrent_prefill_scans_in_chunks(load: Load, step: BuildStep) -> None:
    """The same layers use a chunked scan, whose FLOP are linear in the tokens."""
    model = load("mamba2-2.7b")
    one, two = (
        of_kind(step(model, q_len=q_len, context=q_len), ChunkedScan)[0] for q_len in (512, 1024)
    )
    assert two.tensor_flop == 2 * one.tensor_flop
    assert not of_kind(step(model, q_len=512, context=512), StateUpdate)


def test_the_head_sees_the_last_token_of_each_sequence_only(load: Load, step: BuildStep) -> None:
    """A prefill of 64 tokens computes logits for its 2 sequences, not for 128 tokens."""
    graph = step(load("gemma-2-2b"), batch=2, q_len=64, context=64)
    head = graph.blocks[-1].operators
    assert [op.name for op in head] == ["lm_head", "softcap", "sample"]
    assert isinstance(head[0], Gemm)
    assert head[0].m == 2
    assert head[0].a.size_bytes == 2 * 2304 * 2


def test_parallel_branches_are_added_together(load: Load, step: BuildStep) -> None:
    """GPT-J adds attention and MLP to the stream in one operator."""
    graph = step(load("gpt-j-6b"))
    add = next(op for op in of_kind(graph, Elementwise) if op.name == "parallel_residual_add")
    assert [tensor.name for tensor in add.inputs] == ["residual", "mixer_out", "ffn_out"]


def test_weight_tensors_follow_the_format_of_the_head(load: Load, step: BuildStep) -> None:
    """Q4_K_M quantises the table, int4 does not."""
    model = load("llama-3.1-8b")
    table = model.vocab * model.hidden
    for name, size in (("int4", BF16.bytes_of(table)), ("q4_k_m", 97 * table // 160)):
        graph = step(model, weight_format=WEIGHT_FORMATS[name])
        head = of_kind(graph, Gemm)[-1]
        assert head.weight.size_bytes == pytest.approx(size, abs=1)


def test_a_windowed_cache_may_hold_more_than_its_window(load: Load, step: BuildStep) -> None:
    """llama.cpp's holds a microbatch more, and attention reads all of it; full layers do not."""
    model = load("gpt-oss-20b")
    tight = of_kind(step(model, context=4096), Attention)[0]
    slack = of_kind(step(model, context=4096, window_slack=512), Attention)[0]
    whole = of_kind(step(model, context=4096, window_slack=512), Attention)[1]
    assert (tight.window, slack.window, whole.window) == (128, 640, None)
    assert slack.kv_read_bytes == 5 * tight.kv_read_bytes


def test_latent_experts_are_narrow_and_their_router_is_not(load: Load, step: BuildStep) -> None:
    """Nemotron 3 Super: 4096 wide outside, 1024 inside, widened before the shared expert."""
    graph = step(load("nemotron-3-super-120b-a12b"))
    up, down = of_kind(graph, GroupedGemm)[:2]
    assert (up.k, up.n, down.k, down.n) == (1024, 2688, 2688, 1024)
    gemms = {gemm.name: (gemm.k, gemm.n) for gemm in of_kind(graph, Gemm)}
    assert gemms["router"] == (4096, 512)
    assert (gemms["latent_down"], gemms["latent_up"]) == ((4096, 1024), (1024, 4096))


def test_gemma_4_adds_its_experts_to_its_mlp_between_norms(load: Load, step: BuildStep) -> None:
    """Each branch has a norm before and after, their sum one more; full layers project no V."""
    graph = step(load("gemma-4-26b-a4b"), merge_projections=False)
    names = [operator.name for _, operator in graph.operators()]
    first = names[: names.index("ffn_residual_add")]
    tail = [name for name in first if name.startswith("ffn_post_norm") or "branch" in name]
    assert tail == ["ffn_post_norm_0", "ffn_post_norm_1", "ffn_branch_add", "ffn_post_norm"]
    dims = {(a.window, a.n_kv_heads, a.qk_dim) for a in of_kind(graph, Attention)}
    assert {(kv, dim) for _, kv, dim in dims} == {(8, 256), (2, 512)}
    assert names.count("k") == 30
    assert names.count("v") == 25
