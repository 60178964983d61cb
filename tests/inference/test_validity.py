"""The benchmark of validity: that it runs and writes what it simulates; the committed table holds what is claimed."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.validity import fraction, realised, run, tpr, vote

COMMITTED = json.loads((Path(run.__file__).parent / "results.json").read_text(encoding="utf-8"))


def rows(part: str) -> pd.DataFrame:
    return pd.DataFrame(COMMITTED[part]["rows"])


def test_one_part_is_simulated_and_the_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tpr, "DRAWS", 3)
    monkeypatch.setattr(tpr, "TRUTHS", {"strong": (3, 1.2, None)})
    monkeypatch.setattr(tpr, "SIZES", ((60, 500, 0.01),))
    monkeypatch.setattr(sys, "argv", ["run", "--parts", "tpr", "--out", str(tmp_path)])
    (tmp_path / "results.json").write_text(json.dumps({"realised": COMMITTED["realised"]}))
    run.main()
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["realised"] == COMMITTED["realised"]
    assert [row["true TPR"] for row in results["tpr"]["rows"]] == [71.273]
    assert "| strong | 60 | 500 | 1 |" in (tmp_path / "results.md").read_text()


def test_the_committed_page_is_that_of_the_committed_results():
    page = (Path(run.__file__).parent / "results.md").read_text(encoding="utf-8")
    assert run.as_markdown(COMMITTED) == page


def test_the_committed_intervals_of_a_tpr_cover_and_did_not_before():
    found = rows("tpr")
    assert found["covers"].min() > 93
    assert found["covers, before"].min() < 60


def test_the_committed_intervals_of_an_auc_cover_and_did_not_before():
    found = rows("auc")
    assert found["covers"].min() > 91
    assert (found["covers"] < 93).sum() <= 2
    assert found["covers, before"].min() < 10


def test_the_committed_out_of_bag_rates_are_within_5_percent_of_a_calibration_splits():
    """Over all numbers of auxiliary images, for every learner and bag size, but for two standard errors."""
    found = rows("vote")
    found = found[found["n"] == "all"]
    assert set(found["B"]) == {5, 10, 11, 30}
    assert set(found["learner"]) == {"mlp", "gbm"}
    for level in ("10 %", "5 %", "1 %"):
        for cell in found[level]:
            now, error = map(float, re.fullmatch(r"\S+ -> (\S+) \((\S+)\)", cell).groups())
            assert abs(now - 100) < 5 + 2 * error


def test_the_committed_realised_rates_leave_the_range_no_more_often_than_chance_does():
    assert rows("realised")["outside the range"].max() < 5 + 3 * 0.35


def test_the_committed_intervals_of_the_fraction_are_narrower_and_cover():
    found = rows("fraction")
    assert 93.5 < found["covers"].iloc[-1] < 97
    assert found["covers"].min() > 91
    assert (found["width"] < found["width, before"]).all()


def test_out_of_bag_figures_are_relative_to_those_of_a_calibration_split():
    """Draws whose rates are exact but for what the control knows: the ratio is 100 % and its error none."""
    rng = np.random.default_rng(0)
    control = rng.uniform(0.5, 1.5, 40)
    draws = [
        {"learner": "mlp", "B": 5, "asked": 5.0, "n": 100, "exact": 1.0, "control": share, "realised": share + noise,
         "before": 1.2 * share + noise, "tpr": 1.0, "tpr_before": 2.0}
        for share, noise in zip(control, rng.normal(0, 0.01, 40), strict=True)
    ]  # fmt: skip
    table = vote.as_table(pd.DataFrame(draws))
    before, now = table["5 %"].iloc[-1].split(" (")[0].split(" -> ")
    assert float(now) == pytest.approx(100, abs=1)
    assert float(before) == pytest.approx(120, abs=1)


def test_the_rules_that_were_replaced_are_the_old_ones():
    z = np.array([[-3.0, 1.0, 5.0, 7.0]])
    assert vote.upper_middle(z, np.ones((1, 4), dtype=bool)).tolist() == [-5.0]
    p_values = np.r_[np.full(35, 0.1), np.full(65, 0.9)]
    low, high = fraction.three_rates(p_values, np.repeat([0.1, 0.9], [10, 90]), np.repeat([0.1, 0.9], [60, 40]))
    assert 0 < low < 0.5 < high < 1
    assert realised.CONFIDENCE == 0.95
