"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): one latent vector a token.

The cache holds `kv_lora + rope_dim` values a token for all heads together. Decode works in the
latent space ("absorbed"): the key up-projection is applied to the queries and the value
up-projection to the result, so no key or value is ever expanded. Prefill expands keys and values
of the visible tokens and runs ordinary attention, which costs less arithmetic there (vLLM
`v1/attention/backends/mla/common.py` describes both paths).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.kernel.formats import KV_FORMATS, KvFormat
from sim.kernel.operators import Attention, Gemm, MlaAttention, Tensor, Traffic
from sim.model.attention import ROPE_FLOP
from sim.model.component import WithoutState
from sim.model.emitter import Emitter, in_place, part_of
from sim.model.parameters import PLAIN_BYTES, Matrix, Norm, Parameter

PART = "attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer:
    """The projections of DeepSeek-V3.2's token selector; its scores are not simulated."""

    n_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MlaMixer(WithoutState):
    """MLA with queries from a low-rank projection (`q_lora` None: from one full matrix)."""

    hidden: int
    n_heads: int
    q_lora: int | None
    kv_lora: int
    nope_dim: int
    rope_dim: int
    v_dim: int
    bias: bool = False
    indexer: Indexer | None = None

    @property
    def _q_width(self) -> int:
        return self.n_heads * (self.nope_dim + self.rope_dim)

    @property
    def _latent(self) -> int:
        return self.kv_lora + self.rope_dim

    def _downs(self) -> tuple[Matrix, ...]:
        kv_a = Matrix(name="kv_a", n_out=self._latent, n_in=self.hidden, bias=self.bias)
        if self.q_lora is None:
            return (Matrix(name="q", n_out=self._q_width, n_in=self.hidden), kv_a)
        q_a = Matrix(name="q_a", n_out=self.q_lora, n_in=self.hidden, bias=self.bias)
        return (q_a, kv_a)

    def _q_up(self) -> tuple[Matrix, ...]:
        if self.q_lora is None:
            return ()
        return (Matrix(name="q_b", n_out=self._q_width, n_in=self.q_lora),)

    def _key_absorb(self) -> Matrix:
        """Return W_UK as decode multiplies by it: per head from `nope_dim` to `kv_lora`.

        Engines keep the absorbed matrices in 16 bits whatever the checkpoint's format is (vLLM
        `process_weights_after_loading` of its MLA backend).
        """
        width = self.n_heads * self.kv_lora
        return Matrix(name="k_up", n_out=width, n_in=self.nope_dim, quantised=False)

    def _value_up(self) -> Matrix:
        width = self.n_heads * self.v_dim
        return Matrix(name="v_up", n_out=width, n_in=self.kv_lora, quantised=False)

    def _output(self) -> Matrix:
        width = self.n_heads * self.v_dim
        return Matrix(name="o", n_out=self.hidden, n_in=width, bias=self.bias)

    def _norms(self) -> dict[str, Norm]:
        norms = {} if self.q_lora is None else {"q_a_norm": Norm(width=self.q_lora)}
        return norms | {"kv_a_norm": Norm(width=self.kv_lora)}

    def _indexer_key_norm(self, indexer: Indexer) -> Norm:
        return Norm(width=indexer.head_dim, bias=True)

    def _indexer_matrices(self, indexer: Indexer) -> tuple[Matrix, Matrix, Matrix]:
        width = indexer.n_heads * indexer.head_dim
        q_in = self.hidden if self.q_lora is None else self.q_lora
        return (
            Matrix(name="indexer.q", n_out=width, n_in=q_in),
            Matrix(name="indexer.k", n_out=indexer.head_dim, n_in=self.hidden),
            Matrix(
                name="indexer.weights", n_out=indexer.n_heads, n_in=self.hidden, quantised=False
            ),
        )

    def parameters(self) -> Iterator[Parameter]:
        """Yield the down- and up-projections, their norms, the output and any indexer."""
        yield from (*self._downs(), *self._q_up(), self._key_absorb(), self._value_up())
        for name, norm in self._norms().items():
            yield norm.vector(name)
        if self.indexer is not None:
            yield from self._indexer_matrices(self.indexer)
            yield self._indexer_key_norm(self.indexer).vector("indexer.k_norm")
        yield self._output()

    def kv_bytes(self, kv_format: KvFormat, *, batch: int, context: int) -> int:
        """Return the size of the latent cache."""
        return kv_format.bytes_of(batch * context, self._latent)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append the absorbed form in decode, the expanded form in prefill."""
        q, q_latent, kv_a = self._emit_queries(emitter, x)
        if self.indexer is not None:
            self._emit_indexer(emitter, self.indexer, x, q_latent)
        kv = self._emit_cache(emitter, q, kv_a)
        attend = self._emit_absorbed if emitter.shape.is_decode else self._emit_expanded
        out = attend(emitter, q, kv)
        return emitter.row_parallel(self._output(), out, "mixer_out", part=PART)

    def _emit_queries(self, emitter: Emitter, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        down, kv_a = emitter.projections("qkv_a", self._downs(), x, part=PART)
        if self.q_lora is None:
            return down, down, kv_a
        emitter.norm(self._norms()["q_a_norm"], "q_a_norm", down, down, part=PART)
        (q_b,) = self._q_up()
        return emitter.gemm(q_b, down, "q", part=PART), down, kv_a

    def _emit_indexer(
        self, emitter: Emitter, indexer: Indexer, x: Tensor, q_latent: Tensor
    ) -> None:
        q, k, weights = self._indexer_matrices(indexer)
        emitter.gemm(q, q_latent, "indexer_q", part=PART)
        key = emitter.gemm(k, x, "indexer_k", part=PART)
        norm = self._indexer_key_norm(indexer)
        emitter.norm(norm, "indexer.k_norm", key, key, part=PART)
        emitter.gemm(weights, x, "indexer_weights", part=PART)

    def _emit_cache(self, emitter: Emitter, q: Tensor, kv_a: Tensor) -> Tensor:
        shape = emitter.shape
        latent = part_of(kv_a, shape.tokens * self.kv_lora * PLAIN_BYTES)
        emitter.norm(self._norms()["kv_a_norm"], "kv_a_norm", latent, latent, part=PART)
        rotated = shape.tokens * self.rope_dim
        touched = in_place(
            part_of(q, rotated * self.n_heads * PLAIN_BYTES),
            part_of(kv_a, rotated * PLAIN_BYTES),
        )
        flop = ROPE_FLOP * rotated * (self.n_heads + 1)
        emitter.elementwise("rope", "rope", part=PART, reads=touched, writes=touched, flop=flop)
        size_bytes = self.kv_bytes(shape.kv_format, batch=shape.batch, context=shape.context)
        kv = Tensor(name="kv", size_bytes=size_bytes, traffic=Traffic.KV)
        emitter.elementwise(
            "kv_append",
            "kv_append",
            part=PART,
            reads=(kv_a,),
            writes=((kv, shape.kv_format.bytes_of(shape.tokens, self._latent)),),
            flop=shape.tokens * self._latent,
        )
        return kv

    def _emit_absorbed(self, emitter: Emitter, q: Tensor, kv: Tensor) -> Tensor:
        shape = emitter.shape
        nope = part_of(q, shape.tokens * self.n_heads * self.nope_dim * PLAIN_BYTES)
        q_absorbed = emitter.gemm(self._key_absorb(), nope, "q_absorbed", part=PART)
        rope_bytes = shape.tokens * self.n_heads * self.rope_dim * PLAIN_BYTES
        latent_out = emitter.activation("latent_out", self.n_heads * self.kv_lora)
        emitter.add(
            MlaAttention(
                name="attention",
                part=PART,
                batch=shape.batch,
                q_len=shape.q_len,
                context=shape.context,
                n_heads=self.n_heads,
                kv_lora=self.kv_lora,
                rope_dim=self.rope_dim,
                q=part_of(q_absorbed, q_absorbed.size_bytes + rope_bytes),
                kv=kv,
                out=latent_out,
                kv_format=shape.kv_format,
                kv_read_bytes=kv.size_bytes,
            )
        )
        return emitter.gemm(self._value_up(), latent_out, "attn_out", part=PART)

    def _emit_expanded(self, emitter: Emitter, q: Tensor, kv: Tensor) -> Tensor:
        shape = emitter.shape
        keys_values = self._emit_expansion(emitter, kv)
        out = emitter.activation("attn_out", self.n_heads * self.v_dim)
        emitter.add(
            Attention(
                name="attention",
                part=PART,
                batch=shape.batch,
                q_len=shape.q_len,
                context=shape.context,
                n_q_heads=self.n_heads,
                n_kv_heads=self.n_heads,
                qk_dim=self.nope_dim + self.rope_dim,
                v_dim=self.v_dim,
                window=None,
                q=part_of(q, shape.tokens * self._q_width * PLAIN_BYTES),
                kv=keys_values,
                out=out,
                kv_format=KV_FORMATS["bf16"],
                kv_read_bytes=keys_values.size_bytes,
            )
        )
        return out

    def _emit_expansion(self, emitter: Emitter, kv: Tensor) -> Tensor:
        """Append the expansion of all visible latents; keys also get the shared rotary part."""
        shape = emitter.shape
        rows = shape.batch * shape.context
        expanded = self.n_heads * (self.nope_dim + self.rope_dim + self.v_dim)
        target = emitter.activation("expanded_kv", expanded, rows=rows)
        for matrix, width in ((self._key_absorb(), self.nope_dim), (self._value_up(), self.v_dim)):
            emitter.add(
                Gemm(
                    name=matrix.name,
                    part=PART,
                    m=rows,
                    n=self.n_heads * width,
                    k=self.kv_lora,
                    a=kv,
                    weight=matrix.tensor(shape.weight_format),
                    out=part_of(target, rows * self.n_heads * width * PLAIN_BYTES),
                    weight_format=matrix.stored_format(shape.weight_format),
                )
            )
        self._emit_shared_rope(emitter, kv, target, rows)
        return target

    def _emit_shared_rope(self, emitter: Emitter, kv: Tensor, target: Tensor, rows: int) -> None:
        emitter.elementwise(
            "scale",
            "copy_rope_to_heads",
            part=PART,
            reads=((kv, emitter.shape.kv_format.bytes_of(rows, self.rope_dim)), (target, 0)),
            writes=((target, rows * self.n_heads * self.rope_dim * PLAIN_BYTES),),
        )
