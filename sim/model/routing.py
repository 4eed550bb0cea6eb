"""Routing: how many tokens each expert of a MoE layer gets.

A routing draw is a tuple with one count per expert. Every draw conserves tokens: the counts sum
to `tokens * top_k`, and no expert gets more than `tokens`, as a token's experts are distinct.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

TOKENS_AT_ONCE: Final = 8192
"""Tokens drawn per numpy call, to bound the memory of a draw."""


def check_counts(counts: Sequence[int], *, tokens: int, n_experts: int, top_k: int) -> None:
    """Raise ValueError if the counts are no routing of `tokens` to `top_k` distinct experts."""
    if len(counts) != n_experts:
        raise ValueError(f"a routing draw has {len(counts)} counts for {n_experts} experts")
    if sum(counts) != tokens * top_k:
        raise ValueError(
            f"a routing draw holds {sum(counts)} tokens, not {tokens} tokens x top-{top_k}"
        )
    if min(counts) < 0 or max(counts) > tokens:
        raise ValueError(
            f"a routing draw gives an expert {max(counts)} (least {min(counts)}) "
            f"of {tokens} tokens: expected 0 to {tokens}"
        )


def heaviest_share(counts: Sequence[int], parts: int) -> tuple[int, ...]:
    """Return the counts of the GPU that the others wait for, if `parts` GPUs share the experts.

    GPU i holds the i-th run of neighbouring experts. Weights are what takes time until every
    expert has many tokens: the share with the most experts hit, then the one with the most tokens.

    >>> heaviest_share((9, 0, 1, 1), 2)
    (1, 1)
    """
    size = len(counts) // parts
    shares = [tuple(counts[start : start + size]) for start in range(0, size * parts, size)]
    return max(shares, key=lambda share: (sum(count > 0 for count in share), sum(share)))


def expected_distinct_experts(*, tokens: int, n_experts: int, top_k: int) -> float:
    """Return E(1 - (1 - k/E)^n): the mean number of experts hit by uniform independent tokens.

    >>> expected_distinct_experts(tokens=1, n_experts=128, top_k=8)
    8.0
    """
    return float(n_experts * (1 - (1 - top_k / n_experts) ** tokens))


def _weighted(
    weights: np.ndarray, tokens: int, top_k: int, rng: np.random.Generator
) -> tuple[int, ...]:
    """Draw `top_k` distinct experts per token with odds `weights`, without replacement.

    Gumbel noise on the log weights and the k largest: Efraimidis and Spirakis 2006, in the form
    of arXiv 1903.06059.
    """
    counts = np.zeros(len(weights), dtype=np.int64)
    for start in range(0, tokens, TOKENS_AT_ONCE):
        n = min(TOKENS_AT_ONCE, tokens - start)
        keys = np.log(weights) + rng.gumbel(size=(n, len(weights)))
        chosen = np.argpartition(-keys, top_k - 1, axis=1)[:, :top_k]
        counts += np.bincount(chosen.ravel(), minlength=len(weights))
    return tuple(int(count) for count in counts)


def uniform(
    *, tokens: int, n_experts: int, top_k: int, rng: np.random.Generator, exponent: float = 0.0
) -> tuple[int, ...]:
    """Return the counts if every token draws its experts uniformly; `exponent` is not used."""
    del exponent
    return _weighted(np.ones(n_experts), tokens, top_k, rng)


def balanced(
    *, tokens: int, n_experts: int, top_k: int, rng: np.random.Generator, exponent: float = 0.0
) -> tuple[int, ...]:
    """Return counts that differ by one at most; `rng` and `exponent` are not used."""
    del rng, exponent
    each, rest = divmod(tokens * top_k, n_experts)
    return tuple(each + (expert < rest) for expert in range(n_experts))


def zipf(
    *, tokens: int, n_experts: int, top_k: int, rng: np.random.Generator, exponent: float = 1.0
) -> tuple[int, ...]:
    """Return the counts if expert r (from 0) is drawn with odds (r + 1)^-exponent."""
    odds = np.arange(1, n_experts + 1, dtype=np.float64) ** -exponent
    return _weighted(odds, tokens, top_k, rng)


ROUTINGS: Final[MappingProxyType[str, Callable[..., tuple[int, ...]]]] = MappingProxyType(
    {"uniform": uniform, "balanced": balanced, "zipf": zipf}
)


def draw_routing(
    routing: str | Sequence[int],
    *,
    tokens: int,
    n_experts: int,
    top_k: int,
    rng: np.random.Generator,
    exponent: float = 1.0,
) -> tuple[int, ...]:
    """Return the tokens per expert of one layer, by the name of a routing or as given.

    Raises ValueError for an unknown name, more experts per token than there are, or given counts
    that are no routing of these tokens.
    """
    if not 1 <= top_k <= n_experts:
        raise ValueError(f"top_k (= {top_k}) must be between 1 and {n_experts} experts")
    if not isinstance(routing, str):
        counts = tuple(routing)
        check_counts(counts, tokens=tokens, n_experts=n_experts, top_k=top_k)
        return counts
    if routing not in ROUTINGS:
        raise ValueError(f"unknown routing {routing!r}: expected one of {', '.join(ROUTINGS)}")
    draw = ROUTINGS[routing]
    return draw(tokens=tokens, n_experts=n_experts, top_k=top_k, rng=rng, exponent=exponent)
