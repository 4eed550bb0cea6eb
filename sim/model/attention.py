"""Softmax attention as a mixer: multi-head, grouped-query and multi-query, with or without window.

Windows: a token sees itself and the `window - 1` tokens before it, and the cache keeps no more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from sim.kernel.formats import KvFormat
from sim.kernel.operators import Attention, Tensor, Traffic
from sim.model.component import WithoutState
from sim.model.emitter import NORM_FLOP, Emitter, in_place, part_of
from sim.model.parameters import PLAIN_BYTES, Matrix, Parameter, Vector

PART = "attention"
ROPE_FLOP = 3
"""Two multiplies and one add a rotated value; sine and cosine come from a table."""


class QkNorm(StrEnum):
    """Which vectors of Q and K are normalised: none, each head, or all heads together."""

    NONE = "none"
    HEAD = "head"
    FULL = "full"


def visible_tokens(context: int, q_len: int, window: int | None) -> int:
    """Return how many cached tokens at least one of the `q_len` newest tokens sees."""
    return context if window is None else min(context, window + q_len - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMixer(WithoutState):
    """Attention with `n_kv_heads` cached heads of `head_dim`, shared by `n_q_heads` queries.

    `n_in` and `n_out` are the widths it reads and writes; `window` None sees everything;
    `rotary_dim` 0 means no rotary embedding; `output_gate` multiplies the result by a sigmoid of
    a second query-sized projection (Qwen3-Next); `sinks` is one learnt logit per head (gpt-oss);
    with `keys_as_values` one projection makes both, which are cached apart, as only keys rotate
    (Gemma 4).
    """

    n_in: int
    n_out: int
    n_q_heads: int
    n_kv_heads: int
    head_dim: int
    rotary_dim: int
    window: int | None = None
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: QkNorm = QkNorm.NONE
    sinks: bool = False
    output_gate: bool = False
    keys_as_values: bool = False

    @property
    def q_width(self) -> int:
        """Return the width of all queries."""
        return self.n_q_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Return the width of all keys (and of all values)."""
        return self.n_kv_heads * self.head_dim

    def _projections(self) -> tuple[Matrix, ...]:
        gated_q = self.q_width * (2 if self.output_gate else 1)
        widths = {"q": gated_q, "k": self.kv_width, "v": self.kv_width}
        if self.keys_as_values:
            del widths["v"]
        return tuple(
            Matrix(name=name, n_out=width, n_in=self.n_in, bias=self.qkv_bias)
            for name, width in widths.items()
        )

    def _output(self) -> Matrix:
        return Matrix(name="o", n_out=self.n_out, n_in=self.q_width, bias=self.o_bias)

    def _qk_norms(self) -> tuple[Vector, ...]:
        if self.qk_norm is QkNorm.NONE:
            return ()
        heads = self.qk_norm is QkNorm.HEAD
        sizes = (self.head_dim, self.head_dim) if heads else (self.q_width, self.kv_width)
        return tuple(
            Vector(name=f"{which}_norm.weight", size=size)
            for which, size in zip("qk", sizes, strict=True)
        )

    def _sinks(self) -> tuple[Vector, ...]:
        return (Vector(name="sinks", size=self.n_q_heads),) if self.sinks else ()

    def parameters(self) -> Iterator[Parameter]:
        """Yield projections, query and key norms, sinks and the output projection."""
        yield from self._projections()
        yield from self._qk_norms()
        yield from self._sinks()
        yield self._output()

    def kv_bytes(self, kv_format: KvFormat, *, batch: int, context: int) -> int:
        """Return the size of keys and values of the tokens that the window keeps."""
        return self._kv_bytes(kv_format, batch * visible_tokens(context, 1, self.window))

    def _kv_bytes(self, kv_format: KvFormat, tokens: int) -> int:
        return 2 * kv_format.bytes_of(tokens * self.n_kv_heads, self.head_dim)

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append projections, rotation, cache write, attention and output projection."""
        q, k, *values = emitter.projections("qkv", self._projections(), x, part=PART)
        v = values[0] if values else k
        q = part_of(q, emitter.shape.tokens * self.q_width * PLAIN_BYTES)
        self._emit_qk_norm(emitter, q, k)
        self._emit_rope(emitter, q, k)
        out = self._emit_attention(emitter, q, self._emit_kv_append(emitter, k, v))
        if self.output_gate:
            self._emit_gate(emitter, q, out)
        return emitter.row_parallel(self._output(), out, "mixer_out", part=PART)

    def _emit_qk_norm(self, emitter: Emitter, q: Tensor, k: Tensor) -> None:
        norms = self._qk_norms()
        if not norms:
            return
        if self.qk_norm is QkNorm.FULL:
            # heads on other GPUs count, too: two sums of squares a token, in fp32
            squares = part_of(q, emitter.shape.tokens * 2 * 4)
            emitter.all_reduce(squares, "qk_norm.all_reduce", part=PART)
        values = emitter.shape.tokens * (self.q_width + self.kv_width)
        emitter.elementwise(
            "qk_norm",
            "qk_norm",
            part=PART,
            reads=(*in_place(q, k), *(emitter.stored(norm) for norm in norms)),
            writes=in_place(q, k),
            flop=NORM_FLOP * values,
            sfu=max(1, values // self.head_dim),
        )

    def _emit_rope(self, emitter: Emitter, q: Tensor, k: Tensor) -> None:
        if not self.rotary_dim:
            return
        rotated = emitter.shape.tokens * self.rotary_dim
        touched_q = part_of(q, rotated * self.n_q_heads * PLAIN_BYTES)
        touched_k = part_of(k, rotated * self.n_kv_heads * PLAIN_BYTES)
        emitter.elementwise(
            "rope",
            "rope",
            part=PART,
            reads=in_place(touched_q, touched_k),
            writes=in_place(touched_q, touched_k),
            flop=ROPE_FLOP * rotated * (self.n_q_heads + self.n_kv_heads),
        )

    def _read_window(self, emitter: Emitter) -> int | None:
        return None if self.window is None else self.window + emitter.shape.window_slack

    def _emit_kv_append(self, emitter: Emitter, k: Tensor, v: Tensor) -> Tensor:
        shape = emitter.shape
        window = self._read_window(emitter)
        visible = shape.batch * visible_tokens(shape.context, shape.q_len, window)
        kv = Tensor(
            name="kv", size_bytes=self._kv_bytes(shape.kv_format, visible), traffic=Traffic.KV
        )
        written = self._kv_bytes(shape.kv_format, shape.tokens)
        emitter.elementwise(
            "kv_append",
            "kv_append",
            part=PART,
            reads=in_place(k, v),
            writes=((kv, min(written, kv.size_bytes)),),
            flop=2 * shape.tokens * self.kv_width,
        )
        return kv

    def _emit_attention(self, emitter: Emitter, q: Tensor, kv: Tensor) -> Tensor:
        shape = emitter.shape
        out = emitter.activation("attn_out", self.q_width)
        emitter.add(
            Attention(
                name="attention",
                part=PART,
                batch=shape.batch,
                q_len=shape.q_len,
                context=shape.context,
                n_q_heads=self.n_q_heads,
                n_kv_heads=self.n_kv_heads,
                qk_dim=self.head_dim,
                v_dim=self.head_dim,
                window=self._read_window(emitter),
                q=q,
                kv=kv,
                out=out,
                kv_format=shape.kv_format,
                kv_read_bytes=kv.size_bytes,
                sinks=next((emitter.stored(vector) for vector in self._sinks()), None),
            )
        )
        return out

    def _emit_gate(self, emitter: Emitter, q: Tensor, out: Tensor) -> None:
        emitter.elementwise(
            "gate",
            "output_gate",
            part=PART,
            reads=(out, (q, out.size_bytes)),
            writes=(out,),
            flop=2 * emitter.shape.tokens * self.q_width,
            sfu=emitter.shape.tokens * self.q_width,
        )
