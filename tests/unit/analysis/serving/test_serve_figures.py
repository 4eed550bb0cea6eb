"""`analysis.serving`: figures of serving runs, with few artists and the numbers of the run."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.figures.canvas import styled, svg_text
from analysis.serving.base import REQUEST_ORDER, Board
from analysis.serving.drawings import DRAWINGS
from analysis.serving.gantt import by_cause, slowest
from analysis.serving.latency_cdf import curve
from analysis.serving.ticks import log_ticks
from analysis.style import CAUSE_COLOURS, PHASE_COLOURS, REQUEST_COLOURS
from sim.measure.causes import REQUEST_CAUSES
from sim.run.serve_answer import REQUEST_LABELS
from sim.run.serve_result import Sweep, served, sweep_point
from sim.serving.config import Slo
from tests.strategies_serve import PS_PER_S, Toy, info, serve_run, toy_served, trace_of

SLO = Slo(ttft_ps=PS_PER_S, tpot_ps=25 * 10**9)
LONG = "An-Extremely-Long-Contestant-Name-70B-Instruct with fp8 weights and fp8 KV cache"
ARTISTS = 400
"""More than any figure needs, far fewer than one for each request."""


@pytest.fixture(scope="module")
def board() -> Board:
    toys = (("Toy-8B", 1), ("Toy-70B", 3), (LONG, 4), ("fourth", 2))
    results = [
        toy_served(80, 12.0, Toy(slowness=slowness, kv_blocks=700), name=name, slo=SLO, real=True)
        for name, slowness in toys
    ]
    points = tuple(sweep_point(replace(one, info=replace(one.info, request_rate=rate)))
                   for one in results for rate in (1.0, 4.0, 16.0))  # fmt: skip
    rates = {"Toy-8B": 7.5, "Toy-70B": None}
    return Board(results, Sweep(points=points, max_rate=rates, slo=SLO))


def drawn(board: Board, name: str) -> Figure:
    (drawing,) = (d for d in DRAWINGS if d.name == name)
    with styled():
        return drawing.draw(board)


def texts(figure: Figure) -> list[str]:
    with styled():
        figure.draw_without_rendering()
    found = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    labels = [axes.get_xlabel() for axes in figure.axes] + [a.get_ylabel() for a in figure.axes]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    return [*(text.get_text() for text in found), *labels, *titles]


@pytest.mark.parametrize("name", [d.name for d in DRAWINGS])
def test_every_figure_can_be_drawn_and_has_a_caption_of_one_sentence(
    board: Board, name: str
) -> None:
    (drawing,) = (d for d in DRAWINGS if d.name == name)
    assert drawing.wanted(board)
    caption = drawing.caption(board)
    assert caption.endswith(".")
    assert "nan" not in caption
    with styled():
        svg = svg_text(drawing.draw(board), name)
    assert "nan" not in svg.lower().replace("financ", "")


@pytest.mark.parametrize("name", [d.name for d in DRAWINGS])
def test_axes_state_their_units(board: Board, name: str) -> None:
    figure = drawn(board, name)
    labels = [text for text in texts(figure) if text.startswith(("time", "share", "request"))]
    assert all("(" in label or label in ("request", "requests") for label in labels)
    assert labels


def test_many_requests_do_not_mean_many_artists() -> None:
    many = Board([toy_served(3_000, 40.0, Toy(kv_blocks=9_000), slo=SLO)])
    for drawing in DRAWINGS:
        if drawing.wanted(many):
            figure = drawn(many, drawing.name)
            assert len(figure.findobj()) < ARTISTS + 1_000, drawing.name
            artists = [a for axes in figure.axes for a in axes.get_children()]
            assert len(artists) < ARTISTS, drawing.name


def test_a_figure_is_left_out_where_there_is_nothing_to_draw() -> None:
    trace = trace_of([(0, 10_000, 3)])
    nothing = Board([served(info(), serve_run(trace, Toy(kv_blocks=100)), trace)])
    assert [d.name for d in DRAWINGS if d.wanted(nothing)] == []
    assert "rate_sweep" not in [d.name for d in DRAWINGS if d.wanted(Board([toy_served(3)]))]


def test_one_request_of_one_token_can_be_drawn() -> None:
    trace = trace_of([(0, 100, 1)])
    tiny = Board([served(info(), serve_run(trace), trace)])
    for drawing in DRAWINGS:
        if drawing.wanted(tiny):
            with styled():
                svg_text(drawing.draw(tiny), drawing.name)
            assert drawing.caption(tiny)


def test_more_contestants_than_panels_are_told(board: Board) -> None:
    assert "the first 3 of 4 contestants" in " ".join(texts(drawn(board, "occupancy")))


def test_the_measured_run_is_dashed_beside_the_simulated_one(board: Board) -> None:
    axes = drawn(board, "latency_cdf").axes[0]
    styles = [line.get_linestyle() for line in axes.lines]
    assert styles.count("--") == len(board.results)
    assert styles.count("-") == len(board.results)
    assert styles.count("-.") == 1


def test_a_curve_ends_at_the_largest_value_and_100_per_cent() -> None:
    values = np.array([5.0, np.nan, 1.0, 3.0]) * 1e9
    times, shares = curve(values)
    assert (times[0], times[-1]) == (1.0, 5.0)
    assert shares[-1] == 100
    assert np.all(np.diff(times) >= 0)
    assert np.all(np.diff(shares) >= 0)
    assert len(curve(np.arange(1e6))[0]) == 400


def test_the_slowest_come_first_and_ties_by_number(board: Board) -> None:
    one = board.results[0]
    found = slowest(one, 10)
    times = [(r.finished_ps or 0) - r.sent_ps for r in found]
    assert times == sorted(times, reverse=True)
    assert max((r.finished_ps or 0) - r.sent_ps for r in one.run.requests) == times[0]
    assert [r.index for r in slowest(one, 10)] == [r.index for r in found]


def test_a_bar_of_causes_has_all_of_them_and_the_length_of_the_request(board: Board) -> None:
    assert set(REQUEST_ORDER) == set(REQUEST_CAUSES) == set(REQUEST_COLOURS) == set(REQUEST_LABELS)
    record = slowest(board.results[1], 1)[0]
    assert sum(by_cause(record).values()) == (record.finished_ps or 0) - record.sent_ps


def test_the_highest_rate_is_marked_in_every_panel_of_the_sweep(board: Board) -> None:
    for axes in drawn(board, "rate_sweep").axes:
        marks = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert [float(np.asarray(line.get_xdata())[0]) for line in marks] == [7.5]


def test_causes_of_requests_have_colours_of_their_own_and_steps_keep_theirs() -> None:
    assert {cause: REQUEST_COLOURS[cause] for cause in CAUSE_COLOURS} == dict(CAUSE_COLOURS)
    assert len(set(REQUEST_COLOURS.values())) == len(REQUEST_COLOURS)
    own = {PHASE_COLOURS[name] for name in ("prefill", "decode")}
    assert not own & set(REQUEST_COLOURS.values())
    assert PHASE_COLOURS["queue"] == REQUEST_COLOURS["queue"]
    assert PHASE_COLOURS["preempted"] == REQUEST_COLOURS["preempted"]


@pytest.mark.parametrize(
    ("bounds", "most", "expected"),
    [
        ((9.0, 110.0), 5, ["10", "20", "50", "100"]),
        ((9.0, 11_000.0), 4, ["10", "100", "1k", "10k"]),
        ((9.0, 1.1e8), 4, ["100", "10k", "1M", "100M"]),
        ((9.0, 60.0), 7, ["10", "15", "20", "30", "50"]),
        ((21.0, 29.0), 4, []),
    ],
)
def test_a_logarithmic_axis_has_as_many_plain_ticks_as_fit(
    bounds: tuple[float, float], most: int, expected: list[str]
) -> None:
    axes = Figure().add_subplot()
    axes.set_xscale("log")
    axes.set_xlim(*bounds)
    log_ticks(axes.xaxis, bounds, most)
    assert [label.get_text() for label in axes.get_xticklabels()] == expected
