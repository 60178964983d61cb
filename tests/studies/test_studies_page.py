"""The page of the studies is README.md and all findings with their pictures inside, and runs nothing."""

from pathlib import Path

import pytest
from conftest import REPOSITORY
from PIL import Image

from leakgauge.errors import InputError
from studies.report import render

STUDIES = REPOSITORY / "studies"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page of an overview and of what one study found, in a folder with one picture."""
    monkeypatch.chdir(tmp_path)
    Image.new("L", (2, 2)).save("a.png")
    Path("one").mkdir()

    def rendered(overview: str, findings: str = "", also: tuple[str, ...] = ()) -> str:
        Path("README.md").write_text(overview)
        Path("one/findings.md").write_text(findings)
        return render(Path("README.md"), [Path("one/findings.md")], [Path(path) for path in also])

    return rendered


def test_pictures_are_inside_tables_are_tables_and_html_is_shown_not_obeyed(page):
    html = page("# Title\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n![A](a.png)\n\n<script>x</script>")
    assert 'src="data:image/png;base64,iVBOR' in html
    assert "<td>2</td>" in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "default-src 'none'" in html


def test_what_a_study_found_is_a_section_to_which_links_lead_with_its_own_pictures_inside(page):
    html = page(
        "# All\n\n[see](one/findings.md)", "# Found\n\n![A](../a.png)\n\n[itself](../one/findings.md)", ("a.png",)
    )
    assert html.count('href="#one"') == 2
    assert '<section id="one">' in html
    assert "<h2>Found</h2>" in html
    assert html.count('src="data:image/png;base64,iVBOR') == 2


def test_a_link_that_would_run_a_script_is_no_link(page):
    assert 'href="javascript' not in page("[x](javascript:alert(1))")


def test_a_missing_picture_is_one_line_that_names_it(page):
    with pytest.raises(
        InputError, match=r"one/b\.png: not found: run `dvc repro` to make it, or take it out of the text"
    ):
        page("# All", "![B](b.png)")


def test_every_figure_of_the_committed_studies_is_on_the_page():
    figures = sorted((STUDIES / "metrics/figures").glob("*.png"))
    assert figures
    texts = [path.read_text() for path in STUDIES.glob("*/findings.md")]
    assert not [path.name for path in figures if not any(f"(../metrics/figures/{path.name})" in text for text in texts)]
