"""Rows of ssm.csv: the short convolution, the recurrent step and the chunked scan."""

from analysis.validate.case import KernelCase, Row, UnpredictableError, number
from sim.kernel.formats import BF16, KV_FORMATS
from sim.kernel.operators import Tensor, Traffic
from sim.model.conv import CausalConv
from sim.model.delta_net import GatedDeltaNet
from sim.model.emitter import Emitter, StepShape


def ssm_case(row: Row) -> KernelCase:
    """Return what a row timed. Raises UnpredictableError for a kernel we do not know."""
    q_len = 1 if row["phase"] == "generation" else number(row, "seq_len")
    emitter = Emitter(
        StepShape(
            batch=number(row, "batch"),
            q_len=q_len,
            context=q_len,
            weight_format=BF16,
            kv_format=KV_FORMATS["bf16"],
            merge_projections=True,
        )
    )
    net = GatedDeltaNet(
        hidden=number(row, "d_model"),
        n_k_heads=number(row, "n_k_heads"),
        n_v_heads=number(row, "n_v_heads"),
        k_dim=number(row, "k_dim"),
        v_dim=number(row, "v_dim"),
        kernel=number(row, "d_conv"),
    )
    channels = 2 * net.n_k_heads * net.k_dim + net.n_v_heads * net.v_dim
    kernel = row["kernel"]
    if "conv1d" in kernel:
        source = emitter.activation("conv_in", channels)
        CausalConv(channels=channels, kernel=net.kernel, bias=False).emit(
            emitter, source, part="benchmark"
        )
    elif row["family"] in ("gdn", "kda"):
        inputs = (
            emitter.activation("qkv", channels),
            emitter.activation("gates", 2 * net.n_v_heads),
        )
        out = emitter.activation("out", net.n_v_heads * net.v_dim)
        net.recurrence().emit(emitter, inputs, out, part="benchmark")
    else:
        raise UnpredictableError(f"no kernel {row['family']} {kernel}")
    operators = emitter.operators()
    states = tuple(
        tensor for op in operators for tensor in op.reads() if tensor.traffic is Traffic.STATE
    )
    return KernelCase(operators=operators, warm=_distinct(states))


def _distinct(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple({tensor.name: tensor for tensor in tensors}.values())
