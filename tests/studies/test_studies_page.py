"""The page of the studies is README.md with its pictures inside, and runs nothing."""

import pytest
from conftest import REPOSITORY
from PIL import Image

from leakgauge.errors import InputError
from studies.charts.page import render


def test_pictures_are_inside_tables_are_tables_and_html_is_shown_not_obeyed(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    page = render("# Title\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n![A](a.png)\n\n<script>x</script>", tmp_path, [])
    assert 'src="data:image/png;base64,iVBOR' in page
    assert "<td>2</td>" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page


def test_a_link_that_would_run_a_script_is_no_link(tmp_path):
    assert 'href="javascript' not in render("[x](javascript:alert(1))", tmp_path, [])


def test_a_missing_picture_is_one_line_that_names_it(tmp_path):
    with pytest.raises(InputError, match=r"b\.png: not found: run `dvc repro` to make it, or take it out of README"):
        render("![B](b.png)", tmp_path, [])


def test_every_figure_of_the_committed_studies_is_on_the_page():
    text = (REPOSITORY / "studies/README.md").read_text()
    figures = sorted((REPOSITORY / "studies/metrics/figures").glob("*.png"))
    assert figures
    assert not [figure.name for figure in figures if f"(metrics/figures/{figure.name})" not in text]
