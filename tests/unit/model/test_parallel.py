"""Shares of a model: together they are the model, and a step says where they meet."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from sim.kernel.collective import Collective, Op
from sim.kernel.formats import BF16, KV_FORMATS
from sim.kernel.operators import Elementwise, Exchange, GroupedGemm
from sim.kernel.work import operator_flop
from sim.model.architecture import Layer, Model
from sim.model.emitter import StepShape
from sim.model.importer import known_models
from sim.model.mamba2 import Mamba2Mixer
from sim.model.memory import kv_bytes, state_bytes, weights_bytes
from sim.model.parallel import shard
from sim.model.parameters import Experts, Matrix, Parameter, Vector
from sim.model.routing import draw_routing, heaviest_share
from sim.model.shared_block import SharedBlockMixer
from sim.model.step import StepGraph
from sim.resources import model_dirs
from sim.units import ceil_div

Load = Callable[[str], Model]
BuildStep = Callable[..., StepGraph]

ALL_MODELS = known_models(model_dirs())
SHAPES = {
    "decode": {"batch": 3, "q_len": 1, "context": 700},
    "prefill": {"batch": 2, "q_len": 32, "context": 96},
}
COPIED = {
    "router", "shared_gate", "latent_down", "latent_up", "q_a", "kv_a", "indexer.q", "indexer.k",
    "indexer.weights", "adapter.down", "linear",
}  # fmt: skip
"""Matrices that every GPU has whole."""
GROUPED = {"in_proj", "conv.weight", "conv", "ssm"}
"""What of Mamba-2 also holds B and C of a group that GPUs have copies of."""
REFUSED = ("falcon-7b", "rwkv6-finch-1.6b", "rwkv6-finch-3b", "rwkv6-finch-7b", "rwkv7-g1-7.2b")


def exchanges(graph: StepGraph, block: int | None = None) -> list[tuple[str, Collective]]:
    """Return name and collective of every exchange (of a block)."""
    return [
        (op.name, op.what)
        for index, op in graph.operators()
        if isinstance(op, Exchange) and block in (None, index)
    ]


def all_reduce(size_bytes: int, ranks: int = 2) -> Collective:
    return Collective(op=Op.ALL_REDUCE, ranks=ranks, per_node=ranks, size_bytes=size_bytes)


def copied_groups(model: Model, tensor: int) -> bool:
    """Tell whether GPUs share a group of a Mamba-2 mixer of the model."""
    mixers = [
        c.mamba if isinstance(c, SharedBlockMixer) else c
        for c in model.components()
        if isinstance(c, SharedBlockMixer | Mamba2Mixer)
    ]
    return any(mixer.n_groups < tensor for mixer in mixers)


def pairs(model: Model, share: Model) -> Iterator[tuple[Parameter, Parameter]]:
    """Yield every parameter of the layers beside the share of it."""
    kinds: dict[Layer, Layer] = dict(zip(model.layers, share.layers, strict=True))
    for whole, part in kinds.items():
        yield from zip(whole.parameters(), part.parameters(), strict=True)


def weights_of(parameter: Parameter) -> int:
    """Return the parameters without biases, which a row-parallel matrix has whole."""
    if isinstance(parameter, Matrix):
        return parameter.n_out * parameter.n_in
    if isinstance(parameter, Experts):
        return parameter.count * parameter.n_out * parameter.n_in
    return parameter.total


@pytest.fixture(params=[name for name in ALL_MODELS if name not in REFUSED])
def model(request: pytest.FixtureRequest, load: Load) -> Model:
    """Return each of the models that two GPUs can share."""
    return load(str(request.param))


@pytest.fixture
def share(model: Model) -> Model:
    """Return one GPU's half of it."""
    return shard(model, tensor=2)


def test_one_gpu_has_the_model_itself(model: Model) -> None:
    """Nothing is replaced."""
    assert shard(model, tensor=1, expert=1) is model


def test_two_halves_are_the_model(model: Model, share: Model) -> None:
    """Each matrix is halved, or copied whole if it is not per head; norms and routers are copied.

    Heads of keys and values that are fewer than GPUs are copies, too.
    """
    groups = copied_groups(model, 2)
    for whole, part in pairs(model, share):
        assert whole.name == part.name
        both = 2 * weights_of(part)
        if isinstance(whole, Matrix | Experts) and whole.name not in COPIED | {"k", "v"} | GROUPED:
            assert both == weights_of(whole), whole.name
        elif whole.name in GROUPED and groups:
            assert weights_of(whole) < both < 1.1 * weights_of(whole), whole.name
        else:
            assert both in (weights_of(whole), 2 * weights_of(whole)), whole.name
            per_head = {"k", "v"} | GROUPED
            assert isinstance(whole, Vector) or whole.name in COPIED | per_head, whole.name
    assert share.vocab == ceil_div(model.vocab, 2)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_gpus_arithmetic_sums_to_the_model_s(
    model: Model, share: Model, step: BuildStep, shape: dict[str, int]
) -> None:
    """A share of a step has the same operators, exchanges aside, with half the work or copies."""
    facts = {**shape, "merge_projections": False}
    alone = list(step(model, **facts).operators())
    shared = list(step(share, **facts).operators())
    rest = [(i, op) for i, op in shared if not isinstance(op, Exchange)]
    assert [(i, op.name) for i, op in rest] == [(i, op.name) for i, op in alone]
    groups = copied_groups(model, 2)
    for (_, whole), (_, part) in zip(alone, rest, strict=True):
        flop, both = operator_flop(whole), 2 * operator_flop(part)
        if isinstance(whole, Elementwise):
            continue
        if whole.name in COPIED | {"k", "v"}:
            assert both in (flop, 2 * flop), whole.name
        elif whole.name in GROUPED and groups:
            assert flop <= both < 1.1 * flop, whole.name
        else:
            padding = 2 * shape["batch"] * model.hidden * (model.vocab % 2)
            assert both == flop + padding * (whole.name == "lm_head"), whole.name


def test_bytes_follow_from_the_share(model: Model, share: Model) -> None:
    """Weights, cache and state of both GPUs are at least the model's, and no more than twice.

    More than the model's is what they have copies of: least of all where attention has as many
    heads of keys as GPUs.
    """
    kv = KV_FORMATS["bf16"]
    for need in (
        lambda m: weights_bytes(m, BF16),
        lambda m: kv_bytes(m, kv, batch=2, context=1000),
        lambda m: state_bytes(m, batch=2),
    ):
        assert need(model) <= 2 * need(share) <= 2 * need(model)
    assert 2 * weights_bytes(share, BF16) < 1.03 * weights_bytes(model, BF16)


def test_heads_of_keys_are_copied_when_they_are_fewer_than_gpus(load: Load) -> None:
    """Four heads on eight GPUs: each has one; a latent cache is whole everywhere."""
    kv = KV_FORMATS["bf16"]
    qwen, deepseek = load("qwen3-30b-a3b"), load("deepseek-v3")
    for model, share_of in ((qwen, 4), (deepseek, 1)):
        parts = kv_bytes(shard(model, tensor=8), kv, batch=1, context=100)
        assert parts == kv_bytes(model, kv, batch=1, context=100) // share_of


def test_the_weights_of_qwen3_32b_by_hand(load: Load) -> None:
    """64 layers of 2·(64·128 + 8·128)·5120 and 3·5120·25600 values, and two tables, halved."""
    share = shard(load("qwen3-32b"), tensor=2)
    layer = 2 * (32 + 4) * 128 * 5120 + 3 * 5120 * 12800
    norms = 2 * 5120 + 2 * 128
    tables = 2 * 5120 * 151936 // 2
    assert weights_bytes(share, BF16) == 2 * (64 * (layer + norms) + tables + 5120)


def test_experts_are_spread_whole(load: Load) -> None:
    """Two GPUs have 64 of 128 experts each, and everything else."""
    model = load("qwen3-30b-a3b")
    share = shard(model, expert=2)
    experts = 48 * 128 * 3 * 2048 * 768
    assert model.parameters() - share.parameters() == experts // 2
    assert share.moe is not None
    assert (share.moe.n_experts, share.moe.held_experts) == (128, 64)


def test_the_shares_of_a_draw_sum_to_its_work(load: Load, step: BuildStep) -> None:
    """Both GPUs' grouped GEMMs have the FLOP of the whole; a step takes the heavier one."""
    model = load("qwen3-30b-a3b")
    share = shard(model, expert=2)
    rng = np.random.default_rng(1)
    draw = draw_routing("uniform", tokens=32, n_experts=128, top_k=8, rng=rng)
    other = draw[64:] + draw[:64]
    assert heaviest_share(draw, 2) == heaviest_share(other, 2)

    def grouped(model: Model, counts: tuple[int, ...], **facts: int) -> list[GroupedGemm]:
        graph = step(model, routing_draws=(counts,), **facts)
        return [op for i, op in graph.operators() if i == 0 and isinstance(op, GroupedGemm)]

    whole = grouped(model, draw, batch=32)
    parts = grouped(share, draw, batch=16)
    for one, part in zip(whole, parts, strict=True):
        assert part.tokens_per_expert in (draw[:64], draw[64:])
        assert len(part.tokens_per_expert) == 64
        assert part.experts.size_bytes == one.experts.size_bytes // 2
        rest = sum(draw) - sum(part.tokens_per_expert)
        assert operator_flop(one) == operator_flop(part) + 2 * rest * part.n * part.k


def test_a_dense_layer_is_summed_twice(load: Load, step: BuildStep) -> None:
    """After attention, after the MLP; the embedding is summed, and the logits are gathered."""
    model = load("qwen3-32b")
    graph = step(shard(model, tensor=2), batch=16, context=100)
    stream = all_reduce(16 * 5120 * 2)
    assert exchanges(graph, -1) == [("embedding.all_reduce", stream)]
    assert exchanges(graph, 0) == [("o.all_reduce", stream), ("down.all_reduce", stream)]
    gather = Collective(op=Op.ALL_GATHER, ranks=2, per_node=2, size_bytes=16 * 151936 * 2)
    assert exchanges(graph, 64) == [("logits.all_gather", gather)]
    assert len(exchanges(graph)) == 1 + 64 * 2 + 1


def test_experts_and_shared_experts_are_summed_once(load: Load, step: BuildStep) -> None:
    """Columns of the experts or whole experts on two GPUs: one sum behind both."""
    model = load("glm-4.5-air")
    for share in (shard(model, tensor=2), shard(model, tensor=2, expert=2)):
        graph = step(share, batch=4)
        names = [name for name, _ in exchanges(graph, 1)]
        assert names == ["o.all_reduce", "moe.all_reduce"]


def test_data_parallel_ranks_gather_tokens_and_scatter_results(load: Load, step: BuildStep) -> None:
    """Hidden states and the choice (8 x 8 bytes) go to all; nothing else is exchanged."""
    share = shard(load("qwen3-30b-a3b"), expert=2)
    draw = draw_routing("balanced", tokens=32, n_experts=128, top_k=8, rng=np.random.default_rng(0))
    graph = step(share, batch=16, context=100, routing_draws=(draw,))
    sizes = [(name, what.op, what.size_bytes) for name, what in exchanges(graph, 3)]
    assert sizes == [
        ("experts.all_gather", Op.ALL_GATHER, 32 * (2048 * 2 + 8 * 8)),
        ("experts.reduce_scatter", Op.REDUCE_SCATTER, 32 * 2048 * 2),
    ]
    assert len(exchanges(graph)) == 48 * 2


def test_latent_experts_exchange_narrow_vectors(load: Load, step: BuildStep) -> None:
    """Nemotron 3 Super's experts read 1,024 values, which is what is gathered and scattered."""
    model = load("nemotron-3-super-120b-a12b")
    assert model.moe is not None
    tokens, top_k = 8, model.moe.top_k
    rng = np.random.default_rng(0)
    n_experts = model.moe.n_experts
    draw = draw_routing("uniform", tokens=tokens, n_experts=n_experts, top_k=top_k, rng=rng)
    graph = step(shard(model, expert=2), batch=4, routing_draws=(draw,))
    gather, scatter = (what.size_bytes for _, what in exchanges(graph)[:2])
    assert (gather, scatter) == (tokens * (1024 * 2 + top_k * 8), tokens * 1024 * 2)


def test_a_share_knows_who_steps_with_it(load: Load) -> None:
    """Experts on eight GPUs of which two divide a model: four groups."""
    share = shard(load("qwen3-30b-a3b"), tensor=2, expert=8)
    assert (share.tensor_parallel, share.data_parallel) == (2, 4)
    halves = shard(load("qwen3-32b"), tensor=2)
    assert (halves.tensor_parallel, halves.data_parallel) == (2, 1)


def test_every_activation_of_a_share_is_made_before_it_is_read(
    share: Model, step: BuildStep
) -> None:
    """The exchanges stand where the graph of the whole model has its sums."""
    made: set[str] = set()
    for _, operator in step(share).operators():
        for tensor in operator.reads():
            if tensor.traffic == "activations":
                assert tensor.name in made, operator.name
        made.update(tensor.name for tensor in operator.writes())


def test_a_whole_model_exchanges_nothing(model: Model, step: BuildStep) -> None:
    """On one GPU nothing is sent."""
    assert exchanges(step(model)) == []


def test_everything_that_does_not_divide_is_told(load: Load) -> None:
    """All numbers at once, each once."""
    with pytest.raises(ValueError, match="recurrentgemma-2b cannot be shared by GPUs: ") as caught:
        shard(load("recurrentgemma-2b"), tensor=4)
    assert str(caught.value).endswith(
        "GPUs: 4 does not divide 10 gate blocks; 4 does not divide 10 query heads"
    )


@pytest.mark.parametrize("name", REFUSED)
def test_only_these_models_cannot_be_halved(load: Load, name: str) -> None:
    """An odd number of heads, and what no engine divides."""
    with pytest.raises(ValueError, match=f"{name} cannot be shared by GPUs: "):
        shard(load(name), tensor=2)


@pytest.mark.parametrize(
    ("name", "share", "message"),
    [
        ("rwkv7-g1-7.2b", {"tensor": 2}, "no engine divides its Rwkv7Mixer"),
        ("qwen3-32b", {"expert": 2}, "it has no experts to spread"),
        ("qwen3-30b-a3b", {"expert": 3}, "3 does not divide 128 experts"),
        ("qwen3-30b-a3b", {"tensor": 4, "expert": 2}, "4 does not divide 2 GPUs that share the"),
        ("qwen3-32b", {"tensor": 0}, r"tensor \(= 0\) must be at least 1"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    load: Load, name: str, share: dict[str, int], message: str
) -> None:
    """With the reason."""
    with pytest.raises(ValueError, match=message):
        shard(load(name), **share)


def test_a_draw_holds_the_tokens_of_all_ranks(load: Load, step: BuildStep) -> None:
    """Two ranks of four tokens are eight."""
    share = shard(load("qwen3-30b-a3b"), expert=2)
    with pytest.raises(ValueError, match="not 8 tokens x top-8"):
        step(share, batch=4)


@pytest.mark.parametrize("name", ["tensor_parallel", "data_parallel"])
def test_a_step_has_at_least_one_rank(name: str) -> None:
    """The message names the parameter."""
    with pytest.raises(ValueError, match=rf"{name} \(= 0\) must be at least 1"):
        StepShape(
            batch=1,
            q_len=1,
            context=1,
            weight_format=BF16,
            kv_format=KV_FORMATS["bf16"],
            merge_projections=True,
            **{name: 0},
        )
