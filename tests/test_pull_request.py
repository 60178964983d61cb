"""The gate of a pull request, in a clone as CI has it: git and nothing else."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY, quick_params, write_params
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
    """The command of TEAMS.md."""
    command = "python .ci/pull_request.py origin/main"
    assert command in (REPOSITORY / "TEAMS.md").read_text().splitlines()
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
    assert "None changed." in done.stdout
    assert git(checkout, "status", "--porcelain") == ""


@pytest.mark.slow
def test_parameters_that_nobody_ran_are_refused_by_the_stage(checkout):
    params = quick_params()
    params["infer"]["false_discovery_rate"] = 0.2
    write_params(params, checkout)
    assert complaint(checkout).endswith(f"Stale: infer@{TARGET}, report"), "report reads every parameter"


@pytest.mark.slow
def test_code_that_nobody_ran_is_refused_by_the_stage(checkout):
    with (checkout / "stages/presentation/gallery.py").open("a") as stream:
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
def test_the_summary_shows_the_figures_that_changed_and_no_intervals(finished_clone, checkout, tmp_path):
    run(checkout, "dvc", "remote", "add", "--local", "--default", "cache", str(finished_clone / ".dvc/cache"))
    run(checkout, "dvc", "pull")
    path = checkout / f"metrics/{TARGET}.json"
    metrics = json.loads(path.read_text())
    before = metrics["gbm"]["auc"]
    metrics["gbm"] |= {"auc": before - 0.125, "auc_ci_low": 0.25, "raw_realised_fpr_at_alpha_1e-2": 0.5}
    path.write_text(json.dumps(metrics))
    run(checkout, "dvc", "commit", "--force", f"evaluate@{TARGET}")  # as if it had come out so
    commit(checkout, "worse")

    page = tmp_path / "summary.md"
    done = gate(checkout, GITHUB_STEP_SUMMARY=str(page))
    assert done.returncode == 0, done.stderr
    table = [line for line in page.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:]]
    assert rows == [[f"metrics/{TARGET}.json", "gbm.auc", f"{before:.5f}", f"{before - 0.125:.5f}", "-0.125"]]
    assert (checkout / "dvc_plots/index.html").exists()


def test_the_workflow_runs_the_gate_of_this_page_with_no_rights_but_to_read():
    steps = WORKFLOW["jobs"]["audit"]["steps"]
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert 'python .ci/pull_request.py "origin/$BASE"' in [step.get("run") for step in steps]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    assert steps[0]["with"]["fetch-depth"] == 0, "the merge base is in history"
    assert "dvc_plots" in [step.get("with", {}).get("path") for step in steps]
