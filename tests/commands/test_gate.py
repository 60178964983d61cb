"""Ceilings: which end of an interval is held to them, and what else fails."""

import argparse
import json
from pathlib import Path

import pytest

from leakgauge.commands.gate import FAILED, ceiling, exceeded, status
from leakgauge.errors import InputError

VERDICT = {"judge": "gbm", "failed": 0, "failing": [], "images": {"member": 200, "holdout": 1000}}
FIGURES = {"auc": 0.6, "auc_ci_low": 0.55, "auc_ci_high": 0.65, "holdout": 1000}
FIGURES |= {"tpr_at_fpr_1e-2": 0.04, "tpr_at_fpr_1e-2_ci_low": 0.02, "tpr_at_fpr_1e-2_ci_high": 0.07}
FIGURES |= {f"tpr_at_fpr_1e-3{end}": None for end in ("", "_ci_low", "_ci_high")}
DETAILS = {"judges": {"gbm": FIGURES}}


def lines(*texts: str, **others) -> list[str]:
    return exceeded("mine", VERDICT | others, DETAILS, [ceiling(text) for text in texts])


@pytest.mark.parametrize(
    ("text", "fpr", "most"),
    [("tpr@1%=5%", 0.01, 0.05), ("tpr@0.1% = 0.02", 0.001, 0.02), ("auc=0.6", None, 0.6), ("auc=60%", None, 0.6)],
)
def test_a_ceiling_is_a_figure_and_a_rate(text, fpr, most):
    found = ceiling(text)
    assert (found.fpr, found.most) == (pytest.approx(fpr) if fpr else None, pytest.approx(most))


@pytest.mark.parametrize(
    "text", ["tpr=5%", "tpr@1%", "fpr@1%=5%", "auc=1.2", "tpr@100%=5%", "tpr@1%=5%x", "tpr@1.1.1%=5%"]
)
def test_what_is_no_ceiling_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        ceiling(text)


def test_the_upper_end_of_the_interval_is_held_to_the_ceiling():
    assert lines("tpr@1%=7%") == []
    (line,) = lines("tpr@1%=6.9%")
    assert line == "mine: fails: tpr@1%=6.9%: 4.0% by gbm, and the upper end of its interval is 7.0%"
    assert lines("auc=0.65") == []
    assert len(lines("auc=0.64", "tpr@1%=5%")) == 2


def test_a_rate_that_the_holdout_cannot_resolve_fails():
    (line,) = lines("tpr@0.1%=50%")
    assert "1000 holdout images cannot resolve" in line


def test_a_rate_that_was_not_asked_for_is_an_error_that_names_those_that_were():
    with pytest.raises(InputError, match=r"evaluate.alphas of mine has no such rate \(it has 1e-2, 1e-3\)"):
        lines("tpr@5%=50%")


def test_a_failing_check_and_unknown_members_fail_whatever_the_figures():
    (line,) = lines("tpr@1%=100%", failed=1, failing=["blind_member"])
    assert "blind_member" in line
    (line,) = lines("tpr@1%=100%", images={"member": 0, "holdout": 1000})
    assert "no member is known" in line


def test_the_exit_status_is_three_where_any_target_exceeds_any_ceiling(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("metrics/details").mkdir(parents=True)
    Path("metrics/summary.json").write_text(json.dumps({"mine": VERDICT}))
    Path("metrics/details/mine.json").write_text(json.dumps(DETAILS))
    assert status(["mine"], []) == 0
    assert status(["mine"], [ceiling("auc=0.7")]) == 0
    assert status(["mine"], [ceiling("auc=0.7"), ceiling("tpr@1%=5%")]) == FAILED == 3
    assert capsys.readouterr().err.count("\n") == 1
