"""The report of a microscope run: every figure, one page, the same bytes."""

from dataclasses import replace
from pathlib import Path

from analysis.microscope.report import write
from sim.run.microscope import execute_microscope
from sim.scenario.load import load_any
from sim.scenario.microscope_scenario import MicroScenario


def test_the_report_of_a_shipped_scenario_holds_all_figures_and_points(tmp_path: Path) -> None:
    scenario = load_any("microscope_kernels", ["bytes=8 KiB"])
    assert isinstance(scenario, MicroScenario)
    few = replace(scenario, points=scenario.points[::4])
    results = execute_microscope(few)
    names = {path.name for path in write(results, tmp_path)}
    figures = ("bandwidth", "time_by_cause", "latency", "latency_cdf", "banks")
    assert names == {"report.html", *(f"{f}.{e}" for f in figures for e in ("svg", "png"))}
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure") == len(figures)
    assert all(point.pattern in page for point in results.points)
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_one_channel_and_patterns_without_an_axis_or_a_read_can_be_drawn(tmp_path: Path) -> None:
    file = tmp_path / "one.toml"
    file.write_text(
        'title = "One"\nbytes = "4 KiB"\n'
        '[[patterns]]\nkind = "random"\nread_share = 0.0\n'
        '[[patterns]]\nkind = "streams"\nstreams = [1, 2]\nchunk = ["64 B", "512 B"]\n'
    )
    scenario = load_any(str(file))
    assert isinstance(scenario, MicroScenario)
    write(execute_microscope(scenario), tmp_path / "out")
    assert "streams 2" in (tmp_path / "out" / "report.html").read_text()
