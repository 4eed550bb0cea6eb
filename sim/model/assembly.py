"""Assembly: emits the operators of one block (embedding, layer or head) in execution order.

A block ends with the norm that the next one starts from. Engines run the residual addition and
the norm behind it as one kernel across the layer boundary (vLLM `fused_add_rms_norm`), and cut
here a uniform model has identical layers, the last one (whose next norm is the final one)
included. A quantisation of the next input follows the norm (`quantise_behind_norm`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sim.kernel.collective import Op
from sim.kernel.operators import Elementwise, Operator, Tensor
from sim.model.architecture import Layer, Model, Sublayer
from sim.model.emitter import Emitter, StepShape, part_of
from sim.model.parameters import PLAIN_BYTES, Matrix, Norm
from sim.model.shared_block import SharedBlockMixer

RESIDUAL = "residual"
NEXT_QUANTISE = "next_quantise"
SAMPLE_FLOP = 2
"""Per logit: running maximum and sum, beside one exponential."""

NextNorms = tuple[Norm, ...]
"""The norms that make the inputs of the next sublayer from the residual stream."""


def next_norms(model: Model, index: int) -> NextNorms:
    """Return the entry norms of layer `index`, or the final norm behind the last layer."""
    if index < len(model.layers):
        return tuple(norm for _, norm in model.layers[index].sublayers[0].entry_norms())
    return () if model.final_norm is None else (model.final_norm,)


def embedding_block(model: Model, shape: StepShape) -> tuple[Operator, ...]:
    """Return the look-up of the new tokens, any embedding norm and the first layer's norm.

    Only the rows that are looked up are read. With a shared vocabulary each GPU reads rows for all
    tokens, masks those of others, and all are added.
    """
    emitter = Emitter(shape)
    table = model.embedding()
    rows_bytes = table.stored_format(shape.weight_format).bytes_of(shape.tokens * model.hidden)
    plain_bytes = shape.tokens * model.hidden * PLAIN_BYTES
    stream = emitter.activation(RESIDUAL, model.hidden)
    keeps_copy = any(isinstance(c, SharedBlockMixer) for c in model.components())
    copy = (emitter.activation("embedded", model.hidden),) if keeps_copy else ()
    positions = tuple((emitter.stored(v), plain_bytes) for v in model.position_table())
    emitter.elementwise(
        "embedding",
        "embedding",
        part="embedding",
        reads=((table.tensor(shape.weight_format), rows_bytes), *positions),
        writes=(stream, *copy),
        flop=shape.tokens * model.hidden * len(positions),
    )
    emitter.all_reduce(stream, "embedding.all_reduce", part="embedding", copies=copy)
    if model.embedding_norm is not None:
        emitter.norm(model.embedding_norm, "embedding_norm", stream, stream, part="embedding")
    _emit_norms(emitter, next_norms(model, 0), "next_norm", hidden=model.hidden)
    return emitter.operators()


def layer_block(
    layer: Layer, following: NextNorms, shape: StepShape, *, hidden: int, draw: tuple[int, ...]
) -> tuple[Operator, ...]:
    """Return the operators of a layer, up to and with the norm of the `following` sublayer."""
    emitter = Emitter(shape, draw)
    for number, sublayer in enumerate(layer.sublayers):
        if number:
            norms = tuple(norm for _, norm in sublayer.entry_norms())
            _emit_norms(emitter, norms, f"{sublayer.name}_norm", hidden=hidden)
        _emit_sublayer(emitter, sublayer, hidden=hidden)
    _emit_norms(emitter, following, "next_norm", hidden=hidden)
    return emitter.operators()


def head_block(model: Model, shape: StepShape) -> tuple[Operator, ...]:
    """Return LM head, soft cap and sampling, for the last token of each sequence only."""
    emitter = Emitter(shape)
    last_bytes = shape.batch * model.hidden * PLAIN_BYTES
    name = RESIDUAL if model.final_norm is None else "x"
    source = part_of(emitter.activation(name, model.hidden), last_bytes)
    head: Matrix = model.head()
    logits = emitter.gemm(head, source, "logits", part="head", rows=shape.batch)
    logits = _gathered_logits(emitter, logits)
    values = shape.batch * model.vocab * shape.tensor_parallel
    if model.softcap:
        emitter.elementwise(
            "softcap",
            "softcap",
            part="head",
            reads=(logits,),
            writes=(logits,),
            flop=2 * values,
            sfu=values,
        )
    tokens = emitter.activation("sampled", 1, rows=shape.batch, value_bytes=4)
    emitter.elementwise(
        "sample",
        "sample",
        part="head",
        reads=(logits,),
        writes=(tokens,),
        flop=SAMPLE_FLOP * values,
        sfu=values,
    )
    return emitter.operators()


def _gathered_logits(emitter: Emitter, logits: Tensor) -> Tensor:
    """Append the all-gather of the logits, whose vocabulary the GPUs share; every GPU samples."""
    ranks = emitter.shape.tensor_parallel
    if ranks == 1:
        return logits
    whole = replace(logits, name="all_logits", size_bytes=ranks * logits.size_bytes)
    emitter.exchange(
        Op.ALL_GATHER, ranks, (logits,), (whole,), name="logits.all_gather", part="head"
    )
    return whole


def _normed(emitter: Emitter, number: int, *, hidden: int) -> Tensor:
    return emitter.activation("x" if number == 0 else f"x_{number}", hidden)


def _emit_norms(emitter: Emitter, norms: NextNorms, name: str, *, hidden: int) -> None:
    stream = emitter.activation(RESIDUAL, hidden)
    for number, norm in enumerate(norms):
        unique = name if number == 0 else f"{name}_{number}"
        emitter.norm(norm, unique, stream, _normed(emitter, number, hidden=hidden), part="norm")


def _branch_inputs(emitter: Emitter, sublayer: Sublayer, *, hidden: int) -> tuple[Tensor, ...]:
    """Return what each branch reads: its own norm's result, the shared one's, or the stream."""
    stream = emitter.activation(RESIDUAL, hidden)
    first = _normed(emitter, 0, hidden=hidden)
    shared = stream if sublayer.norm is None else first
    offset = 0 if sublayer.norm is None else 1
    inputs = []
    for branch in sublayer.branches:
        own = branch.norm is not None
        inputs.append(_normed(emitter, offset, hidden=hidden) if own else shared)
        offset += own
    return tuple(inputs)


def _emit_sublayer(emitter: Emitter, sublayer: Sublayer, *, hidden: int) -> None:
    inputs = _branch_inputs(emitter, sublayer, hidden=hidden)
    outs = tuple(
        branch.component.emit(emitter, x)
        for branch, x in zip(sublayer.branches, inputs, strict=True)
    )
    name = f"{sublayer.name}_post_norm"
    for number, (branch, out) in enumerate(zip(sublayer.branches, outs, strict=True)):
        if branch.post_norm is not None:
            emitter.norm(branch.post_norm, f"{name}_{number}", out, out, part="norm")
    if sublayer.post_norm is not None:
        outs = _summed(emitter, sublayer.name, outs)
        emitter.norm(sublayer.post_norm, name, outs[0], outs[0], part="norm")
    stream = emitter.activation(RESIDUAL, hidden)
    emitter.elementwise(
        "residual_add",
        f"{sublayer.name}_residual_add",
        part="norm",
        reads=(stream, *outs),
        writes=(stream,),
        flop=emitter.shape.tokens * hidden * len(outs),
    )


def _summed(emitter: Emitter, name: str, outs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if len(outs) == 1:
        return outs
    emitter.elementwise(
        "residual_add",
        f"{name}_branch_add",
        part="norm",
        reads=outs,
        writes=(outs[0],),
        flop=(outs[0].size_bytes // PLAIN_BYTES) * (len(outs) - 1),
    )
    return (outs[0],)


def quantise_behind_norm(
    blocks: Sequence[tuple[Operator, ...]],
) -> Iterator[tuple[Operator, ...]]:
    """Yield the blocks with a quantisation that starts one moved to the end of the one before.

    There it follows the norm that made its input, as the fused norm-and-quantise kernels have it
    (vLLM `rms_norm_dynamic_per_token_quant`). Equal results stay one object.
    """
    seen: dict[tuple[int, Operator | None], tuple[Operator, ...]] = {}
    for number, operators in enumerate(blocks):
        following = _leading_quantise(blocks[number + 1]) if number + 1 < len(blocks) else None
        key = (id(operators), following)
        if key not in seen:
            own = operators if _leading_quantise(operators) is None else operators[1:]
            seen[key] = own if following is None else (*own, replace(following, name=NEXT_QUANTISE))
        yield seen[key]


def _leading_quantise(operators: tuple[Operator, ...]) -> Operator | None:
    first = operators[0]
    return first if isinstance(first, Elementwise) and first.kind == "quantise" else None
