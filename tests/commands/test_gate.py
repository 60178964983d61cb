"""Ceilings: which end of an interval is held to them, and what else fails."""

import argparse
import json
from pathlib import Path

import pytest
from conftest import REPOSITORY

from leakgauge.commands.gate import FAILED, Held, ceiling, check_levels, held, status
from leakgauge.errors import InputError

VERDICT = {"judge": "gbm", "failed": 0, "failing": [], "images": {"member": 200, "holdout": 1000}}
FIGURES = {"auc": 0.6, "auc_ci_low": 0.55, "auc_ci_high": 0.65, "holdout": 1000}
FIGURES |= {"tpr_at_fpr_1e-2": 0.04, "tpr_at_fpr_1e-2_ci_low": 0.02, "tpr_at_fpr_1e-2_ci_high": 0.07}
FIGURES |= {f"tpr_at_fpr_1e-3{end}": None for end in ("", "_ci_low", "_ci_high")}
DETAILS = {"judges": {"gbm": FIGURES}}


def lines(*texts: str, **others) -> list[str]:
    """What is said of the ceilings that are not kept."""
    return [one.line for one in said(*texts, **others) if one.fails]


def said(*texts: str, **others) -> list[Held]:
    return held("mine", VERDICT | others, DETAILS, [ceiling(text) for text in texts])


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
    assert line == "mine: fails: tpr@1%=6.9%: 4 % (2 to 7 %) by gbm; the upper end exceeds the ceiling"
    assert lines("auc=0.65") == []
    assert len(lines("auc=0.64", "tpr@1%=5%")) == 2


def test_a_rate_that_the_holdout_cannot_resolve_fails():
    (line,) = lines("tpr@0.1%=50%")
    assert "1000 holdout images cannot resolve" in line


def test_a_ceiling_that_is_kept_is_said_too_with_figure_and_interval():
    (one,) = said("auc=0.65")
    assert (one.fails, one.line) == (False, "mine: passes: auc=0.65: 0.600 (0.550 to 0.650) by gbm")


def test_an_interval_without_an_upper_end_fails_and_says_how_many_holdout_images_it_takes():
    few = {"judges": {"gbm": FIGURES | {"holdout": 300, "tpr_at_fpr_1e-2_ci_high": 1.0}}}
    (one,) = held("mine", VERDICT, few, [ceiling("tpr@1%=50%")])
    assert one.fails
    assert "300 holdout images give no upper end, 500 do" in one.line


def test_a_rate_that_was_not_asked_for_is_an_error_before_anything_is_computed(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    check_levels(["digits_ddpm"], [ceiling("tpr@1%=5%"), ceiling("auc=0.6")])
    with pytest.raises(InputError, match=r"params.yaml: evaluate.alphas has no rate of 0.3 % \(it has 10 %, 5 %, 1 %"):
        check_levels(["digits_ddpm"], [ceiling("tpr@0.3%=5%")])


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
    told = capsys.readouterr()
    assert (told.out.count("passes"), told.err.count("\n")) == (2, 1)
