"""How the benchmark of moe.csv routes tokens (aiconfigurator's `collector/helper.py`, 2026-11-23).

Balanced routing: token t goes to the experts t + j x ceil(E / topk); fewer tokens than that stride
are spread over it. A power law of exponent a draws expert loads between 1 and 0.8 tokens (0.01 and
2 where there are fewer routed tokens than experts) with a density proportional to x^-a, scales them
to the routed tokens and gives no expert more than all tokens; with expert parallelism the busiest
rank is timed. Here the draws are the distribution's quantiles in a fixed random order.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.validate.case import Row, UnpredictableError, number

_POWER_LAW = "power_law_"
_LARGEST_SHARE = 0.8
_FEW = (0.01, 2.0)
# Until early 2026 the benchmark gave what rounding left over to the busiest experts.
_TO_BUSIEST: Final = "trtllm-1.0.0"

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLoad:
    """What a rank gets: its tokens, the tokens of each of its experts, and all its routed rows."""

    tokens: int
    per_expert: tuple[int, ...]
    rows: int


def rank_load(
    row: Row, *, selects: bool = False, clamps: bool = False, keeps_rows: bool = False
) -> RankLoad:
    """Return the load of the timed rank. Raises UnpredictableError for an unknown routing.

    With `selects` (SGLang's benchmark) the rank is given the tokens that have one of its experts;
    with `clamps` what these send to other ranks is computed by its first expert. With `keeps_rows`
    (vLLM's expert map) all routed rows pass through the layer, those of other ranks as zeros.
    """
    tokens, topk = number(row, "tokens"), number(row, "topk")
    experts, ranks = number(row, "n_experts"), max(1, number(row, "ep"))
    local = experts // ranks
    if ranks == 1 or not selects:
        piles = row.get("framework") == _TO_BUSIEST
        counts = _expert_counts(row["routing"], tokens, experts, topk, ranks, piles=piles)
        mine = _sorted(counts[:local])
        rows = tokens * topk if keeps_rows or ranks == 1 else sum(mine)
        return RankLoad(tokens=tokens, per_expert=mine, rows=rows)
    chosen = _chosen_experts(row["routing"], tokens, experts, topk, ranks)
    here = chosen < local
    chosen = chosen[here.any(axis=1)]
    mine_only = chosen[chosen < local]
    computed = np.where(chosen < local, chosen, 0).ravel() if clamps else mine_only
    per_expert = np.bincount(computed, minlength=local)
    return RankLoad(
        tokens=max(1, len(chosen)),
        per_expert=_sorted(per_expert),
        rows=max(1, len(chosen)) * topk,
    )


def _sorted(counts: Counts) -> tuple[int, ...]:
    return tuple(int(c) for c in np.sort(counts)[::-1])


def _expert_counts(
    routing: str, tokens: int, experts: int, topk: int, ranks: int, *, piles: bool = False
) -> Counts:
    if routing == "balanced":
        return np.bincount(_balanced(tokens, experts, topk).ravel(), minlength=experts)
    if routing.startswith(_POWER_LAW):
        exponent = float(routing.removeprefix(_POWER_LAW))
        return _power_law(tokens, experts, topk, exponent, ranks, piles=piles)
    raise UnpredictableError(f"no routing {routing}")


def _chosen_experts(routing: str, tokens: int, experts: int, topk: int, ranks: int) -> Counts:
    """Return the experts of every token, as an array of (tokens, topk)."""
    if routing == "balanced":
        return _balanced(tokens, experts, topk)
    counts = _expert_counts(routing, tokens, experts, topk, ranks)
    busiest_first = np.argsort(-counts, kind="stable")
    return np.repeat(busiest_first, counts[busiest_first]).reshape(topk, tokens).T


def _balanced(tokens: int, experts: int, topk: int) -> Counts:
    stride = -(-experts // topk)
    token, choice = np.arange(tokens)[:, None], np.arange(topk)[None, :]
    start = token if tokens >= stride else token * stride // tokens
    chosen: Counts = (start + choice * stride) % experts
    return chosen


@lru_cache(maxsize=4096)
def _power_law(
    tokens: int, experts: int, topk: int, exponent: float, ranks: int, *, piles: bool
) -> Counts:
    routed = tokens * topk
    low, high = (1.0, _LARGEST_SHARE * tokens) if routed > experts else _FEW
    uniform = (np.random.default_rng(0).permutation(experts) + 0.5) / experts
    power = 1 - exponent
    draws = ((high**power - low**power) * uniform + low**power) ** (1 / power)
    counts = np.rint(draws / draws.sum() * routed).astype(np.int64)
    if piles:
        _pile(counts, routed)
    counts = np.minimum(counts, tokens)
    _adjust(counts, routed, tokens)
    by_rank = counts.reshape(ranks, -1)
    busiest = int(by_rank.sum(axis=1).argmax())
    by_rank[[0, busiest]] = by_rank[[busiest, 0]]
    loads: Counts = by_rank.ravel()
    loads.flags.writeable = False
    return loads


def _adjust(counts: Counts, routed: int, most: int) -> None:
    """Bring the counts to their sum, one token at a time from the busiest or to the idlest."""
    while (missing := routed - int(counts.sum())) != 0:
        if missing > 0:
            counts[np.where(counts < most, counts, most + 1).argmin()] += 1
        else:
            counts[counts.argmax()] -= 1


def _pile(counts: Counts, routed: int) -> None:
    """Hand out what is missing one token each, the busiest expert first, as equals come."""
    order = np.argsort(-counts, kind="stable")
    for i in range(routed - int(counts.sum())):
        counts[order[i % len(order)]] += 1
