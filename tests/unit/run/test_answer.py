"""`sim.run.answer`: sentences that hold on the numbers, and claim nothing more."""

from dataclasses import replace

import pytest

from sim.measure.causes import CAUSES
from sim.run.answer import CAUSE_LABELS, answer, cells, crossings, representative
from sim.run.result import PointResult
from tests.strategies_result import CHIP, DENSE, LONG, MOE, TOYS, Toy, info, point, result

A, B, C = (replace(DENSE, name=name) for name in "ABC")


def timed(toy: Toy, batch: int, context: int, step_ps: int, bound: str = "tensor") -> PointResult:
    """Return a point that fits and takes `step_ps`, all of it charged to `bound`."""
    return replace(
        point(toy, 1, 1024),
        batch=batch,
        context=context,
        step_ps=step_ps,
        roofline_ps=step_ps // 2,
        tokens_per_s=batch * 1e12 / step_ps,
        ledger_ps={bound: step_ps},
        bound=bound,
    )


def told(*points: PointResult, title: str = "A or B?") -> tuple[str, ...]:
    names = dict.fromkeys(p.contestant for p in points)
    cards = [replace(info(DENSE), name=name) for name in names]
    return answer(title, points, cards, CHIP)


def test_every_cause_has_a_label() -> None:
    assert list(CAUSE_LABELS) == list(CAUSES)


def test_a_contestant_that_always_wins_is_told_with_its_ratio_at_both_ends() -> None:
    points = [timed(A, b, c, 100) for b in (1, 8) for c in (1024, 4096)]
    points += [timed(B, 1, c, 400) for c in (1024, 4096)]
    points += [timed(B, 8, 1024, 110), timed(B, 8, 4096, 440)]
    assert told(*points)[0] == (
        "A is faster than B at all 4 points where both fit: A 4.0 times as fast at batch 1, "
        "2.2 times at batch 8 (geometric mean of 2 contexts)."
    )


def test_the_ratio_is_taken_over_the_same_contexts_at_both_ends() -> None:
    points = [timed(A, 1, 1024, 100), timed(A, 1, 4096, 100), timed(A, 8, 1024, 100)]
    points += [timed(B, 1, 1024, 200), timed(B, 1, 4096, 5000), timed(B, 8, 1024, 300)]
    assert "2.0 times as fast at batch 1, 3.0 times at batch 8 (context 1k)" in told(*points)[0]


def test_a_crossover_is_told_between_its_two_neighbours() -> None:
    points = [timed(A, b, 1024, 100 + 10 * b) for b in (1, 2, 4, 8)]
    points += [timed(B, b, 1024, 135) for b in (1, 2, 4, 8)]
    assert told(*points)[0] == (
        "A is faster than B at 2 of the 4 points where both fit: A 1.23 times as fast at batch 1, "
        "B 1.33 times as fast at batch 8 (context 1k); they cross between batch 2 and 4 at "
        "context 1k."
    )


def test_a_crossover_along_the_context_is_found_when_there_is_none_along_the_batch() -> None:
    points = [timed(A, b, c, 100 + c // 100) for b in (1, 2) for c in (1024, 8192)]
    points += [timed(B, b, c, 130) for b in (1, 2) for c in (1024, 8192)]
    assert "they cross between context 1k and 8k at 2 batches." in told(*points)[0]


def test_equal_contestants_are_called_equal() -> None:
    points = [timed(t, b, 1024, 1000) for t in (A, B) for b in (1, 2)]
    assert told(*points)[0] == (
        "A and B are within 1 % of each other at all 2 points where both fit."
    )
    assert crossings(cells(points, "A"), cells(points, "B"), 0) == {}


def test_three_equal_contestants_have_no_fastest() -> None:
    points = [timed(t, 1, 1024, 1000) for t in (A, B, C)]
    assert told(*points)[0].startswith("Fastest of 3: none alone at any of 1 point; A and B are")


def test_contestants_that_never_fit_together_are_not_compared() -> None:
    assert told(timed(A, 1, 1024, 10), timed(B, 2, 1024, 10))[0] == (
        "A and B share no point at which both fit."
    )


def test_one_contestant_is_told_by_its_range() -> None:
    points = [timed(A, 1, 1024, 10**9), timed(A, 8, 1024, 2 * 10**9)]
    assert told(*points) == (
        "A makes from 1,000 tokens/s at batch 1 and context 1k to 4,000 tokens/s at batch 8 and "
        "context 1k; a step takes 1 ms at batch 1 and context 1k and 2 ms at batch 8 and context "
        "1k, and all steps run at 50 % of the roofline.",
        "The largest share of the step time goes to tensor cores at all 2 points.",
    )


def test_one_point_is_told_in_the_singular() -> None:
    assert told(timed(A, 2, 1000, 10**9, "host")) == (
        "A makes 2,000 tokens/s at batch 2 and context 1,000, a step of 1 ms at 50 % of the "
        "roofline.",
        "The largest share of the step time goes to host at its only point.",
    )


def test_the_switch_of_the_dominating_cause_is_told_between_its_neighbours() -> None:
    points = [timed(A, b, 1024, 100, "hbm_bandwidth" if b < 4 else "tensor") for b in (1, 2, 4)]
    assert told(*points)[1] == (
        "The largest share of the step time goes to HBM bandwidth at 2 and tensor cores at 1 of "
        "3 points (at context 1k from HBM bandwidth to tensor cores between batch 2 and 4)."
    )


def test_when_nothing_fits_the_smallest_need_is_told() -> None:
    points = [point(LONG, 256, c) for c in (32768, 65536)]
    assert answer("Does it fit?", points, [info(LONG)], CHIP) == (
        f"Nothing fits on NVIDIA H100 SXM5 80 GB: even {LONG.name} at batch 256 and context 32k, "
        "the smallest of 2 points, needs 1.44 TB of 80 GB.",
    )


def test_a_run_without_points_says_so() -> None:
    assert answer("Why?", [], [], CHIP) == ("'Why?' has no points.",)


def test_points_that_do_not_fit_are_counted_per_contestant() -> None:
    last = result((DENSE, MOE)).answer[-1]
    assert last.startswith("Does not fit in 80 GB: Qwen3-32B dense at 21 of 63 points (the smalle")
    assert "batch 8 and context 64k, needs 101 GB); Qwen3-30B-A3B MoE at 28 of 63" in last


@pytest.mark.parametrize("count", range(1, 9))
def test_one_to_eight_contestants_get_two_or_three_sentences(count: int) -> None:
    toys = [replace(toy, name=f"{toy.name} {i}") for i, toy in enumerate((*TOYS, *TOYS)[:count])]
    sentences = result(toys, (1, 64, 256), (1024, 65536)).answer
    assert 2 <= len(sentences) <= 3
    assert all(text.endswith(".") and "  " not in text for text in sentences)


def test_the_representative_context_is_the_middle_one_that_fits_everywhere() -> None:
    points = [point(MOE, b, c) for b in (1, 2) for c in (1024, 2048, 4096, 8192, 262144)]
    assert representative(points, 1) == 2048


def test_where_little_fits_everywhere_the_middle_of_what_half_fits_is_chosen() -> None:
    points = result((DENSE, MOE)).points
    assert representative(points, 1) == 4096
    with pytest.raises(ValueError, match="no points to choose from"):
        representative([], 1)
