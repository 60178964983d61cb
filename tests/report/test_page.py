"""The page as a document: what a reader finds first, in print, in the dark, on a phone, without a mouse or eyes."""

import json
import re
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from browser import DARK, LIGHT, look, needs_chromium, printed
from conftest import tiny_params, write_params
from PIL import Image
from pipeline import TARGET, git
from planted import free_images, write_images

from leakgauge.report.page import exposed_members, shrunk
from stages import config, images, score_suspects, suspects
from stages.report import made, report

PAGE = Path("metrics/report.html")


def test_the_verdict_comes_before_any_table(audit):
    page = PAGE.read_text()
    summary = json.loads(Path("metrics/summary.json").read_text())[TARGET]
    assert 0 < page.index(summary["sentence"]) < page.index("<table")
    assert page.index('class="badge"') < page.index(">Evidence<") < page.index(">Appendix<")
    assert re.search(r"Audit of \d+ \w+ 20\d\d\. leakgauge \d", page)


def test_the_summary_is_the_headline_judge_of_the_details(audit):
    summary = json.loads(Path("metrics/summary.json").read_text())[TARGET]
    details = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())
    judged = details["judges"][summary["judge"]]
    assert summary["tpr"] == judged["tpr_at_fpr_1e-2"]
    assert summary["auc"] == judged["auc"]
    assert summary["baseline_tpr"] == details["judges"]["marginal"]["tpr_at_fpr_1e-2"]
    assert summary["images"]["member"] == judged["members"]
    assert len(summary["exposed"]) == 5


def test_the_same_day_and_files_give_the_same_bytes_and_the_date_can_be_set(audit, monkeypatch):
    before = PAGE.read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    report()
    first = PAGE.read_bytes()
    assert b"Audit of 1 January 1970" in first
    report()
    assert PAGE.read_bytes() == first
    assert re.sub(rb"Audit of [^.]+", b"", before) == re.sub(rb"Audit of [^.]+", b"", first)


def test_the_page_bears_the_commit_of_code_and_parameters_and_committing_results_changes_it_not(audit):
    git(audit, "init", "--quiet")
    git(audit, "add", "params.yaml")
    git(audit, "commit", "--quiet", "--message", "parameters")
    before = made()
    assert before.commit
    assert git(audit, "rev-parse", "HEAD").startswith(before.commit)
    assert before.changed == []
    git(audit, "add", "metrics")
    git(audit, "commit", "--quiet", "--message", "results")
    assert made() == before
    Path("params.yaml").write_text("")
    assert made().changed == ["params.yaml"]


def test_the_page_is_small_and_asks_for_nothing(audit):
    page = PAGE.read_text()
    assert len(page) < 2_000_000
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "url(" not in re.sub(r"url\(#[^)]+\)", "", page)


def test_every_id_is_there_once_and_every_link_within_the_page_has_its_end(audit):
    page = PAGE.read_text()
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_exposed_members_come_by_p_value_each_with_another_holdout_image_of_like_score():
    rows = [("a", "member", 0.9, 5.0, 0.01), ("b", "member", 2.1, 4.0, 0.02), ("c", "member", 2.0, 3.0, 0.5)]
    rows += [("x", "holdout", 1.0, 1.0, 0.6), ("y", "holdout", 2.0, 1.0, 0.7), ("z", "holdout", 3.0, 1.0, 0.8)]
    verdicts = pd.DataFrame(rows, columns=["image_id", "role", "score", "membership_score", "p_value"])
    found = exposed_members(verdicts, 3)
    assert found["image_id"].to_list() == ["a", "b", "c"]
    assert found["holdout_id"].isna().to_list() == [True, False, False], "no holdout image scores as low as a"
    assert found["holdout_id"].to_list()[1:] == ["y", "z"], "y is the nearest to both, and taken"


def test_pictures_are_shrunk_never_enlarged():
    def png(side: int) -> bytes:
        stream = BytesIO()
        Image.new("RGB", (side, side)).save(stream, "PNG")
        return stream.getvalue()

    small = png(8)
    assert shrunk(small, 96) == small
    with Image.open(BytesIO(shrunk(png(512), 96))) as picture:
        assert picture.size == (96, 96)


@pytest.fixture
def with_suspects(audit):
    """A page with a set of suspects on it."""
    write_images("asked", {f"{number}": pixels for number, pixels in enumerate(free_images(6))})
    params = tiny_params()
    params["datasets"]["asked_images"] = {"source": "folder", "path": "asked"}
    params["suspects"] = {"asked": {"target": TARGET, "images": "asked_images"}}
    write_params(params)
    images.prepare_images("asked_images")
    config.config(TARGET)
    score_suspects.score_suspects("asked")
    suspects.suspects("asked")
    report()
    return PAGE.absolute()


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1400, LIGHT), (1400, DARK), (390, LIGHT)])
def test_axe_objects_to_nothing_and_nothing_sticks_out(with_suspects, width, scheme, tmp_path):
    seen = look(with_suspects, width, scheme, tmp_path)
    assert seen["width"] == width
    assert seen["found"] == []
    assert seen["wide"] == []


@needs_chromium
def test_axe_would_object_to_a_picture_without_a_name_and_to_pale_text(audit, tmp_path):
    spoilt = tmp_path / "spoilt.html"
    text = '<p style="color: #ccc; background: #fff">pale</p><img src="data:,"></main>'
    spoilt.write_text(PAGE.read_text().replace("</main>", text))
    assert {"image-alt", "color-contrast"} <= {one["rule"] for one in look(spoilt, 1400, LIGHT, tmp_path)["found"]}


@needs_chromium
def test_without_the_appendix_it_prints_on_six_sheets_at_most(audit, tmp_path):
    page = PAGE.read_text()
    short = tmp_path / "short.html"
    short.write_text(page[: page.index('<section class="appendix"')] + "</main></body></html>")
    assert printed(short, tmp_path / "short.pdf") <= 6
    assert printed(PAGE.absolute(), tmp_path / "whole.pdf") > printed(short, tmp_path / "short.pdf")
