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
    path = checkout / f"metrics/details/{TARGET}.json"
    metrics = json.loads(path.read_text())
    before = metrics["judges"]["gbm"]["auc"]
    metrics["judges"]["gbm"] |= {"auc": before - 0.125, "auc_ci_low": 0.25, "raw_realised_fpr_at_alpha_1e-2": 0.5}
    path.write_text(json.dumps(metrics))
    run(checkout, "dvc", "commit", "--force", f"evaluate@{TARGET}")  # as if it had come out so
    commit(checkout, "worse")

    page = tmp_path / "summary.md"
    done = gate(checkout, GITHUB_STEP_SUMMARY=str(page))
    assert done.returncode == 0, done.stderr
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


def judged(target: str, judges: dict, **null_check: dict) -> dict[str, object]:
    """The metrics of a target, judged by the last of its judges."""
    details = {"judges": judges, "null_check": null_check}
    return {target: {"judge": list(judges)[-1], "failed": 0}, f"details/{target}": details}


def asked(name: str, **figures: object) -> dict[str, object]:
    """The metrics of a set of suspects."""
    return {f"details/suspects/{name}": {"suspects": 13, "checks": {}, **figures}}


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
    quiet = {"fails": 0, "blind_member": {"auc": 0.5, "fails": False}}
    return made_up(tmp_path, judged("mine", before) | {"checks/mine": quiet}, fit={"seed": 0})


def test_what_matters_comes_first_and_chance_is_one_line(base, tmp_path):
    now = {"mlp": figures(0.91, 0.5), "mlp_fusion": figures(0.96, 0.7)}
    fails = {"fails": 1, "blind_member": {"auc": 0.8, "fails": True}}
    answer = {"distinct": 12, "named": 12, "p_value": 1.234e-7, "checks": {"blind_suspect": {"fails": True}}}
    metrics = judged("mine", now, member={"auc": 0.9, "fails": True}) | {"checks/mine": fails}
    made_up(tmp_path, metrics | asked("theirs", **answer), fit={"seed": 1}, suspects={"theirs": {"target": "mine"}})
    assert pull_request.summary(base).splitlines() == [
        f"### Audit since {base}",
        "",
        "**mine**, judged by `mlp_fusion`",
        "",
        "| | before | now |",
        "|---|---|---|",
        "| AUC | 0.9500 (0.9300 to 0.9700) | **0.9600 (0.9400 to 0.9800)** |",
        "| TPR at 1 % FPR | 0.6000 (0.5800 to 0.6200) | **0.7000 (0.6800 to 0.7200)** |",
        "| FPR realised at alpha 0.1 | 0.1000 (0.0800 to 0.1200) | 0.1000 (0.0800 to 0.1200) |",
        "| checks that fail | none | **blind_member, null_check_member** |",
        "| suspects `theirs` | none | **12 of 12 named, p = 1.2e-07 for all; fails: blind_suspect** |",
        "",
        "**Parameters changed**: 2",
        "",
        "- `fit.seed`: 0 -> 1",
        '- `suspects.theirs.target`: null -> "mine"',
        "",
        "3 of 8 rates differ, all but 1 within their intervals.",
        "",
        "| | before | now |",
        "|---|---|---|",
        "| mine mlp_fusion.tpr_at_fpr_1e-2 | 0.6000 (0.5800 to 0.6200) | 0.7000 (0.6800 to 0.7200) |",
    ]


def test_a_score_that_is_the_wrong_way_round_is_among_the_checks_that_fail(base, tmp_path):
    turned = figures(0.07, 0.0) | {"wrong_way_round": True}
    made_up(tmp_path, judged("mine", {"mlp": turned, "mlp_fusion": figures(0.95, 0.6)}))
    assert "| checks that fail | none | **mlp.wrong_way_round** |" in pull_request.summary(base)


def test_where_nothing_differs_the_summary_says_so(base):
    lines = pull_request.summary(base).splitlines()
    assert lines[-1] == "None of 8 rates differs."
    assert "**Parameters changed**: none" in lines
    assert not [line for line in lines if line.startswith("|") and "**" in line]


def test_suspects_that_are_lost_and_a_target_that_is_new_are_in_the_summary(base, tmp_path):
    answer = asked("theirs", distinct=2, named=1, p_value=0.02)
    before = made_up(tmp_path, answer, suspects={"theirs": {"target": "mine"}})
    made_up(tmp_path, judged("other", {"mlp": figures(0.6, 0.1)}), suspects={})
    page = pull_request.summary(before)
    assert "| suspects `theirs` | 1 of 2 named, p = 0.02 for all | **none** |" in page
    assert "**other**, judged by `mlp`" in page
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
