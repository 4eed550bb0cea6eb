"""`analysis.figures`: what each figure must show, read off its SVG."""

import html
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from analysis.figures import DRAWINGS
from analysis.figures.base import Board, Drawing, three_digits, time_unit
from analysis.figures.canvas import legend_columns, short_name, styled, svg_text
from analysis.figures.cause_map import borders, crossover_line, fastest, switches
from analysis.figures.roofline import marks, peak_flop_per_s
from analysis.figures.stacks import Bar
from analysis.figures.tokens_per_s import roofline_tokens_per_s, spread
from analysis.style import (
    CAUSE_COLOURS,
    CONTESTANT_COLOURS,
    TRAFFIC_COLOURS,
    channels,
    mixed,
    text_colour,
)
from sim.kernel.operators import Traffic
from sim.measure.causes import CAUSES
from sim.run.result import Result
from tests.strategies_result import DENSE, GB, INT4, LONG, MOE, SSM, TOYS, Toy, info, point, result

AXES = {
    "stall_stack_batch": ("batch (sequences)", "share of step time (%)", "step time in ms"),
    "stall_stack_context": ("context (tokens)", "share of step time (%)", "step time in ms"),
    "cause_map": ("batch (sequences)", "context (tokens)", "step time in ms"),
    "tokens_per_s": ("batch (sequences)", "throughput (tokens/s)"),
    "bytes_per_token": ("batch (sequences)", "share of HBM bytes (%)", "GB per token"),
    "roofline": ("FLOP per HBM byte", "achieved rate (FLOP/s)", "989 TFLOPS", "3.35 TB/s peak"),
}


@pytest.fixture(scope="module")
def run() -> Result:
    return result((DENSE, MOE))


@pytest.fixture(scope="module")
def words(run: Result) -> Callable[[Drawing], list[str]]:
    """Return a function that gives the texts of a figure."""

    def read(drawing: Drawing) -> list[str]:
        with styled():
            svg = svg_text(drawing.draw(run), drawing.name)
        return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]

    return read


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda d: d.name)
def test_axes_carry_their_units_and_contestants_their_names(
    drawing: Drawing, words: Callable[[Drawing], list[str]]
) -> None:
    found = words(drawing)
    for label in AXES[drawing.name]:
        assert any(label in text for text in found), label
    for name in ("Qwen3-32B dense", "Qwen3-30B-A3B MoE"):
        assert any(name in text for text in found)


@pytest.mark.parametrize("drawing", DRAWINGS[:-1], ids=lambda d: d.name)
def test_points_that_do_not_fit_are_shown(
    drawing: Drawing, words: Callable[[Drawing], list[str]], run: Result
) -> None:
    assert any("does not fit" in text for text in words(drawing))
    with styled():
        assert "<pattern" in svg_text(drawing.draw(run), drawing.name)


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda d: d.name)
def test_a_caption_is_one_sentence_with_numbers(drawing: Drawing, run: Result) -> None:
    caption = drawing.caption(run)
    assert caption.endswith(".")
    assert re.search(r"\d", caption)
    assert ". " not in caption


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda d: d.name)
def test_a_caption_can_say_that_nothing_fits(drawing: Drawing) -> None:
    caption = drawing.caption(result((Toy(name="X", fixed_bytes=800 * GB),), (1,), (1024,)))
    assert "fits" in caption


def test_drawing_does_not_leak_style() -> None:
    import matplotlib as mpl  # noqa: PLC0415

    before = dict(mpl.rcParams)
    with styled():
        DRAWINGS[0].draw(result((INT4,), (1,), (1024,)))
    assert dict(mpl.rcParams) == before


def test_an_svg_has_no_date_no_network_and_ids_of_its_own(run: Result) -> None:
    with styled():
        one, two = (svg_text(d.draw(run), d.name) for d in DRAWINGS[:2])
    ids = [set(re.findall(r' id="([^"]*)"', svg)) for svg in (one, two)]
    assert not ids[0] & ids[1]
    for svg in (one, two):
        assert "<metadata>" not in svg
        assert "DOCTYPE" not in svg
        assert "2026" not in svg


def test_every_cause_and_traffic_class_has_its_own_colour() -> None:
    assert list(CAUSE_COLOURS) == list(CAUSES)
    assert set(TRAFFIC_COLOURS) == set(Traffic)
    for colours in (CAUSE_COLOURS.values(), TRAFFIC_COLOURS.values(), CONTESTANT_COLOURS):
        assert len(set(colours)) == len(list(colours))


def test_causes_of_one_origin_differ_in_lightness() -> None:
    def luma(cause: str) -> float:
        red, green, blue = channels(CAUSE_COLOURS[cause])
        return 0.299 * red + 0.587 * green + 0.114 * blue

    for dark, light in (("hbm_bandwidth", "hbm_latency"), ("l2_bandwidth", "l2_latency")):
        assert luma(light) - luma(dark) > 0.3


def test_text_on_a_colour_is_dark_on_light_and_white_on_dark() -> None:
    assert text_colour("#ffffff") != "white"
    assert text_colour("#1f4e96") == "white"
    assert mixed("#336699", 0) == "#ffffff"
    assert mixed("#336699", 1) == "#336699"


def test_the_crossover_runs_where_one_overtakes_the_other_and_both_fit(run: Result) -> None:
    board = Board(run)
    winners = fastest(board)
    line = crossover_line(board, winners)
    assert line
    for one, other in line:
        assert {winners[one], winners[other]} == {DENSE.name, MOE.name}
        for x, y in (one, other):
            for name in board.names:
                found = board.at(name, board.batches[x], board.contexts[y])
                assert found is not None
                assert found.fits
    assert len(borders(winners)) > len(line)


def test_the_switch_from_memory_to_compute_lies_between_neighbours_of_both_kinds() -> None:
    board = Board(result((INT4,)))
    for (x, y), (other_x, other_y) in switches(board, INT4.name):
        bounds = {
            found.bound
            for i, j in ((x, y), (other_x, other_y))
            if (found := board.at(INT4.name, board.batches[i], board.contexts[j])) is not None
        }
        assert bounds == {"hbm_bandwidth", "tensor"}
    assert switches(board, INT4.name)


def test_borders_lie_between_neighbours_with_different_labels_only() -> None:
    labels = {(0, 0): "a", (1, 0): "b", (0, 1): "a", (1, 1): "a"}
    assert borders(labels) == [((0, 0), (1, 0)), ((1, 0), (1, 1))]
    assert borders({(0, 0): "a", (2, 0): "b"}) == []


def test_no_point_is_above_its_roofline() -> None:
    for p in Board(result(TOYS)).fitting:
        assert p.tokens_per_s <= roofline_tokens_per_s(p) * (1 + 1e-9)


def test_operators_without_flop_or_hbm_bytes_have_no_mark() -> None:
    found = point(DENSE, 4, 4096)
    names = {mark.row.operator for mark in marks(found)}
    assert {"rope", "embedding"} & names == set()
    assert len(names) == len(found.operators) - 2


def test_the_roof_is_that_of_the_format_that_the_weights_compute_in(run: Result) -> None:
    assert peak_flop_per_s(run, info(DENSE)) == ("fp8", 1979 * 10**12)
    assert peak_flop_per_s(run, info(INT4)) == ("bf16", 989 * 10**12)


def test_labels_are_spread_without_changing_their_order() -> None:
    assert spread([0.1, 0.5, 0.9], 0.05) == [0.1, 0.5, 0.9]
    placed = spread([0.50, 0.52, 0.51], 0.05)
    assert placed[0] < placed[2] < placed[1]
    assert sorted(placed)[1] - sorted(placed)[0] == pytest.approx(0.05, abs=1e-12)
    assert spread([], 0.05) == []


def test_long_names_keep_both_ends_and_stay_in_their_lines() -> None:
    text = short_name(LONG.name, 3.6)
    assert len(text.splitlines()) == 2
    assert text.startswith("An-Extremely")
    assert text.endswith("fp8 KV cache")
    assert "\n" not in short_name(LONG.name, 3.6, 1)
    assert short_name("Qwen3-32B dense", 3.6) == "Qwen3-32B dense"


def test_a_legend_uses_as_many_columns_as_fit() -> None:
    assert legend_columns(["a", "b"]) == 2
    assert legend_columns(["x" * 40] * 6) == 3
    assert legend_columns([]) == 1


def test_numbers_have_three_digits_and_times_a_fitting_unit() -> None:
    assert [three_digits(v) for v in (0.4, 4.4, 99.96, 1234.5)] == ["0.40", "4.40", "100", "1,234"]
    assert time_unit([3 * 10**9, 5 * 10**9]) == ("ms", 10**9)
    assert time_unit([5 * 10**6]) == ("us", 10**6)
    assert time_unit([]) == ("ms", 10**9)


def test_up_to_three_contexts_are_shown_from_the_smallest_to_the_largest_that_fits() -> None:
    assert Board(result((DENSE, SSM))).shown_contexts() == (1024, 8192, 65536)
    assert Board(result((LONG,))).shown_contexts() == (1024, 4096, 32768)
    assert Board(result((INT4,), (1,), (2048,))).shown_contexts() == (2048,)


def test_a_bar_without_parts_means_that_the_point_does_not_fit() -> None:
    assert not any(Bar(parts={}, above="").parts.values())


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.name)
def test_steps_that_need_nothing_from_hbm_are_drawn(drawing: Drawing) -> None:
    """What L2 holds from the step before: no bytes, no division by them, and not a misfit."""
    run = result((DENSE,), (1, 8), (1024,))
    idle = tuple(replace(point, traffic=(), mbu=0.0) for point in run.points)
    run = replace(run, points=idle)
    assert drawing.draw(run) is not None
    assert drawing.caption(run).endswith(".")
    if drawing.name == "bytes_per_token":
        assert "nothing at batch 1 (all is in L2)" in drawing.caption(run)
