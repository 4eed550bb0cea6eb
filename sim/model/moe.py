"""Mixture of experts: a router, routed experts of which each token uses a few, shared experts."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.collective import Op
from sim.kernel.operators import Tensor
from sim.model.component import Stateless
from sim.model.emitter import Emitter
from sim.model.mlp import DenseMlp, emit_activation
from sim.model.parameters import PLAIN_BYTES, Experts, Matrix, Parameter, Vector
from sim.model.routing import check_counts, heaviest_share

PART = "moe"
ROUTING_BYTES = 8
"""A routed token is a 4-byte expert number and an fp32 weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe(Stateless):
    """`top_k` of `n_experts` experts of `width`, plus shared experts as one MLP.

    `correction_bias` is DeepSeek-V3's per-expert score offset (a buffer, not a weight);
    `n_group` and `topk_group` limit the choice to some groups of experts, which costs router
    arithmetic only; `shared_gate` scales the shared experts by a sigmoid per token.
    Experts of a `latent` width read and write vectors of that width, which one projection for all
    of them makes and another widens again (Nemotron 3's LatentMoE; the router and the shared
    experts see the whole width). `router_scale` is a weight per channel before the router and one
    per expert behind it (Gemma 4).

    With `local_experts` this is one GPU of several that hold so many whole experts each (None: all
    are here). The step is as long as that of the GPU with the most experts to read, so its share of
    a routing draw is taken. If the GPUs have tokens of their own, all tokens are gathered before
    the experts and the results scattered behind them (vLLM `allgather_reducescatter`).
    """

    hidden: int
    width: int
    n_experts: int
    top_k: int
    gated: bool = True
    expert_bias: bool = False
    router_bias: bool = False
    correction_bias: bool = False
    n_group: int = 1
    topk_group: int = 1
    shared_width: int = 0
    shared_gate: bool = False
    latent: int | None = None
    router_scale: bool = False
    local_experts: int | None = None

    @property
    def held_experts(self) -> int:
        """Return how many routed experts lie in this GPU's memory."""
        return self.n_experts if self.local_experts is None else self.local_experts

    @property
    def _expert_hidden(self) -> int:
        return self.hidden if self.latent is None else self.latent

    def _latent_down(self) -> tuple[Matrix, ...]:
        if self.latent is None:
            return ()
        return (Matrix(name="latent_down", n_out=self.latent, n_in=self.hidden),)

    def _latent_up(self) -> tuple[Matrix, ...]:
        if self.latent is None:
            return ()
        return (Matrix(name="latent_up", n_out=self.hidden, n_in=self.latent),)

    def _router_scales(self) -> tuple[Vector, ...]:
        if not self.router_scale:
            return ()
        channel = Vector(name="router.scale", size=self.hidden)
        return (channel, Vector(name="router.expert_scale", size=self.n_experts))

    def _router(self) -> Matrix:
        return Matrix(
            name="router",
            n_out=self.n_experts,
            n_in=self.hidden,
            bias=self.router_bias,
            quantised=False,
        )

    def _correction(self) -> tuple[Vector, ...]:
        bias = Vector(name="router.correction", size=self.n_experts, value_bytes=4)
        return (bias,) if self.correction_bias else ()

    def _experts(self, name: str, n_out: int, n_in: int) -> Experts:
        return Experts(
            name=f"experts.{name}",
            count=self.held_experts,
            top_k=self.top_k,
            n_out=n_out,
            n_in=n_in,
            bias=self.expert_bias,
        )

    def _up(self) -> Experts:
        """Return gate and up together: every grouped GEMM in use runs them as one."""
        name, factor = ("gate_up", 2) if self.gated else ("up", 1)
        return self._experts(name, factor * self.width, self._expert_hidden)

    def _down(self) -> Experts:
        return self._experts("down", self._expert_hidden, self.width)

    def _shared(self) -> DenseMlp | None:
        if not self.shared_width:
            return None
        return DenseMlp(
            hidden=self.hidden,
            width=self.shared_width,
            gated=self.gated,
            prefix="shared.",
            part=PART,
            out="shared_out",
        )

    def _shared_gate(self) -> tuple[Matrix, ...]:
        gate = Matrix(name="shared_gate", n_out=1, n_in=self.hidden, quantised=False)
        return (gate,) if self.shared_gate else ()

    def parameters(self) -> Iterator[Parameter]:
        """Yield router, routed experts and shared experts."""
        yield self._router()
        yield from self._correction()
        yield from self._router_scales()
        yield from self._latent_down()
        yield from (self._up(), self._down())
        yield from self._latent_up()
        shared = self._shared()
        if shared is not None:
            yield from shared.parameters()
            yield from self._shared_gate()

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append shared experts, router, permutation, both grouped GEMMs and combination.

        Raises ValueError if the routing draw of the emitter does not fit.
        """
        counts = self._local_counts(emitter)
        shared = self._emit_shared(emitter, x)
        routing = self._emit_routing(emitter, x)
        for matrix in self._latent_down():
            x = emitter.gemm(matrix, x, "expert_latent", part=PART)
        x, routing = self._emit_gather(emitter, x, routing)
        permuted = self._emit_permute(emitter, x, routing, rows=sum(counts))
        up = emitter.grouped_gemm(self._up(), permuted, "expert_up", part=PART, counts=counts)
        values = sum(counts) * self.width
        hidden = emit_activation(emitter, (up,), values, prefix="expert_", part=PART)
        down = emitter.grouped_gemm(self._down(), hidden, "expert_out", part=PART, counts=counts)
        out = self._emit_result(emitter, (down, routing), shared, rows=sum(counts))
        emitter.all_reduce(out, "moe.all_reduce", part=PART)
        return out

    def _local_counts(self, emitter: Emitter) -> tuple[int, ...]:
        draw, shape = emitter.routing_draw, emitter.shape
        tokens = shape.tokens * shape.data_parallel
        check_counts(draw, tokens=tokens, n_experts=self.n_experts, top_k=self.top_k)
        if self.local_experts is None:
            return draw
        return heaviest_share(draw, self.n_experts // self.local_experts)

    def _emit_gather(self, emitter: Emitter, x: Tensor, routing: Tensor) -> tuple[Tensor, Tensor]:
        """Append the all-gather of tokens and their routing; without other ranks, nothing."""
        ranks = emitter.shape.data_parallel
        if ranks == 1:
            return x, routing
        rows = ranks * emitter.shape.tokens
        tokens = emitter.activation("gathered", self._expert_hidden, rows=rows)
        routings = emitter.activation(
            "gathered_routing", self.top_k, rows=rows, value_bytes=ROUTING_BYTES
        )
        outputs = (tokens, routings)
        emitter.exchange(
            Op.ALL_GATHER, ranks, (x, routing), outputs, name="experts.all_gather", part=PART
        )
        return outputs

    def _emit_shared(self, emitter: Emitter, x: Tensor) -> tuple[Tensor, ...]:
        shared = self._shared()
        if shared is None:
            return ()
        out = shared.emit_partial(emitter, x)
        for matrix in self._shared_gate():
            gate = emitter.gemm(matrix, x, "shared_gate", part=PART)
            values = emitter.shape.tokens * self.hidden
            emitter.elementwise(
                "gate",
                "shared_gating",
                part=PART,
                reads=(out, gate),
                writes=(out,),
                flop=values,
                sfu=emitter.shape.tokens,
            )
        return (out,)

    def _emit_routing(self, emitter: Emitter, x: Tensor) -> Tensor:
        tokens = emitter.shape.tokens
        logits = emitter.gemm(self._router(), x, "router_logits", part=PART)
        routing = emitter.activation("routing", self.top_k, value_bytes=ROUTING_BYTES)
        passes = self.top_k + 2 + (self.n_group > 1) * (self.topk_group + 2)
        emitter.elementwise(
            "router_topk",
            "router_topk",
            part=PART,
            reads=(logits, *map(emitter.stored, (*self._correction(), *self._router_scales()))),
            writes=(routing,),
            flop=passes * tokens * self.n_experts,
            sfu=tokens * self.n_experts,
        )
        return routing

    def _emit_permute(self, emitter: Emitter, x: Tensor, routing: Tensor, *, rows: int) -> Tensor:
        permuted = emitter.activation("permuted", self._expert_hidden, rows=rows)
        emitter.elementwise("permute", "permute", part=PART, reads=(x, routing), writes=(permuted,))
        return permuted

    def _emit_result(
        self,
        emitter: Emitter,
        routed: tuple[Tensor, ...],
        shared: tuple[Tensor, ...],
        *,
        rows: int,
    ) -> Tensor:
        """Append the combination of `rows` results.

        Latent results are widened, those for other ranks scattered, before shared ones are added.
        """
        if self.latent is None and emitter.shape.data_parallel == 1:
            return self._emit_combine(emitter, "ffn_out", (*routed, *shared), rows=rows)
        name = "ffn_out" if self.latent is None else "expert_latent_out"
        out = self._emit_scatter(emitter, name, routed, rows=rows)
        for matrix in self._latent_up():
            out = emitter.gemm(matrix, out, "ffn_out", part=PART)
        if shared:
            values = out.size_bytes // PLAIN_BYTES
            emitter.elementwise(
                "residual_add",
                "shared_add",
                part=PART,
                reads=(out, *shared),
                writes=(out,),
                flop=values,
            )
        return out

    def _emit_scatter(
        self, emitter: Emitter, name: str, routed: tuple[Tensor, ...], *, rows: int
    ) -> Tensor:
        """Append the combination and, if other ranks have tokens here, the reduce-scatter."""
        ranks = emitter.shape.data_parallel
        if ranks == 1:
            return self._emit_combine(emitter, name, routed, rows=rows)
        partial = self._emit_combine(emitter, "partial", routed, rows=rows)
        out = emitter.activation(name, self._expert_hidden)
        emitter.exchange(
            Op.REDUCE_SCATTER, ranks, (partial,), (out,), name="experts.reduce_scatter", part=PART
        )
        return out

    def _emit_combine(
        self, emitter: Emitter, name: str, reads: tuple[Tensor, ...], *, rows: int
    ) -> Tensor:
        rows_out = emitter.shape.tokens * emitter.shape.data_parallel
        out = emitter.activation(name, self._expert_hidden, rows=rows_out)
        values = out.size_bytes // PLAIN_BYTES
        emitter.elementwise(
            "combine",
            "combine",
            part=PART,
            reads=reads,
            writes=(out,),
            flop=2 * rows * self._expert_hidden + values * (len(reads) - 2),
        )
        return out
