"""What a step costs: interpolation over device runs, with its ledger.

A step is the sum of what sees tokens (a function of their padded number), what sees sequences
(decodes: their number, mean context and spread; chunks: new tokens, context; decodes beside a chunk
in one kernel: what they add to it) and the head (a function of the number of sequences). Each is a
table on a grid of which only the cells that a run visits are computed, by asking the device;
between grid points it is linear. Ledger, bytes and FLOP are interpolated with the time, which is
their sum, so that nothing is lost to rounding.
"""

from typing import Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sim.measure.causes import CAUSES
from sim.model.mixed import Group

Columns = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
COLUMNS: Final = (*CAUSES, "hbm_bytes", "flop")
"""What is known of a step: ps by cause, bytes over HBM, FLOP."""
N_CAUSES: Final = len(CAUSES)


class Chunk(NamedTuple):
    """New tokens of one prompt in one step; `context` includes them and all before them."""

    tokens: int
    context: int


class BatchShape(NamedTuple):
    """All that the cost of a step depends on.

    `decodes` sequences with `decode_tokens` new tokens each (1, more with speculation) have
    `context` tokens together and at most `longest`, the new ones included; `squares` is the sum of
    the squares of their contexts (0: not known, and guessed from the longest), which a step without
    changes raises by twice the sum of contexts and their number. `rows` is what token-wise kernels
    compute where neighbours pad it (0: as many as captured sizes ask for). `contexts` are those of
    all decodes, sorted, for a cost that runs the very batch.
    """

    decodes: int = 0
    context: int = 0
    longest: int = 0
    chunks: tuple[Chunk, ...] = ()
    decode_tokens: int = 1
    rows: int = 0
    squares: int = 0
    contexts: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Return the new tokens of the step."""
        return self.decodes * self.decode_tokens + sum(chunk.tokens for chunk in self.chunks)


class DeviceRuns(Protocol):
    """Parts of steps run on a device (`sim.run.serve_device`); answers are remembered there."""

    @property
    def mixes(self) -> bool:
        """Tell whether a chunk and decodes share one attention kernel."""
        ...

    def host(self, sequences: int) -> Columns:
        """Return what the host adds to a step."""
        ...

    def tokens(self, rows: int, form: str) -> Columns:
        """Return the token-wise operators of `rows` tokens; `form` is decode, prefill or mixed."""
        ...

    def head(self, rows: int) -> Columns:
        """Return the head of `rows` sequences."""
        ...

    def sequences(
        self, groups: tuple[Group, ...], *, beside: bool = False, rough: bool = False
    ) -> Columns:
        """Return the operators that see sequences.

        `beside` is how they are beside the others (decodes beside prompts, or the reverse); `rough`
        answers are within a few per cent, for differences of two of them.
        """
        ...

    def whole(self, groups: tuple[Group, ...], rows: int) -> Columns:
        """Return a whole step of exactly these groups, run as one."""
        ...


class StepCost(Protocol):
    """What the serving engine asks: the cost of one step."""

    def price(self, shape: BatchShape) -> "Price":
        """Return the cost of a step; equal shapes cost the same at all times."""
        ...


@runtime_checkable
class GlidingCost(Protocol):
    """A cost that also prices steps which follow each other at once."""

    def price(self, shape: BatchShape) -> "Price":
        """Return the cost of a step; equal shapes cost the same at all times."""
        ...

    def glide(self, count: int, contexts: Integers, squares: Integers) -> Integers:
        """Return what the next steps of `count` decodes cost, a row each, maybe of fewer."""
        ...


class Price(NamedTuple):
    """A step: `time_ps` is the sum of `ledger_ps`, by `sim.measure.causes.CAUSES` in order."""

    time_ps: int
    ledger_ps: npt.NDArray[np.int64]
    hbm_bytes: int
    flop: int


def price_of(columns: Columns) -> Price:
    """Return columns, none of them negative, as whole numbers."""
    whole = np.rint(columns).astype(np.int64)
    *ledger, hbm_bytes, flop = whole.tolist()
    return Price(sum(ledger), whole[:N_CAUSES], hbm_bytes, flop)
