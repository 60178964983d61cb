"""The gate of a pull request, in a clone as CI has it: git and nothing else."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, ask_about, dump_params, quick_params
from PIL import Image
from pipeline import TARGET, commit, environment, git, run
from ruamel.yaml import YAML

from leakgauge.report.verdict import TITLES, set_verdict, verdict_of

WORKFLOW = YAML(typ="safe").load((REPOSITORY / ".github/workflows/audit.yml").read_text())


@pytest.fixture
def checkout(finished_clone: Path, tmp_path: Path) -> Path:
    """A fresh clone without data, cache or remote."""
    git(tmp_path, "clone", "--quiet", str(finished_clone), "checkout")
    folder = tmp_path / "checkout"
    assert not (folder / ".dvc/cache").exists()
    assert not (folder / "data/images").exists()
    return folder


def gate(folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """The command of docs/guides/teams.md."""
    command = "python .ci/pull_request.py origin/main"
    assert command in (REPOSITORY / "docs/guides/teams.md").read_text().splitlines()
    variables = environment() | {"GITHUB_STEP_SUMMARY": ""} | variables
    return subprocess.run(command.split(), cwd=folder, env=variables, capture_output=True, text=True)


def complaint(folder: Path) -> str:
    """The one line that a refusal says."""
    done = gate(folder)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.slow
def test_a_commit_of_its_own_results_passes(checkout):
    done = gate(checkout)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^None of \d+ rates differs\.$", done.stdout, flags=re.MULTILINE)
    assert "**Parameters changed**: none" in done.stdout
    assert git(checkout, "status", "--porcelain") == ""


@pytest.mark.slow
def test_parameters_that_nobody_ran_are_refused_by_the_stage(checkout):
    params = quick_params()
    params["evaluate"]["false_discovery_rate"] = 0.2
    dump_params(params, checkout)
    assert complaint(checkout).endswith(f"Stale: config@{TARGET}, report"), "report reads every parameter"


@pytest.mark.slow
def test_code_that_nobody_ran_is_refused_by_the_stage(checkout):
    with (checkout / "leakgauge/report/page.py").open("a") as stream:
        stream.write("# another\n")
    assert complaint(checkout).endswith("Stale: report")


@pytest.mark.slow
def test_a_metric_written_by_hand_or_left_out_is_refused(checkout):
    path = checkout / f"metrics/{TARGET}.json"
    path.write_text(re.sub(r'"auc": [0-9.]+', '"auc": 0.5', path.read_text()))
    assert complaint(checkout).endswith(f"Stale: evaluate@{TARGET}")
    path.unlink()
    assert complaint(checkout).endswith(f"Stale: evaluate@{TARGET}")


@pytest.mark.slow
def test_an_input_that_neither_git_nor_dvc_keeps_is_named_with_it_and_without(checkout):
    dump_params(ask_about("asked", {"source": "folder", "path": "found"}, quick_params()), checkout)
    said = "neither Git nor DVC keeps found: `dvc add` it and commit its .dvc file"
    assert complaint(checkout) == said
    (checkout / "found").mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(checkout / "found/a.png")
    assert complaint(checkout) == said
    run(checkout, "dvc", "add", "found")
    assert complaint(checkout).startswith("dvc.lock is out of date")


def test_without_git_the_gate_says_one_line(tmp_path):
    for name in (".ci", ".dvc"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("cache", "tmp"))
    assert complaint(tmp_path) == f"{tmp_path} is not a git repository"


def test_without_git_dvc_repro_says_one_line(tmp_path):
    shutil.copytree(REPOSITORY / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    done = subprocess.run(["dvc", "repro"], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout + done.stderr == f"ERROR: {tmp_path} is not a git repository\n"
    assert (
        "in a source archive without `.git`, run `git init` first"
        in (REPOSITORY / "docs/guides/recover.md").read_text()
    )


@pytest.mark.slow
def test_the_summary_shows_the_figures_that_changed(finished_clone, checkout, tmp_path):
    run(checkout, "dvc", "remote", "add", "--local", "--default", "cache", str(finished_clone / ".dvc/cache"))
    run(checkout, "dvc", "pull")
    details = checkout / f"metrics/details/{TARGET}.json"
    metrics, verdicts = json.loads(details.read_text()), json.loads((checkout / SUMMARY).read_text())
    before = verdicts[TARGET]["auc"]
    verdicts[TARGET]["ceilings"] = [exceeded_one()]
    metrics["judges"]["gbm"] |= {"auc": before - 0.125, "raw_realised_fpr_at_alpha_1e-2": 0.5}
    verdicts[TARGET] |= {"auc": before - 0.125, "auc_ci_low": before - 0.126, "auc_ci_high": before - 0.124}
    for path, values in ((details, metrics), (checkout / SUMMARY, verdicts)):
        path.write_text(json.dumps(values))
    run(checkout, "dvc", "commit", "--force", f"evaluate@{TARGET}", "report")  # as if it had come out so
    commit(checkout, "worse")

    page = tmp_path / "summary.md"
    done = gate(checkout, GITHUB_STEP_SUMMARY=str(page))
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-1] == f"{TARGET}: fails: too much"
    assert re.search(rf"^\| AUC \| {before:.4f} .* \| \*\*{before - 0.125:.4f} ", page.read_text(), flags=re.MULTILINE)
    assert (checkout / "dvc_plots/index.html").exists()


def test_the_workflow_runs_the_gate_of_this_page_with_no_rights_but_to_read():
    steps = WORKFLOW["jobs"]["audit"]["steps"]
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert 'python .ci/pull_request.py "origin/$BASE"' in [step.get("run") for step in steps]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    assert steps[0]["with"]["fetch-depth"] == 0, "the merge base is in history"
    assert "dvc_plots" in [step.get("with", {}).get("path") for step in steps]


GATE = importlib.util.spec_from_file_location("pull_request", REPOSITORY / ".ci/pull_request.py")
assert GATE
assert GATE.loader
pull_request = importlib.util.module_from_spec(GATE)
GATE.loader.exec_module(pull_request)


SUMMARY = "metrics/summary.json"


def rate(name: str, value: float, low: float | None, high: float | None) -> dict[str, float | None]:
    return {name: value, f"{name}_ci_low": low, f"{name}_ci_high": high}


def figures(auc: float, tpr: float) -> dict[str, float | None]:
    """Of a judge; intervals are 0.02 to either side."""
    return {
        **rate("auc", auc, auc - 0.02, auc + 0.02),
        **rate("tpr_at_fpr_1e-2", tpr, tpr - 0.02, tpr + 0.02),
        **rate("realised_fpr_at_alpha_1e-1", 0.1, 0.08, 0.12),
        **rate("raw_realised_fpr_at_alpha_1e-1", 0.11, 0.08, 0.12),
        "members": 300,
    }


def judged(target: str, judges: dict, *failing: str, **suspects: dict) -> dict[str, object]:
    """The metrics of a target, judged by the last of its judges; `summary` is of this target alone."""
    name, of = list(judges.items())[-1]
    headline = {"judge": name, "fpr": 0.01, "baseline": "marginal", "realised_fpr": 0.01}
    headline |= {"realised_fpr_expected_low": 0.0, "realised_fpr_expected_high": 0.02}
    headline |= {
        key.replace("tpr_at_fpr_1e-2", "tpr"): value for key, value in of.items() if key.startswith(("auc", "tpr"))
    }
    headline |= {
        f"{key}{end}": 0.1 for key in ("baseline_tpr", "gain", "auc_gain") for end in ("", "_ci_low", "_ci_high")
    }
    verdict = verdict_of(headline, {"member": 300, "auxiliary": 600, "holdout": 1000}, failing, 9, [], 0.95)
    verdict["suspects"] = suspects
    return {f"details/{target}": {"judges": judges}, "summary": {target: verdict}}


def asked(p_value: float, *failing: str) -> dict[str, object]:
    """The answer on a set of twelve suspects."""
    fraction = {"fraction": 0.8, "fraction_ci_low": 0.6, "fraction_ci_high": 0.9}
    return set_verdict({"suspects": 12, "distinct": 12, "named": 7, "p_value": p_value, **fraction}, failing, 0.95, 0.1)


def made_up(folder: Path, metrics: dict[str, object], **params: object) -> str:
    """Commit metrics and parameters that nobody computed; the commit."""
    for name, values in metrics.items():
        path = folder / f"metrics/{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    dump_params(params, folder)
    commit(folder, "made up")
    return git(folder, "rev-parse", "--short", "HEAD").strip()


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "--quiet")
    before = {"mlp": figures(0.9, 0.5), "mlp_fusion": figures(0.95, 0.6)}
    return made_up(tmp_path, judged("mine", before), fit={"seed": 0})


def test_the_verdict_comes_first_and_what_moved_beyond_its_interval_is_bold(base, tmp_path):
    now = {"mlp": figures(0.91, 0.5), "mlp_fusion": figures(0.96, 0.7)}
    made_up(tmp_path, judged("mine", now, theirs=asked(1e-7)), fit={"seed": 1})
    assert pull_request.summary(base).splitlines() == [
        f"### Audit since {base}",
        "",
        "**mine**",
        "",
        "| | before | now |",
        "|---|---|---|",
        f"| verdict | {TITLES['leaks']} | {TITLES['leaks']} |",
        "|  | At 1 % false alarms an attacker identifies 60 % (95 % interval: 58 to 62) of the training images. "
        "| At 1 % false alarms an attacker identifies 70 % (95 % interval: 68 to 72) of the training images. |",
        "| TPR | 0.6000 (0.5800 to 0.6200) | **0.7000 (0.6800 to 0.7200)** |",
        "| TPR by one threshold for all | 0.1000 (0.1000 to 0.1000) | 0.1000 (0.1000 to 0.1000) |",
        "| AUC | 0.9500 (0.9300 to 0.9700) | 0.9600 (0.9400 to 0.9800) |",
        "| FPR realised | 0.0100 | 0.0100 |",
        "| judge | mlp_fusion | mlp_fusion |",
        "| checks that fail | none | none |",
        f"| suspects `theirs` | none | **{asked(1e-7)['sentence']}** |",
        "",
        "**Parameters changed**: 1",
        "",
        "- `fit.seed`: 0 -> 1",
        "",
        "3 of 8 rates differ, all but 1 within their intervals.",
        "",
        "| | before | now |",
        "|---|---|---|",
        "| mine mlp_fusion.tpr_at_fpr_1e-2 | 0.6000 (0.5800 to 0.6200) | 0.7000 (0.6800 to 0.7200) |",
    ]


def test_a_check_that_fails_now_is_bold_and_so_is_the_verdict_that_it_takes_away(base, tmp_path):
    before = {"mlp": figures(0.9, 0.5), "mlp_fusion": figures(0.95, 0.6)}
    made_up(tmp_path, judged("mine", before, "wrong_way_round"))
    page = pull_request.summary(base)
    assert "| checks that fail | none | **wrong_way_round** |" in page
    assert f"| verdict | {TITLES['leaks']} | **{TITLES['no_verdict']}** |" in page


def exceeded_one() -> dict[str, str]:
    return {"ceiling": "auc=0.6", "state": "fails", "sentence": "too much"}


def test_a_ceiling_is_in_the_summary_and_one_that_is_not_kept_is_told(base, tmp_path):
    now = judged("mine", {"mlp": figures(0.9, 0.5), "mlp_fusion": figures(0.95, 0.6)})
    kept = {"ceiling": "auc=1", "state": "passes", "sentence": "enough"}
    now["summary"]["mine"]["ceilings"] = [kept, exceeded_one()]
    made_up(tmp_path, now)
    assert "| ceilings | none | **passes: enough; fails: too much** |" in pull_request.summary(base)
    assert pull_request.exceeded(pull_request.Audit("")) == ["mine: fails: too much"]
    assert pull_request.exceeded(pull_request.Audit(base)) == []


def test_where_nothing_differs_the_summary_says_so(base):
    lines = pull_request.summary(base).splitlines()
    assert lines[-1] == "None of 8 rates differs."
    assert "**Parameters changed**: none" in lines
    assert not [line for line in lines if line.startswith("|") and "**" in line]


def test_suspects_that_are_lost_and_a_target_that_is_new_are_in_the_summary(base, tmp_path):
    mine = {"mlp": figures(0.9, 0.5)}
    before = made_up(tmp_path, judged("mine", mine, theirs=asked(0.02)))
    other, left = judged("other", {"mlp": figures(0.6, 0.1)}), judged("mine", mine)
    made_up(tmp_path, {**other, "summary": {**left["summary"], **other["summary"]}})
    page = pull_request.summary(before)
    assert f"| suspects `theirs` | {asked(0.02)['sentence']} | **none** |" in page
    assert "**other**" in page
    assert "| AUC | none | **0.6000 (0.5800 to 0.6200)** |" in page


@pytest.mark.parametrize(
    ("low", "high", "value", "within"),
    [
        (0.4, 0.6, 0.5, True),
        (0.4, 0.6, 0.39, False),
        (0.4, None, 0.9, True),
        (None, None, 0.5, True),
        (0.4, 1, None, False),
    ],
)
def test_a_missing_bound_bounds_nothing(low, high, value, within):
    assert pull_request.inside(value, {"tpr_ci_low": low, "tpr_ci_high": high}, "tpr") is within
