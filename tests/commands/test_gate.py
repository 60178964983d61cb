"""Ceilings: which end of an interval is held to them, what else fails, and the command that tells."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, dump_params, tiny_params
from pipeline import TARGET, environment

from leakgauge.commands.audit import prepare
from leakgauge.commands.card import card, evidence
from leakgauge.commands.gate import FAILED, ceiling, check_levels
from leakgauge.errors import InputError
from leakgauge.report.ceilings import held
from stages.report import report

VERDICT = {"judge": "gbm", "failed": 0, "failing": [], "images": {"member": 200, "holdout": 1000}}
FIGURES = {"auc": 0.6, "auc_ci_low": 0.55, "auc_ci_high": 0.65, "holdout": 1000}
FIGURES |= {"tpr_at_fpr_1e-2": 0.04, "tpr_at_fpr_1e-2_ci_low": 0.02, "tpr_at_fpr_1e-2_ci_high": 0.07}
FIGURES |= {f"tpr_at_fpr_1e-3{end}": None for end in ("", "_ci_low", "_ci_high")}
JUDGES = {"gbm": FIGURES}


def said(*texts: str, judges=None, **others) -> list[tuple[str, str]]:
    """State and sentence of each ceiling."""
    found = held(VERDICT | others, judges or JUDGES, [ceiling(text) for text in texts])
    return [(one.state, one.sentence) for one in found]


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
    assert said("tpr@1%=7%") == [("passes", "TPR at 1 % FPR 4 % (2 to 7 %) is within the ceiling of 7 %")]
    shown = "TPR at 1 % FPR 4 % (2 to 7 %) is not shown to be below the ceiling of 6.9 %"
    assert said("tpr@1%=6.9%") == [("fails", shown)]
    assert said("tpr@1%=1.9%") == [("fails", "TPR at 1 % FPR 4 % (2 to 7 %) exceeds the ceiling of 1.9 %")]
    assert said("auc=0.65") == [("passes", "AUC 0.600 (0.550 to 0.650) is within the ceiling of 0.65")]
    assert [state for state, _ in said("auc=0.64", "tpr@1%=5%")] == ["fails", "fails"]


def test_a_rate_that_the_holdout_cannot_resolve_cannot_be_told():
    resolved = "1000 holdout images cannot resolve TPR at 0.1 % FPR; the ceiling is 50 %"
    assert said("tpr@0.1%=50%") == [("cannot_be_told", resolved)]


def test_without_an_upper_end_it_is_said_how_many_holdout_images_it_takes_and_a_lower_end_above_the_ceiling_fails():
    few = {"gbm": FIGURES | {"holdout": 300, "tpr_at_fpr_1e-2_ci_high": 1.0}}
    ((state, sentence),) = said("tpr@1%=50%", judges=few)
    assert state == "cannot_be_told"
    assert sentence.endswith("(at least 2 %): 300 holdout images give no upper end to hold to 50 %, 500 do")
    assert said("tpr@1%=1%", judges=few)[0][0] == "fails"
    assert said("tpr@1%=100%", judges=few)[0][0] == "passes"


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"failed": 1, "failing": ["blind_member"]}, "blind_member fails"),
        ({"images": {"member": 0, "holdout": 1000}}, "no member is known"),
    ],
)
def test_a_failing_check_and_unknown_members_cannot_be_told_whatever_the_figures(others, why):
    ((state, sentence),) = said("tpr@1%=100%", **others)
    assert (state, sentence) == ("cannot_be_told", f"{why}, so no figure is held to TPR at 1 % FPR 100 %")


def test_a_rate_that_was_not_asked_for_is_an_error_before_anything_is_computed(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    check_levels(["digits_ddpm"], [ceiling("tpr@1%=5%"), ceiling("auc=0.6")])
    with pytest.raises(InputError, match=r"^--fail-above: tpr@0.3%=5%: evaluate.alphas has no rate of 0.3 % \(it"):
        check_levels(["digits_ddpm"], [ceiling("tpr@0.3%=5%")])


def test_an_entry_s_ceiling_does_not_keep_the_same_audit_from_going_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = {"targets": {"mine": {"images": "mine", "model": "my_pipeline"}}, "datasets": {}}
    dump_params({"targets": {"mine": wanted["targets"]["mine"] | {"fail_above": "auc=0.6"}}}, tmp_path)
    prepare(wanted, keep=False)
    wanted["targets"]["mine"]["members"] = 3
    with pytest.raises(InputError, match=r"targets.mine: is there already, and differs"):
        prepare(wanted, keep=False)


@pytest.fixture
def project(audit) -> Path:
    """The finished audit, with what makes a folder a project."""
    shutil.copy(REPOSITORY / "dvc.yaml", audit)
    Path(".dvc").mkdir()
    for name in ("leakgauge", "stages"):
        Path(name).symlink_to(REPOSITORY / name)
    return audit


def told(project: Path, *words: str, **entry: object) -> subprocess.CompletedProcess[str]:
    """What `leakgauge report --no-repro` says, of a report on a target with this in its entry."""
    params = tiny_params()
    params["targets"][TARGET] |= entry
    dump_params(params, project)
    report()
    command = [sys.executable, "-m", "leakgauge", "report", "--no-repro", *words]
    return subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True)


def test_the_command_fails_above_an_entry_s_ceiling_and_the_page_the_card_and_the_summary_say_so(project):
    done = told(project, fail_above=["auc=1", "tpr@10%=0%"])
    summary = json.loads(Path("metrics/summary.json").read_text())[TARGET]
    kept, exceeded = summary["ceilings"]
    assert (kept["ceiling"], kept["state"], exceeded["state"]) == ("auc=1", "passes", "fails")
    assert done.returncode == FAILED == 3, done.stderr
    assert done.stderr.splitlines() == [f"{TARGET}: fails: tpr@10%=0%: {exceeded['sentence']}"]
    words = " ".join(done.stdout.split())
    assert f"ceiling passes: {kept['sentence']} ceiling fails: {exceeded['sentence']} judge" in words
    page = Path("metrics/report.html").read_text()
    top = page[page.index('<p class="badge">') : page.index('<div class="answer">')]
    assert f'<p class="alarm">Ceiling: fails: {exceeded["sentence"]}.</p>' in top
    assert f"| ceiling | fails: {exceeded['sentence']} |" in card(TARGET)
    Path("dvc.lock").write_text("stages: {}\n")
    assert json.loads(evidence([TARGET]))["targets"][TARGET]["verdict"]["ceilings"] == summary["ceilings"]


def test_the_command_passes_below_an_entry_s_ceiling_and_its_own_word_replaces_that(project):
    done = told(project, fail_above="auc=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{TARGET}: passes: auc=1" in done.stdout
    done = told(project, "--fail-above", "auc=0", fail_above="auc=1")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert f"{TARGET}: passes: auc=1" not in done.stdout
