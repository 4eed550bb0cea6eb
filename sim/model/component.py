"""The contract of everything that can stand in a sublayer."""

from collections.abc import Iterator
from typing import Protocol

from sim.kernel.formats import KvFormat
from sim.kernel.operators import Tensor
from sim.model.emitter import Emitter
from sim.model.parameters import Parameter


class Component(Protocol):
    """A mixer or a feed-forward network: it lists its parameters and emits its operators.

    Implementations are frozen dataclasses: two equal components are the same component. What
    `emit` lowers must be exactly what `parameters` lists.
    """

    def parameters(self) -> Iterator[Parameter]:
        """Yield every parameter once."""
        ...

    def emit(self, emitter: Emitter, x: Tensor) -> Tensor:
        """Append the operators that turn `x` into the returned activation.

        It must not add the residual: the layer does that.
        """
        ...

    def kv_bytes(self, kv_format: KvFormat, *, batch: int, context: int) -> int:
        """Return the size of the cache that grows with `context` tokens, 0 if there is none."""
        ...

    def state_bytes(self, batch: int) -> int:
        """Return the size of the state that does not grow with the context, 0 if none."""
        ...


class WithoutCache:
    """What components share whose memory does not grow with the context."""

    __slots__ = ()

    def kv_bytes(self, kv_format: KvFormat, *, batch: int, context: int) -> int:  # noqa: ARG002
        """Return 0: there is no cache."""
        return 0


class WithoutState:
    """What components share that carry nothing but, maybe, a cache from token to token."""

    __slots__ = ()

    def state_bytes(self, batch: int) -> int:  # noqa: ARG002
        """Return 0: there is no state."""
        return 0


class Stateless(WithoutCache, WithoutState):
    """What components share that keep nothing: feed-forward networks."""

    __slots__ = ()
