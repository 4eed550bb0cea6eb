"""`analysis.serving.report`: figures, and a page that needs nothing but itself."""

import re
from pathlib import Path

import pytest

from analysis.page import inline
from analysis.serving.report import page, write
from analysis.serving.tables import card, ledger_rows, tables
from sim.errors import InputError
from sim.run.serve_result import Served, Sweep, sweep_point
from sim.serving.config import Slo
from tests.strategies_serve import PS_PER_S, Toy, toy_served

SLO = Slo(ttft_ps=PS_PER_S)


@pytest.fixture(scope="module")
def results() -> list[Served]:
    return [
        toy_served(60, 12.0, name="Toy-8B <small>", slo=SLO, real=True),
        toy_served(60, 12.0, Toy(slowness=3, kv_blocks=700), name="Toy-70B", slo=SLO),
    ]


@pytest.fixture(scope="module")
def sweep(results: list[Served]) -> Sweep:
    points = tuple(sweep_point(one, holds=one is results[0]) for one in results)
    return Sweep(points=points, max_rate={"Toy-8B <small>": 9.5, "Toy-70B": None}, slo=SLO)


@pytest.fixture(scope="module")
def written(
    results: list[Served], sweep: Sweep, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    return write(results, sweep, tmp_path_factory.mktemp("report"))


def test_every_figure_is_written_as_svg_and_png_and_the_page_last(written: list[Path]) -> None:
    figures = (
        "mean_request", "latency_cdf", "stalls_over_time", "occupancy", "slowest_requests",
        "rate_sweep",
    )  # fmt: skip
    names = [f"{name}.{kind}" for name in figures for kind in ("svg", "png")]
    assert [path.name for path in written] == [*names, "report.html"]
    for path in written:
        head = path.read_bytes()[:8]
        assert head.startswith(
            {".svg": b"<?xml", ".png": b"\x89PNG", ".html": b"<!DOCT"}[path.suffix]
        )


def test_two_reports_of_one_run_are_the_same_bytes(
    results: list[Served], sweep: Sweep, written: list[Path], tmp_path: Path
) -> None:
    for path, before in zip(write(results, sweep, tmp_path), written, strict=True):
        assert path.read_bytes() == before.read_bytes(), path.name


def test_the_page_holds_its_figures_and_refers_to_nothing_outside(written: list[Path]) -> None:
    html = written[-1].read_text()
    for path in written[:-1:2]:
        assert inline(path.read_text()) in html
    assert not re.findall(r"""(?:src|href)=["']?(?!#)\w""", html)
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(set(ids)) == len(ids)


def test_names_are_escaped(written: list[Path]) -> None:
    html = re.sub(r"<svg.*?</svg>", "", written[-1].read_text(), flags=re.DOTALL)
    assert "Toy-8B &lt;small&gt;" in html
    assert "<small>" not in html


def test_the_page_begins_with_the_answer_and_ends_with_what_is_not_covered(
    written: list[Path],
) -> None:
    html = written[-1].read_text()
    assert "answers its mean request first, after" in html.split("<h2>")[0]
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings == [
        "Who serves, and how",
        "How it went",
        "Figures",
        "Where the mean request's time goes",
        "How to reproduce",
        "What the model does not cover",
    ]
    assert "python -m sim explain results/toy_serving --request slowest" in html


def test_there_is_a_table_of_each_kind_that_has_rows(results: list[Served], sweep: Sweep) -> None:
    heads = [table.head[1] for table in tables(results, sweep)]
    assert heads == ["finished", "latency (ms)", "against a real run", "requests/s"]
    assert [table.head[1] for table in tables(results[1:], None)] == ["finished", "latency (ms)"]
    for table in tables(results, sweep):
        assert {len(row) for row in table.rows} == {len(table.head)}
    assert [row[-1] for row in tables(results, sweep)[-1].rows] == ["kept", "broken"]
    assert tables(results, sweep)[-1].note == (
        "Toy-8B <small> keeps the SLO up to 9.5 requests/s; Toy-70B keeps it at no rate tried."
    )


def test_a_card_tells_how_it_serves(results: list[Served]) -> None:
    assert card(results[1])["facts"] == {
        "model": "toy-8b",
        "chip": "NVIDIA H100 SXM 80 GB, 3.35 TB/s peak",
        "replicas": "1, 1 GPU in all, router round_robin",
        "parallel": "tensor 1, data 1, expert off",
        "policy": "chunked_prefill",
        "batch": "at most 64 sequences, 2,048 tokens a step",
        "KV cache": "700 blocks of 16 tokens, prefix caching on",
        "traffic": "poisson, 12 requests/s",
        "SLO": "TTFT 1 s",
    }


def test_each_row_of_the_ledger_sums_to_100_but_for_rounding(results: list[Served]) -> None:
    for row in ledger_rows(results):
        shares = row["shares"]
        assert isinstance(shares, list)
        assert sum(float(share) for share, _ in shares) == pytest.approx(100, abs=0.6)


def test_one_contestant_without_a_sweep_has_a_page(results: list[Served]) -> None:
    html = page(results[:1], None, [])
    assert "What limits it most: " in html


def test_a_folder_that_cannot_be_written_is_a_problem(
    results: list[Served], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        write(results[:1], None, tmp_path / "file")
