"""`analysis.report`: a page that needs nothing but itself."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.figures import DRAWINGS
from analysis.page import inline
from analysis.report import write
from sim.errors import InputError
from sim.run.result import Result
from tests.strategies_result import DENSE, GB, INT4, LONG, MOE, TOYS, Toy, result

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Balance(HTMLParser):
    """Collects open tags, ids and resources of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.resources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("src", "href", "xlink:href") and not (value or "").startswith("#"):
                self.resources.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()


@pytest.fixture(scope="module")
def run() -> Result:
    return result((DENSE, MOE))


@pytest.fixture(scope="module")
def written(run: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("report")
    write(run, out_dir)
    return out_dir


def test_every_figure_is_written_as_svg_and_png_and_the_page_last(
    run: Result, tmp_path: Path
) -> None:
    paths = write(run, tmp_path)
    names = [f"{d.name}.{kind}" for d in DRAWINGS for kind in ("svg", "png")]
    assert [path.name for path in paths] == [*names, "report.html"]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}
    for path in paths:
        head = path.read_bytes()[:8]
        assert head.startswith(
            {".svg": b"<?xml", ".png": b"\x89PNG", ".html": b"<!DOCT"}[path.suffix]
        )
        assert path.stat().st_size > 5_000


def test_two_reports_of_one_result_are_the_same_bytes(
    run: Result, written: Path, tmp_path: Path
) -> None:
    for path in write(run, tmp_path):
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name


def test_the_page_refers_to_nothing_outside_itself(written: Path) -> None:
    html = (written / "report.html").read_text()
    page = Balance()
    page.feed(html)
    assert page.resources == []
    addresses = re.findall(r"""[\w:]*=?["']?https?://[^"'\s>]*""", html)
    assert {a.split("=")[0] for a in addresses} <= {"xmlns", "xmlns:xlink"}
    assert "@import" not in html
    assert "<script" not in html


def test_the_page_is_well_formed_and_no_id_is_used_twice(written: Path) -> None:
    page = Balance()
    page.feed((written / "report.html").read_text())
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_the_page_has_answer_cards_figures_captions_tables_and_limits(
    run: Result, written: Path
) -> None:
    html = (written / "report.html").read_text()
    assert run.title in html
    assert html.count("<figcaption>") == html.count("<svg") == len(DRAWINGS)
    for text in (*run.answer, *run.chip.notes, *(n for c in run.contestants for n in c.notes)):
        assert text in html
    for text in (
        "python -m sim run moe_vs_dense",
        "does not cover",
        "percent of the step by cause",
    ):
        assert text in html
    assert html.count("<tr>") == 2 + len(run.points) + sum(p.fits for p in run.points)


def test_points_that_do_not_fit_say_why_in_the_table(run: Result, written: Path) -> None:
    html = (written / "report.html").read_text()
    misfits = sum(not p.fits for p in run.points)
    assert html.count('<td class="note" colspan="7">does not fit: needs ') == misfits
    assert f"All 126 points, {misfits} of which do not fit" in html


def test_names_are_escaped(tmp_path: Path) -> None:
    write(result((Toy(name="<b>bold & co</b>"),), (1,), (1024,)), tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert "<b>bold" not in html
    assert "&lt;b&gt;bold &amp; co" in html


@pytest.mark.parametrize(
    ("toys", "batches", "contexts"),
    [
        ((INT4,), (1,), (1024,)),
        ((LONG, MOE), (1, 4), (4096,)),
        ((Toy(name="too large", fixed_bytes=800 * GB),), (1, 2), (1024, 2048)),
        (TOYS, (1, 64), (1024, 65536)),
    ],
    ids=["one point", "one context", "nothing fits", "six contestants"],
)
def test_a_report_is_made_of_any_shape_of_run(
    toys: tuple[Toy, ...], batches: tuple[int, ...], contexts: tuple[int, ...], tmp_path: Path
) -> None:
    assert len(write(result(toys, batches, contexts), tmp_path)) == 2 * len(DRAWINGS) + 1


def test_a_folder_that_cannot_be_written_is_told(run: Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(result((INT4,), (1,), (1024,)), tmp_path / "file")


def test_an_inlined_svg_scales_with_the_page() -> None:
    body = 'viewBox="0 0 9 5"><g width="1"/></svg>'
    svg = f'<?xml version="1.0"?>\n<svg width="9pt" height="5pt" {body}'
    assert inline(svg) == f"<svg {body}"
